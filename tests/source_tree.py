"""The modules of the package and what they import, read from their source with `ast`, without importing them."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "asrsparse"


def package_files(folder: str = ".") -> list[Path]:
    """The Python files of the package, or of one of its folders, or one module of its top level."""
    path = PACKAGE / folder
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert found, f"{path} has no Python file"
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """The dotted name of a file's module: `asrsparse.data.cuts`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(name: str) -> str:
    """The package, or the module of the top level, that a dotted name of asrsparse belongs to: `data`."""
    return name.split(".")[1] if "." in name else ""


def imported_by(path: Path) -> set[str]:
    """The dotted names that a file imports, at its top, in a function or for type checkers only.

    `from a import b` gives `a` and `a.b`, since `b` may be a module.
    """
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import; name the module in full"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reachable_from(folder: str) -> set[Path]:
    """The files of the package that the files of a folder import, directly or through others, and these themselves."""
    by_name = {module_name(path): path for path in package_files()}
    found: set[Path] = set()
    waiting = package_files(folder)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [by_name[name] for name in imported_by(path) if name in by_name]
    return found


def definitions(tree: ast.Module, name: str) -> Iterator[tuple[str, ast.AST]]:
    """The module, its classes, functions and methods with their dotted names; no functions inside functions."""
    yield name, tree
    for node in tree.body:
        yield from _definitions_of(node, name)


def _definitions_of(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield f"{name}.{node.name}", node
    elif isinstance(node, ast.ClassDef):
        yield f"{name}.{node.name}", node
        for inner in node.body:
            yield from _definitions_of(inner, f"{name}.{node.name}")
