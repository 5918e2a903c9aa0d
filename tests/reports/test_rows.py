"""Gathering: the numbers of the stages, and no report on systems that cannot be compared."""

import pytest
from scored_runs import make_system, utterances, write_config

from asrsparse.files import write_json, write_text
from asrsparse.reports.rows import gather
from asrsparse.reports.run_selection import select_runs, select_systems
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.trn_files import write_decoded


@pytest.fixture
def exp_dir(tmp_path):
    make_system(tmp_path / "mini", "full-dense", 6)
    make_system(tmp_path / "mini", "masks", 2)
    return tmp_path / "mini"


def gather_systems(exp_dir, *names):
    return gather(select_systems(exp_dir, names, "greedy", ["test"]))


def test_runs_that_recorded_little_still_give_a_row(exp_dir):
    bare = {"command": "asrsparse train", "hours_heard": 1.0, "train_seconds": 0.0, "density": 1.0, "parameters": 10}
    write_json(exp_dir / "full-dense" / "train.json", bare)
    (row,) = gather_systems(exp_dir, "full-dense").rows
    assert (row.seed, row.steps, row.peak_memory_gib, row.environment) == (None, None, None, {})
    assert (row.modality, row.ter) == ("audio", None)


def test_the_error_rate_of_tokens_is_taken_where_it_is_recorded(exp_dir):
    make_system(exp_dir, "masks", 2, further={"ter": 0.125, "ter_ci_low": 0.1, "ter_ci_high": 0.15})
    first, second = gather_systems(exp_dir, "full-dense", "masks").rows
    assert (first.ter, second.ter, second.ter_ci_low, second.ter_ci_high) == (None, 0.125, 0.1, 0.15)


def test_each_test_set_has_a_baseline_and_names_who_is_missing(exp_dir):
    make_system(exp_dir, "masks", 3, split="other")
    make_system(exp_dir, "rigl", 4, split="other")
    gathered = gather(select_runs([exp_dir], baseline="full-dense"))
    other, test = gathered.sections
    assert [row.name for row in test.rows] == ["full-dense", "masks"]
    assert test.missing == ["rigl"]
    assert [(row.name, row.delta_wer) for row in other.rows] == [("masks", None), ("rigl", pytest.approx(0.02))]
    assert other.missing == ["full-dense"]
    assert [row.name for row in gathered.runs] == ["masks", "rigl", "full-dense"]


@pytest.mark.parametrize(
    ("missing", "stage"),
    [("train.json", "train"), ("decode_test_greedy/decode.json", "decode"), ("decode_test_greedy/score.json", "score")],
)
def test_missing_stages_are_named(exp_dir, missing, stage):
    (exp_dir / "masks" / missing).unlink()
    message = rf"the stage `{stage}` has not finished. Run `asrsparse {stage} recipe=mini system=masks`"
    with pytest.raises(ValueError, match=message):
        gather_systems(exp_dir, "full-dense", "masks")


def test_incomplete_and_outdated_files_are_refused(exp_dir):
    write_json(exp_dir / "masks" / "train.json", {"command": "asrsparse train", "density": 1.0})
    with pytest.raises(ValueError, match=r"train.json has no hours_heard, train_seconds, parameters"):
        gather_systems(exp_dir, "masks")
    write_decoded(exp_dir / "full-dense" / "decode_test_greedy", utterances(5))
    with pytest.raises(
        ValueError, match=r"score.json has WER 0.12, but not its .*have changed since. Run `asrsparse score"
    ):
        gather_systems(exp_dir, "full-dense")


def test_runs_of_different_test_sets_are_refused_with_file_and_line(exp_dir):
    make_system(exp_dir, "other-text", 2, last="please")
    here = r"'bin blue at a now' of speaker s0 in full-dense, at .*full-dense/decode_test_greedy/ref\.trn:1"
    there = r"'bin blue at a please' of speaker s0 in other-text, at .*other-text/decode_test_greedy/ref\.trn:1"
    how_many = r"the speaker of 10 utterances differs \(u0, u1, u2, \.\.\.\), of 10\. The first is "
    with pytest.raises(ValueError, match=f"{how_many}{here} and {there}. Decode both on the same test set"):
        gather_systems(exp_dir, "full-dense", "other-text")


def test_the_same_ids_of_other_speakers_are_refused(exp_dir):
    write_text(exp_dir / "masks" / "decode_test_greedy" / "utt2spk", "")
    with pytest.raises(ValueError, match="does not name 10 utterances"):
        gather_systems(exp_dir, "full-dense", "masks")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bootstrap": {"resamples": 200, "seed": 9, "unit": "utterance"}}, r"scored with bootstrap .*'seed': 9"),
        ({"normaliser": {"name": "lower_no_punctuation", "version": 1}}, r"scored with normaliser .*'lower_no_punct"),
    ],
)
def test_runs_that_were_scored_differently_are_refused_on_any_test_set(exp_dir, change, message):
    make_system(exp_dir, "other", 2, further=change, split="dev")
    with pytest.raises(
        ValueError, match=rf"{message}.*only numbers that are made alike can be compared\. Run `asrsparse score`"
    ):
        gather(select_runs([exp_dir]))


def test_speakers_can_be_the_unit_of_all(exp_dir):
    for name in ("full-dense", "masks"):
        make_system(exp_dir, name, 2, bootstrap=Bootstrap(resamples=50, unit="speaker"))
        write_config(exp_dir / name)
    assert gather(select_runs([exp_dir])).bootstrap.unit == "speaker"


def test_no_folder_of_this_machine_is_told(exp_dir, monkeypatch):
    monkeypatch.chdir(exp_dir.parent)
    command = f"{exp_dir.parent}/.venv/bin/asrsparse train exp_dir={exp_dir} corpus.dir=/data/grid"
    make_system(exp_dir, "full-dense", 6, train={"command": command})
    (row,) = gather_systems(exp_dir, "full-dense").rows
    assert row.command == "asrsparse train exp_dir=mini corpus.dir=/path/to/grid"
