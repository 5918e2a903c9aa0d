"""Fixtures that more than one test file uses."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no clocks", deadline=None)
settings.load_profile("no clocks")

pytest_plugins = ["exported_run"]  # fixtures of tests/export: with doctests, pytest takes one conftest.py

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def same_logging():
    """Takes away what commands that run in this process, which saves imports, add for themselves."""
    logger = logging.getLogger("asrsparse")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared mini corpus (manifests/ and cuts/) without video: 1 minute of train, 0.3 of dev and of test."""
    from asrsparse.corpora.mini import prepare_mini
    from asrsparse.data.cuts import prepare_cuts

    data_dir = tmp_path_factory.mktemp("tiny_corpus")
    minutes = {"train_minutes": 1, "dev_minutes": 0.3, "test_minutes": 0.3}
    prepare_mini(REPOSITORY / "data" / "mini", data_dir, video=False, **minutes)
    prepare_cuts(data_dir / "manifests", data_dir / "cuts", num_jobs=1)
    return data_dir


@pytest.fixture(scope="session")
def audiovisual_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with a drawn video for each utterance."""
    from drawn_videos import add_videos

    data_dir = tmp_path_factory.mktemp("audiovisual_corpus") / "data"
    add_videos(tiny_corpus, data_dir)
    return data_dir


@pytest.fixture(scope="session")
def grid_dir() -> Path:
    """The folder with real GRID data; a test that asks for it is skipped where there is none."""
    named = os.environ.get("ASRSPARSE_GRID")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "grid"
    if not (folder / "alignments").is_dir():
        pytest.skip(f"no GRID data in {folder} (the environment variable ASRSPARSE_GRID can name another folder)")
    return folder
