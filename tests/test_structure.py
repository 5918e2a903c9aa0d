"""What the source keeps to: short files and functions, tests at the same path, whole sentences, keys that exist."""

import ast
import re
from pathlib import Path

import pytest
from composed_keys import choices, composed_keys, extras_in, texts, unknown_choices, unknown_keys
from source_tree import PACKAGE, REPOSITORY, definitions, module_name, package_files, parsed

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

SHORT = [
    path for folder in ("asrsparse", "benchmarks", "examples", "tests") for path in (REPOSITORY / folder).rglob("*.py")
]
WITH_SHORT_FUNCTIONS = [path for folder in ("asrsparse", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")]


def shown(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


# ---------------------------------------------------------------------------------------------------------------- sizes


def long_functions(tree: ast.Module) -> list[str]:
    """The functions with more lines than allowed, their decorators and docstrings among them."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if node.end_lineno - first + 1 > MAX_FUNCTION_LINES:
                found.append(f"{node.name} ({node.end_lineno - first + 1} lines)")
    return found


def test_no_file_is_long():
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SHORT}
    assert len(lengths) > 200
    assert {path: length for path, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_no_function_is_long():
    found = {shown(path): long_functions(parsed(path)) for path in WITH_SHORT_FUNCTIONS}
    assert {path: functions for path, functions in found.items() if functions} == {}


def test_a_long_function_is_found_with_its_decorators():
    body = "\n".join(["    pass"] * (MAX_FUNCTION_LINES - 1))
    assert long_functions(ast.parse(f"def f():\n{body}")) == []
    assert long_functions(ast.parse(f"@g\ndef f():\n{body}")) == ["f (61 lines)"]


# ---------------------------------------------------------------------------------------------------- tests at one path


def test_the_tests_of_a_module_are_at_its_path():
    """`tests/data/test_cuts.py` tests `asrsparse/data/cuts.py`; only whole commands are tested in tests/integration."""
    tests = REPOSITORY / "tests"
    found = [path for path in tests.rglob("test_*.py") if path.parent not in (tests, tests / "integration")]
    assert len(found) > 80
    tested = [PACKAGE / path.relative_to(tests).with_name(path.name.removeprefix("test_")) for path in found]
    assert [shown(path) for path in sorted(tested) if not path.is_file()] == []


# ------------------------------------------------------------------------------------------------------------ sentences


def is_sentence(line: str) -> bool:
    """Whether a docstring's first line can be a sentence: four words or more, and a mark at its end."""
    return len(re.findall(r"\w+", line)) >= 4 and line.rstrip().endswith((".", ":"))


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


@pytest.mark.parametrize("path", package_files(), ids=shown)
def test_a_public_docstring_begins_with_a_whole_sentence(path):
    fragments = []
    for name, node in definitions(parsed(path), module_name(path)):
        docstring = ast.get_docstring(node)
        if is_public(name) and docstring is not None and not is_sentence(docstring.splitlines()[0]):
            fragments.append(f"{name}: {docstring.splitlines()[0]}")
    assert "\n".join(fragments) == ""


def test_fragments_are_no_sentences():
    assert is_sentence("The share of the weights, in [0, 1].")
    assert not is_sentence("Until now.")
    assert not is_sentence("Returns the share of the weights")


# ----------------------------------------------------------------------------------------- names in messages that exist


@pytest.fixture(scope="module")
def extras() -> set[str]:
    """The extras of the distribution, from pyproject.toml; Python 3.10 has no tomllib."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", table, re.MULTILINE))


WITH_KEYS_OF_TODAY = [path for path in package_files() if path.name != "old_names.py"]  # whose table holds former keys


@pytest.mark.integration
@pytest.mark.parametrize("path", WITH_KEYS_OF_TODAY, ids=shown)
def test_a_message_names_keys_choices_and_extras_that_exist(path, extras):
    """All strings but docstrings are looked at, since many a message is put together before it is raised."""
    unknown = []
    for line, text in texts(parsed(path)):
        names = [*unknown_keys(text), *unknown_choices(text), *(e for e in extras_in(text) if e not in extras)]
        unknown += [f"line {line}: {name}" for name in names]
    assert "\n".join(unknown) == ""


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        ("raise ValueError(f'pruning.keep_ratio: got {x}, allowed is (0, 1].')", []),
        ("raise ValueError(f'pruning.keep_share: got {x}, allowed is (0, 1].')", ["pruning.keep_share"]),
        ("logger.warning('Set it with corpora.video=true.')", ["corpora.video"]),
        ("say(f'{path}/model.safetensors is missing; masks.step() comes first, then masks.finish.')", []),
        (
            "raise ValueError('Train with masks=rigle or ' 'system=full-dense, recipe=girds.')",
            ["masks=rigle", "recipe=girds"],
        ),
        ("def f():\n    '''Speaks of pruning.anything.'''", []),
    ],
)
def test_keys_and_choices_that_do_not_exist_are_found(code, unknown):
    found = [name for _, text in texts(ast.parse(code)) for name in [*unknown_keys(text), *unknown_choices(text)]]
    assert found == unknown


def test_the_keys_are_those_of_all_choices():
    assert {"pruning.plan.warmup_epochs", "masks.method.until", "sweep.launcher.slurm_account"} <= composed_keys()
    assert "mini" in choices()["recipe"]
    assert extras_in("Install asrsparse[export] first.") == ["export"]
