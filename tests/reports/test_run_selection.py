"""What a report shows: finished runs, each once, in the order of the recipe; runs that are left out are named."""

import logging

import pytest
from scored_runs import make_system, write_config

from asrsparse.files import write_json, write_text
from asrsparse.reports.run_selection import select_runs, select_systems


@pytest.fixture
def exp_dir(tmp_path):
    """Four runs of two modalities."""
    for name, modality in (("b", "audio"), ("a", "audio"), ("full-dense", "audio"), ("full-dense-video", "video")):
        make_system(tmp_path / "mini", name, 2)
        write_config(tmp_path / "mini" / name, modality, systems=("full-dense", "b"))
    return tmp_path / "mini"


def test_runs_stand_by_modality_as_the_recipe_lists_them_then_by_name(exp_dir):
    assert list(select_runs([exp_dir]).runs) == ["full-dense", "b", "a", "full-dense-video"]


def test_named_runs_stand_as_they_are_named(exp_dir):
    assert list(select_runs([exp_dir / "b", exp_dir / "a"]).runs) == ["b", "a"]


def test_another_run_can_be_the_baseline(exp_dir):
    assert list(select_runs([exp_dir], baseline="a").runs) == ["a", "full-dense", "b", "full-dense-video"]
    with pytest.raises(ValueError, match="baseline got c, allowed are the finished runs: full-dense, b, a, full"):
        select_runs([exp_dir], baseline="c")


def test_runs_of_several_recipes_have_the_name_of_theirs(exp_dir):
    make_system(exp_dir.parent / "other", "a", 2)
    selection = select_runs([exp_dir / "a", exp_dir.parent / "other"])
    assert selection.folder == exp_dir.parent
    assert list(selection.runs) == ["mini/a", "other/a"]


def test_a_run_is_named_once(exp_dir):
    with pytest.raises(ValueError, match=r"got .*mini/a twice, allowed is once\. Name each run once"):
        select_runs([exp_dir, exp_dir / "a"])
    with pytest.raises(ValueError, match="twice, allowed is once"):
        select_systems(exp_dir, ["a", "b", "a"], "greedy", ["test"])
    (exp_dir / "link").symlink_to(exp_dir / "a")
    with pytest.raises(ValueError, match="twice, allowed is once"):
        select_runs([exp_dir / "link", exp_dir / "a"])


def test_a_run_behind_a_link_is_found(exp_dir, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "run").symlink_to(exp_dir / "a")
    assert list(select_runs([tmp_path / "links"]).runs) == ["run"]


def test_folders_without_runs_are_refused(exp_dir, tmp_path):
    with pytest.raises(ValueError, match=r"nothing is no folder\. Allowed are folders of runs"):
        select_runs([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no run\. Allowed are folders of runs"):
        select_runs([tmp_path / "empty"])
    with pytest.raises(ValueError, match="No systems to report"):
        select_systems(tmp_path, [], "greedy", ["test"])


def test_unfinished_runs_are_left_out_and_named(exp_dir, caplog):
    write_config(exp_dir / "training")
    write_json(exp_dir / "trained" / "train.json", {})
    (exp_dir / "b" / "decode_test_greedy" / "score.json").unlink()
    with caplog.at_level(logging.WARNING):
        selection = select_runs([exp_dir])
    assert list(selection.runs) == ["full-dense", "a", "full-dense-video"]
    assert selection.left_out == [
        "trained: it has not been decoded",
        "b: it is decoded, but not scored (run `asrsparse score`)",
        "training: its training has not finished",
    ]
    assert all(reason in caplog.text for reason in selection.left_out)


def test_an_unfinished_run_that_is_named_is_refused(exp_dir):
    write_config(exp_dir / "training")
    with pytest.raises(ValueError, match="training cannot be reported: its training has not finished"):
        select_runs([exp_dir / "a", exp_dir / "training"])
    with pytest.raises(ValueError, match="a cannot be reported: it has not been decoded with joint"):
        select_runs([exp_dir / "a"], method="joint")


def test_a_folder_without_a_finished_run_says_what_each_lacks(tmp_path):
    write_config(tmp_path / "mini" / "a")
    with pytest.raises(ValueError, match=r"No finished run in .*mini: a: its training has not finished"):
        select_runs([tmp_path / "mini"])


def test_test_sets_stand_in_the_order_of_the_recipe_and_say_who_decoded_them(tmp_path):
    for name, splits in (("a", ("test-other", "dev", "test-clean")), ("b", ("test-clean",))):
        for split in splits:
            make_system(tmp_path / "mini", name, 2, split=split)
        write_config(tmp_path / "mini" / name, splits=("test-clean", "test-other"))
    selection = select_runs([tmp_path / "mini"])
    assert selection.tests == {
        ("test-clean", "greedy"): ["a", "b"],
        ("test-other", "greedy"): ["a"],
        ("dev", "greedy"): ["a"],
    }


def test_methods_stand_apart_or_one_is_chosen(exp_dir):
    make_system(exp_dir, "a", 2, method="joint")
    assert list(select_runs([exp_dir]).tests) == [("test", "greedy"), ("test", "joint")]
    chosen = select_runs([exp_dir], method="joint")
    assert chosen.tests == {("test", "joint"): ["a"]}
    assert "b: it has not been decoded with joint" in chosen.left_out


def test_decodings_in_babble_are_no_test_sets(exp_dir):
    folder = exp_dir / "a" / "decode_test_greedy"
    folder.rename(folder.with_name("decode_test_greedy_babble-2.5dB"))
    with pytest.raises(ValueError, match="it has not been decoded"):
        select_runs([exp_dir / "a"])


def test_damaged_files_are_named(exp_dir):
    path = exp_dir / "a" / "decode_test_greedy" / "decode.json"
    write_json(path, {"command": "", "audio_hours": 1.0, "seconds": 1.0, "method": "greedy"})
    with pytest.raises(ValueError, match=r"decode\.json has no split\. Another version wrote it\?"):
        select_runs([exp_dir])
    write_text(exp_dir / "b" / "config.yaml", "modality: [")
    with pytest.raises(ValueError, match=r"b/config\.yaml is no YAML"):
        select_runs([exp_dir / "b", exp_dir / "full-dense"])
