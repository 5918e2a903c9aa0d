"""The tiers of the tests: unit tests without a marker, `integration` and `slow`, and what chooses among them."""

from pathlib import Path

import conftest
import pytest

ROOT = Path(__file__).parents[1]
TIERS = {"integration", "slow"}


class Item:
    """As much of a test as the marking looks at."""

    def __init__(self, path: str, *markers: str, fixtures: tuple[str, ...] = ()) -> None:
        self.path = ROOT / path
        self.fixturenames = fixtures
        self.markers = list(markers)

    def add_marker(self, name: str) -> None:
        self.markers.append(name)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.markers else None


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Item("tests/data/test_cuts.py"), []),
        (Item("tests/test_files.py"), []),
        (Item("asrsparse/schedules.py"), []),
        (Item("tests/integrations/test_lightning.py"), []),
        (Item("tests/integration/test_run_sh.py"), ["integration"]),
        (Item("tests/test_docs.py"), ["integration"]),
        (Item("tests/export/test_onnx_graph.py", fixtures=("run", "tiny_corpus")), ["integration"]),
        (Item("tests/integration/test_ranks.py", "slow"), ["slow"]),
        (Item("tests/corpora/test_grid.py", fixtures=("tmp_path", "grid_dir")), ["slow"]),
        (Item("tests/integration/test_recipes.py", fixtures=("grid_dir",)), ["slow"]),
    ],
)
def test_a_test_is_marked_by_its_place_and_its_data(item, expected):
    conftest.pytest_collection_modifyitems([item])
    assert item.markers == expected


def test_the_markers_are_declared_and_others_are_refused(request):
    declared = {line.partition(":")[0] for line in request.config.getini("markers")}
    assert declared >= TIERS
    assert "--strict-markers" in request.config.getini("addopts")


def test_every_test_of_this_run_is_in_one_tier(request):
    """With all tests collected, those of tests/integration are all marked, with one of the two."""
    for item in request.session.items:
        found = TIERS & {marker.name for marker in item.iter_markers()}
        expected = 1 if item.path.is_relative_to(ROOT / "tests" / "integration") else len(found)
        assert len(found) == expected <= 1, item.nodeid


def test_the_names_in_the_marking_exist():
    assert [name for name in conftest.INTEGRATION if not (ROOT / "tests" / name).exists()] == []


def test_what_a_change_must_pass_leaves_no_tier_out():
    assert "./run.sh test --all" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
