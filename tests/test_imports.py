"""The direction of imports: the two subjects stay light, and nothing imports an entry point."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import asrsparse

PACKAGE = Path(asrsparse.__file__).parent
LIGHT = {"torch", "numpy", "asrsparse"}


def imported_by(path: Path) -> set[str]:
    """The modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files(folder: str) -> list[Path]:
    found = sorted((PACKAGE / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(("folder", "allowed"), [("pruning", {"pruning", "rates"}), ("masks", {"masks", "schedules"})])
def test_a_subject_imports_torch_numpy_and_itself(folder, allowed):
    for path in files(folder):
        names = imported_by(path)
        foreign = {n.split(".")[0] for n in names} - LIGHT - set(sys.stdlib_module_names)
        assert foreign == set(), path
        own = {n.split(".")[1] for n in names if n.startswith("asrsparse.")}
        assert own <= allowed, path


@pytest.mark.parametrize("module", ["asrsparse.pruning", "asrsparse.data.sampler", "asrsparse.masks"])
def test_a_subject_loads_without_the_libraries_of_the_recipes(module):
    heavy = ("lhotse", "espnet2", "espnet", "lightning", "hydra", "pyarrow")
    code = f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_nothing_imports_an_entry_point():
    importers = [p.name for p in files(".") if {"asrsparse.cli"} & imported_by(p)]
    assert importers == ["__main__.py"]


def test_importing_the_package_does_nothing_else():
    code = "import sys; before = set(sys.modules); import asrsparse; print(sorted(set(sys.modules) - before))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['asrsparse']"
