"""Fixtures that more than one test file uses."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def grid_dir() -> Path:
    """The folder with real GRID data; a test that asks for it is skipped where there is none."""
    named = os.environ.get("ASRSPARSE_GRID")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "grid"
    if not (folder / "alignments").is_dir():
        pytest.skip(f"no GRID data in {folder} (the environment variable ASRSPARSE_GRID can name another folder)")
    return folder
