"""Files that are written as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; what was written there is renamed to `path` when the block succeeds.

    If the block raises (a full disk, an interrupt), the temporary file goes away and an older `path` stays as it was.
    The temporary name keeps the suffixes of `path`, since writers such as lhotse's choose a compression by them.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "words.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("bin blue\\n")
        >>> target.read_text()
        'bin blue\\n'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, which is renamed to `path` when the block succeeds, and else goes away.

    Raises:
        ValueError: If `path` is a file, or a folder that is not empty: nothing is overwritten.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "exported"
        >>> with atomic_folder(target) as temporary:
        ...     write_text(temporary / "README.md", "...")
        >>> [file.name for file in target.iterdir()]
        ['README.md']
    """
    path = Path(os.path.abspath(path))  # `.` has no name
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        kind = "a folder that is not empty" if path.is_dir() else "a file"
        raise ValueError(f"{path} is {kind}; allowed is a new or empty folder. Name another one, or delete it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: If the file is not JSON, with its name.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}). Delete it and run the stage that writes it again."
        ) from None
