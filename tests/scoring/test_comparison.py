"""`asrsparse compare`: the numbers of the parts it puts together, margins, and what is refused."""

import io
import json

import numpy as np
import pytest
from decoded import decoded
from rich.console import Console

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, compare, paired_draws
from asrsparse.scoring.comparison import Margin, compare_folders, non_inferiority, to_json, to_table
from asrsparse.scoring.matched_pairs import matched_pairs
from asrsparse.scoring.normalisers import load_normaliser
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

FEW = Bootstrap(resamples=400)


def make(folder, utterances, bootstrap=FEW, normaliser="none"):
    write_decoded(folder, utterances)
    score(folder, bootstrap, load_normaliser(normaliser))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two runs with two test sets, one of which only the first run has decoded, and one run more."""
    for name, rate, split in (
        ("base", 0.2, "test"),
        ("base", 0.3, "other"),
        ("base", 0.1, "dev"),
        ("new", 0.1, "test"),
        ("new", 0.2, "other"),
    ):
        make(tmp_path / name / f"decode_{split}_greedy", decoded(rate, seed=len(name)))
    return [tmp_path / "base", tmp_path / "new"]


def test_rows_hold_what_the_tests_say(runs):
    folders = [run / "decode_test_greedy" for run in runs]
    (compared,) = compare_folders(folders, Margin(0.01))
    first, second = compared.rows
    systems = decoded(0.2, seed=4), decoded(0.1, seed=3)
    assert [row.name for row in compared.rows] == ["base", "new"]
    assert (first.versus_first, first.matched_pairs, first.non_inferiority) == (None, None, None)
    assert second.versus_first == compare(*systems, FEW)
    assert second.matched_pairs == matched_pairs(*systems)
    assert second.non_inferiority == non_inferiority(*systems, FEW, Margin(0.01))
    assert compared.words == sum(len(u.reference.split()) for u in systems[0])


def test_runs_are_compared_on_each_test_set_that_all_have(runs):
    compared = compare_folders(runs)
    assert [one.decoding for one in compared] == ["decode_other_greedy", "decode_test_greedy"]
    assert compared[1] == compare_folders([run / "decode_test_greedy" for run in runs])[0]


def test_decodings_of_one_run_are_told_apart_by_their_names(runs):
    (compared,) = compare_folders([runs[0] / "decode_test_greedy", runs[0] / "decode_dev_greedy"])
    assert [row.name for row in compared.rows] == ["decode_test_greedy", "decode_dev_greedy"]


def test_an_absolute_margin_is_taken_off_the_interval():
    systems = decoded(0.2), decoded(0.22, seed=1)
    versus = compare(*systems, FEW)
    for value in (0.0, 0.02, 0.2):
        found = non_inferiority(*systems, FEW, Margin(value))
        assert found.excess_ci_high == pytest.approx(versus.delta_ci_high - value)
        assert found.shown == (versus.delta_ci_high < value)
    assert [non_inferiority(*systems, FEW, Margin(value)).shown for value in (0.0, 0.2)] == [False, True]


def test_a_relative_margin_moves_with_the_first_systems_rate():
    systems = decoded(0.2), decoded(0.22, seed=1)
    errors = paired_draws(*systems, FEW, ("a", "b"))[:, :2].astype(float)
    worse = np.quantile(errors[:, 1] / errors[:, 0], 0.975) - 1  # the largest relative loss that the data allow
    for value in (0.9 * worse, 1.1 * worse):
        assert non_inferiority(*systems, FEW, Margin(value, relative=True)).shown == (value > worse)


def test_a_system_is_not_inferior_to_itself_unless_the_margin_is_nothing():
    same = decoded(0.2), decoded(0.2)
    assert non_inferiority(*same, FEW).shown
    assert not non_inferiority(*same, FEW, Margin(0.0)).shown


def test_non_inferiority_errs_as_often_as_its_level_says():
    """A second system that is worse by exactly the margin is let through in about 2.5 % of test sets."""
    rng, passed = np.random.default_rng(1), 0
    for trial in range(120):
        wrong = rng.random((2, 200)) < np.array([[0.2], [0.25]])
        systems = [
            [Utterance(f"{i:03d}", "s", "a", "x" if is_wrong else "a") for i, is_wrong in enumerate(side)]
            for side in wrong
        ]
        passed += non_inferiority(*systems, Bootstrap(200, seed=trial), Margin(0.05)).shown
    assert passed <= 0.06 * 120


def test_the_table_and_the_json_say_the_same(runs, tmp_path):
    compared = compare_folders([run / "decode_test_greedy" for run in runs], Margin(0.1, relative=True))
    output = io.StringIO()
    Console(file=output, width=80).print(to_table(compared[0]))
    row, text = compared[0].rows[1], " ".join(output.getvalue().split())
    for part in (
        f"{100 * row.wer:.2f}",
        f"{100 * row.versus_first.delta_wer:+.2f}",
        f"[{100 * row.versus_first.delta_ci_low:+.2f}, {100 * row.versus_first.delta_ci_high:+.2f}]",
        f"p {row.matched_pairs.p:.4f}",
        f"{100 * abs(row.non_inferiority.excess_ci_high):.2f} {'within' if row.non_inferiority.shown else 'beyond'}",
        "10 % of the first system's WER",
        "normaliser none, version 1",
    ):
        assert part in text
    (kept,) = json.loads(json.dumps(to_json(compared), allow_nan=False))
    assert kept["margin"] == {"value": 0.1, "relative": True}
    assert kept["rows"][1]["matched_pairs"]["stretches"] == row.matched_pairs.stretches


def test_systems_that_were_scored_differently_are_refused(tmp_path):
    plain = make(tmp_path / "plain", decoded(0.1))
    lower = make(tmp_path / "lower", decoded(0.1), normaliser="lower_no_punctuation")
    other = make(tmp_path / "other", decoded(0.1), Bootstrap(resamples=400, seed=1))
    with pytest.raises(ValueError, match=r"lower was scored with normaliser .*lower_no.*, plain with .*none.*score"):
        compare_folders([plain, lower])
    with pytest.raises(ValueError, match=r"other was scored with bootstrap .*'seed': 1.*only numbers that are made al"):
        compare_folders([plain, other])


def test_a_normaliser_holds_for_comparisons_too(tmp_path):
    loud = [Utterance(u.id, u.speaker, u.reference, u.hypothesis.upper()) for u in decoded(0.1)]
    folders = [
        make(tmp_path / name, us, normaliser="lower_no_punctuation") for name, us in (("a", loud), ("b", decoded(0.1)))
    ]
    assert compare_folders(folders)[0].rows[1].versus_first.delta_wer == 0.0


def test_what_cannot_be_compared_is_named(tmp_path, runs):
    with pytest.raises(ValueError, match=r"compare: got .*base, allowed are two and more folders"):
        compare_folders(runs[:1])
    with pytest.raises(ValueError, match=r"is named twice"):
        compare_folders([runs[0], runs[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no decoding, which has ref\.trn and hyp\.trn\. Name a folder"):
        compare_folders([runs[0], tmp_path / "empty"])
    make(tmp_path / "third" / "decode_train_greedy", decoded(0.1))
    with pytest.raises(
        ValueError, match=r"no decoding is in all of these runs: base has decode_dev_greedy, .*third has"
    ):
        compare_folders([runs[0], tmp_path / "third"])
    shorter = make(tmp_path / "shorter", decoded(0.1)[:-1])
    with pytest.raises(ValueError, match=r"shorter cannot be compared: .*1 only in .*\(119\)"):
        compare_folders([runs[0] / "decode_test_greedy", shorter])
    with pytest.raises(ValueError, match=r"^value: got -0\.01, allowed are 0 and more"):
        Margin(-0.01)


def test_folders_that_were_not_scored_or_have_changed_are_named(tmp_path, runs):
    folders = [run / "decode_test_greedy" for run in runs]
    write_decoded(folders[1], decoded(0.4))
    with pytest.raises(
        ValueError, match=r"score\.json has WER .*, which have changed since\. Run `asrsparse score recipe="
    ):
        compare_folders(folders)
    (folders[1] / "score.json").write_text('{"wer": 0.1, "ci_low": 0, "ci_high": 1}')
    with pytest.raises(
        ValueError, match=r"score\.json has no cer, .*, bootstrap, normaliser\. Another version wrote it\?"
    ):
        compare_folders(folders)
    (folders[1] / "score.json").unlink()
    with pytest.raises(
        ValueError, match=r"No .*score\.json: the stage `score` has not finished\. Run `asrsparse score recipe="
    ):
        compare_folders(folders)
