"""Folders that are expensive to make: once in a run of the tests, for all its processes."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of pytest-xdist's processes to ask for it fills, while the others wait.

    Args:
        factory: Pytest's folder for temporary files; the one above a process's own is common to all of them.
        name: The name of the folder.
        make: Fills the folder, which exists and is empty. The tests only read it afterwards.
    """
    own = factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = common / name
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = common / f"{name}.done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a process left that failed while making it
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
