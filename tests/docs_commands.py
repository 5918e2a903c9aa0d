"""Checks commands of the documents as far as one can without running them: what they name exists, and composes."""

import argparse
import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser

from asrsparse.commands import COMMANDS
from asrsparse.config import build, compose_config
from asrsparse.decoding.transcribe import parse
from asrsparse.sweeps.combinations import combine

ROOT = Path(__file__).parents[1]
# A line is one write, since two trainings at the same time append to the file.
STUB = '#!/usr/bin/env bash\nprintf "%s\\n" "$(printf "%q " "$(basename "$0")" "$@")" >> "{calls}"\n'


def commands_of(block: str) -> list[list[str]]:
    """The commands of a shell block, one a line but for continued ones, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shell_commands(path: Path) -> list[list[str]]:
    """The commands of a document's shell blocks."""
    document = Sybil([CodeBlockParser("bash", evaluator=lambda example: None)]).parse(path)
    return [words for example in document.examples() for words in commands_of(str(example.parsed))]


def check(words: Sequence[str], folder: Path) -> None:
    """Checks one command.

    Args:
        words: Of which it consists.
        folder: An empty one to work in.

    Raises:
        ValueError: If it names something that does not exist.
    """
    program = words[0].removeprefix(".venv/bin/")
    if program not in CHECKS and not program.endswith("run.sh"):
        raise ValueError(f"got the program {words[0]}, allowed are {', '.join(CHECKS)} and run.sh; others are ```text")
    CHECKS.get(program, check_run_sh)(words if program.endswith("run.sh") else words[1:], folder)


def check_asrsparse(words: Sequence[str], folder: Path) -> None:
    """Checks the words of a command: its configuration, of which what is cheap is built, or its options."""
    command, *rest = words
    if command not in COMMANDS:
        raise ValueError(f"asrsparse has no command {command!r}")
    if command in PARSERS:
        PARSERS[command](rest)
    elif command in ("compare", "breakdown", "export") or not all("=" in word for word in rest):
        check_folders(command, rest, folder)
    else:
        check_overrides(*rest)


PARSERS: dict[str, Callable[[Sequence[str]], object]] = {"sweep": combine, "transcribe": parse}
"""What reads the words of commands that can be read without doing anything."""


@cache
def check_overrides(*overrides: str) -> None:
    """Composes, and builds the choices of both subjects."""
    config = compose_config([*overrides, "+vocab_size=30"])  # else known when the tokenizer is
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    for node in (config.pruning.policy, config.pruning.plan, config.masks.method, config.decode.decoder):
        build(node)


def check_folders(command: str, words: Sequence[str], folder: Path) -> None:
    """Calls a command on empty folders: it must miss runs, and not complain of its words."""
    places = {word: folder / word for word in words if "/" in word and "=" not in word}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    try:
        COMMANDS[command]([str(places.get(word, word)) for word in words])
    except (ValueError, OSError) as error:
        if re.search("got .*, allowed (is|are|beside) ", str(error)):
            raise


def check_run_sh(words: Sequence[str], folder: Path) -> None:
    """Runs run.sh itself in a copy where commands only write down their words, and checks these."""
    calls = copy_of_scripts(folder)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, env=_environment())
    if done.returncode:
        raise ValueError(f"{shlex.join(words)}: {done.stderr}")
    for number, line in enumerate(calls.read_text().splitlines()):
        called = shlex.split(line)
        if called[0] == "asrsparse":
            check(called, folder / str(number))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHON"}


def copy_of_scripts(folder: Path) -> Path:
    """Makes the copy, with a corpus in DIR; returns where calls are written down."""
    calls = folder / "calls.txt"
    for source in [ROOT / "run.sh", *ROOT.glob("recipes/*/run.sh"), *ROOT.glob("asrsparse/conf/system/*.yaml")]:
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    programs = ["asrsparse", "ruff", "mypy", "pytest", "mkdocs"]
    for program in [folder / "tools/setup_env.sh", *(folder / ".venv/bin" / name for name in programs)]:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STUB.format(calls=calls))
        program.chmod(0o755)
    (folder / "DIR" / "s1").mkdir(parents=True, exist_ok=True)
    prepared = [folder / "data" / recipe.parent.name / "cuts" for recipe in ROOT.glob("recipes/*/run.sh")]
    for cuts in prepared:
        cuts.mkdir(parents=True, exist_ok=True)
        (cuts / ".completed").touch()
    return calls


def check_python(words: Sequence[str], folder: Path) -> None:
    """Checks the names that `-c` imports; of a script, that it knows its options and that its overrides compose."""
    if words[0] == "-c":
        check_imports(words[1])
        return
    script = ROOT / words[0]
    if not script.is_file():
        raise ValueError(f"no script {words[0]}")
    source = script.read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--") and word != "--"):
        if f'"{option}"' not in source:
            raise ValueError(f"{words[0]} has no option {option}")
    check_overrides(*(word for word in words[1:] if re.match(r"[a-z_.]+=", word)))


def check_imports(source: str) -> None:
    """Imports what a program imports by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    raise ValueError(f"{node.module} has no {alias.name}")


def check_torchrun(words: Sequence[str], folder: Path) -> None:
    """Checks the module that several processes run."""
    known = argparse.ArgumentParser(exit_on_error=False)
    known.add_argument("--nproc-per-node", type=int, required=True)
    known.add_argument("-m", dest="module", choices=["asrsparse"], required=True)
    check_asrsparse(known.parse_known_args(list(words))[1], folder)


CHECKS: dict[str, Callable[[Sequence[str], Path], None]] = {
    "asrsparse": check_asrsparse,
    "python": check_python,
    "torchrun": check_torchrun,
}
