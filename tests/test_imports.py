"""The direction of imports between the packages: one way, and pruning and masks need few libraries."""

import subprocess
import sys

import pytest
from source_tree import imported_by, module_name, package_files, reachable_from, unit_of

FLOORS = [
    {"files", "schedules", "rates", "old_names", "environment"},
    {"config"},
    {"video"},
    {"corpora"},
    {"pruning", "masks"},
    {"data", "integrations"},
    {"models", "scoring"},
    {"training", "decoding"},
    {"reports"},
    {"export", "sweeps"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""The packages and the modules of the top level, from low to high. Those on one floor do not import each other."""

LIGHT = {"torch", "numpy", "asrsparse"}


def floor_of(unit: str) -> int:
    return next(number for number, units in enumerate(FLOORS) if unit in units)


UNITS = sorted({unit_of(module_name(path)) for path in package_files()} - {""})


def own_imports(unit: str) -> set[tuple[str, str]]:
    """The module of a package that imports, and the other package of asrsparse that it imports from."""
    found = set()
    for path in package_files(unit):
        names = {n for n in imported_by(path) if n.startswith("asrsparse.") and unit_of(n) in UNITS}
        found |= {(module_name(path), unit_of(name)) for name in names if unit_of(name) != unit}
    return found


def test_every_package_has_its_floor():
    declared = set().union(*FLOORS)
    assert sum(len(units) for units in FLOORS) == len(declared)
    assert set(UNITS) <= declared, "declare the new package in FLOORS"


@pytest.mark.parametrize("unit", UNITS)
def test_a_package_imports_only_from_lower_floors(unit):
    upward = [f"{module} imports {other}" for module, other in own_imports(unit) if floor_of(other) >= floor_of(unit)]
    assert sorted(upward) == []


@pytest.mark.parametrize("unit", ["decoding", "export"])
def test_decoding_and_export_do_not_import_training(unit):
    assert [module for module, other in own_imports(unit) if other == "training"] == []


def test_training_draws_no_plots():
    """Lightning or ESPnet may import matplotlib by themselves, so the source is looked at."""
    found = reachable_from("training")
    assert len(found) > 30
    drawing = [module_name(p) for p in found if any(n.split(".")[0] == "matplotlib" for n in imported_by(p))]
    assert drawing == []


@pytest.mark.parametrize(("unit", "allowed"), [("pruning", {"rates"}), ("masks", {"rates", "schedules"})])
def test_pruning_and_masks_need_torch_and_numpy_alone(unit, allowed):
    for path in package_files(unit):
        foreign = {name.split(".")[0] for name in imported_by(path)} - LIGHT - set(sys.stdlib_module_names)
        assert foreign == set(), path
    assert {other for _, other in own_imports(unit)} <= allowed


@pytest.mark.parametrize("module", ["asrsparse.pruning", "asrsparse.data.sampler", "asrsparse.masks"])
def test_a_light_module_loads_without_the_libraries_of_the_recipes(module):
    heavy = ("lhotse", "espnet2", "espnet", "lightning", "hydra", "pyarrow")
    code = f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_nothing_imports_an_entry_point():
    importers = [p.name for p in package_files() if {"asrsparse.cli"} & imported_by(p)]
    assert importers == ["__main__.py"]


def test_importing_the_package_does_nothing_else():
    code = "import sys; before = set(sys.modules); import asrsparse; print(sorted(set(sys.modules) - before))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['asrsparse']"
