"""Fixtures that more than one test file uses."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings
from made_once import made_once

# No deadlines, since machines are shared. `./run.sh test --all` asks for the second profile.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("quick")

pytest_plugins = ["exported_run"]  # fixtures of tests/export: with doctests, pytest takes one conftest.py

REPOSITORY = Path(__file__).resolve().parents[1]
INTEGRATION = ("integration", "corpora", "sweeps", "video", "test_config.py", "test_docs.py", "test_examples.py")
"""Folders and files of tests/ that run real commands and whole preparations, or compose every configuration."""

PREPARED_CORPUS = {"tiny_corpus", "audiovisual_corpus"}
"""Fixtures of tests that read audio and mostly train on it, which a unit test does not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what takes long by its place or by the data that it asks for: a test is slow, integration, or neither."""
    for item in items:
        place = item.path.relative_to(REPOSITORY).parts
        fixtures = set(getattr(item, "fixturenames", ()))
        if "grid_dir" in fixtures:
            item.add_marker("slow")
        runs_commands = place[:1] == ("tests",) and place[1] in INTEGRATION
        if (runs_commands or fixtures & PREPARED_CORPUS) and item.get_closest_marker("slow") is None:
            item.add_marker("integration")


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

    def make(folder: Path) -> None:
        from asrsparse.corpora.mini import prepare_mini
        from asrsparse.data.cuts import prepare_cuts

        minutes = {"train_minutes": 1, "dev_minutes": 0.3, "test_minutes": 0.3}
        prepare_mini(REPOSITORY / "data" / "mini", folder, video=False, **minutes)
        prepare_cuts(folder / "manifests", folder / "cuts", num_jobs=1)

    return made_once(tmp_path_factory, "tiny_corpus", make)


@pytest.fixture(scope="session")
def audiovisual_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with a drawn video for each utterance."""

    def make(folder: Path) -> None:
        from drawn_videos import add_videos

        add_videos(tiny_corpus, folder / "data")

    return made_once(tmp_path_factory, "audiovisual_corpus", make) / "data"


@pytest.fixture(scope="session")
def grid_dir() -> Path:
    """The folder with real GRID data; a test that asks for it is skipped where there is none."""
    named = os.environ.get("ASRSPARSE_GRID")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "grid"
    if not (folder / "alignments").is_dir():
        pytest.skip(f"no GRID data in {folder} (the environment variable ASRSPARSE_GRID can name another folder)")
    return folder
