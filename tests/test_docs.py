"""The code blocks of the documents: Python runs, commands are real, the others say what they are."""

import re
import shlex
from pathlib import Path

import pytest
from docs_commands import check, commands_of, shell_commands
from docs_world import WORLDS
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("recipes/*.md"))]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
LANGUAGES = {"python", "bash", "text", "yaml", "bibtex", " { .python }"}  # the last one: a file of examples/ is shown
FENCES = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def run_python(path: Path) -> None:
    """Runs the Python blocks of a document one after another, as one program."""
    document = Sybil([PythonCodeBlockParser()]).parse(path)
    document.namespace.update(WORLDS.get(name(path), dict)())
    for example in document.examples():
        example.evaluate()


COMMANDS = [pytest.param(words, id=f"{name(d)}: {shlex.join(words)}") for d in DOCUMENTS for words in shell_commands(d)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_block_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert {language for language, _ in FENCES.findall(text)} <= LANGUAGES
    outside = FENCES.sub("", text)
    assert "```" not in outside
    assert re.findall(r"(?:^|\n)\n    (?!options:).*", outside) == []  # blocks by indentation


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if "```python\n" in path.read_text(encoding="utf-8")], ids=name
)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(path)


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_real(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(words, tmp_path)


def test_files_that_are_shown_exist():
    shown = {file for path in DOCUMENTS for file in re.findall(r'--8<-- "(.*)"', path.read_text(encoding="utf-8"))}
    assert shown == {name(path) for path in (ROOT / "examples").glob("*.py")}


# --------------------------------------------------------------------------------------------- the checks find mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("asrsparse trian recipe=grid", "no command 'trian'"),
        ("asrsparse train recipe=gird", "Unknown recipe: got 'gird'"),
        ("asrsparse train pruning.keep_rate=0.5", "Unknown option: got 'pruning.keep_rate'"),
        ("asrsparse train pruning=random pruning.keep_ratio=1.5", "got 1.5, allowed is"),
        (
            "asrsparse report pruning exp/grid utterances=u1",
            "got utterances=u1, allowed are folders that exist, utterance=VALUE, reference=VALUE.",
        ),
        ("asrsparse sweep seed=0,1 masks=rigle", "Unknown masks: got 'rigle'"),
        ("./run.sh --jbos 2", "unknown option '--jbos'"),
        ("./run.sh --recipe gird", "unknown recipe 'gird'"),
        ("./run.sh --systems masks masks.method.densty=0.5", "Unknown option: got 'masks.method.densty'"),
        ("python benchmarks/selectoin.py", "no script benchmarks/selectoin.py"),
        ("python benchmarks/time_to_wer.py --epohcs 3", "has no option --epohcs"),
        (".venv/bin/python -c 'from asrsparse.masks import RigLe'", "asrsparse.masks has no RigLe"),
        (".venv/bin/torchrun --nproc-per-node 2 -m asrsparse train recipe=gird", "Unknown recipe"),
        ("make install", "got the program make"),
    ],
)
def test_a_wrong_command_is_found(line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        check(shlex.split(line), tmp_path)


@pytest.mark.parametrize("code", ["from asrsparse.pruning import EasyToHarder", "undefined_name()", "assert 1 == 2"])
def test_a_wrong_python_block_is_found(code, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\n{code}\n```\n")
    with pytest.raises((ImportError, NameError, AssertionError)):
        run_python(page)


def test_commands_go_over_lines_and_have_comments():
    assert commands_of("a b  # c\n\nd \\\n  e\n# f\n") == [["a", "b"], ["d", "e"]]
