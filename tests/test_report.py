"""The report of a recipe: its numbers are those of the stages, and it refuses what does not belong together."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from asrsparse.files import write_json
from asrsparse.normalisers import load_normaliser
from asrsparse.report import portable_command, report, to_table
from asrsparse.sclite import Utterance, write_decoded
from asrsparse.score import Bootstrap, compare, score

FEW = Bootstrap(resamples=200)
KEYS = ("name", "wer", "ci_low", "ci_high", "words", "hours_heard", "train_seconds", "density", "parameters", "command")
ENVIRONMENT = {"date": "2026-11-20 10:00 UTC", "python": "3.11.2", "cpu": "a CPU", "threads": "2"}


def utterances(num_wrong, last="now"):
    texts = [f"bin blue at {letter} {last}" for letter in "abcdefghij"]
    return [
        Utterance(f"u{i}", f"s{i % 2}", text, text.replace("blue", "red") if i < num_wrong else text)
        for i, text in enumerate(texts)
    ]


def make_system(exp_dir, name, num_wrong, train=None, bootstrap=FEW, **texts):
    decode_dir = exp_dir / name / "decode_test_greedy"
    values = {
        **{"name": name, "command": f"asrsparse train recipe=mini system={name}", "hours_heard": 5.25},
        **{"train_seconds": 100.0, "density": 1.0, "parameters": 2_600_000, "seed": 3, "epochs": 10, "steps": 700},
        **{"peak_memory_gib": 1.5, "environment": ENVIRONMENT},
    }
    write_json(exp_dir / name / "train.json", values | (train or {}))
    decode = {"command": f"asrsparse decode system={name}", "method": "greedy", "audio_hours": 0.08, "seconds": 4.5}
    write_json(decode_dir / "decode.json", decode)
    write_decoded(decode_dir, utterances(num_wrong, **texts))
    score(decode_dir, bootstrap)
    return decode_dir


@pytest.fixture
def exp_dir(tmp_path):
    make_system(tmp_path / "mini", "full-dense", 6)
    learned = {"density": 0.42, "train_seconds": 50.0, "masks": "learned"}
    make_system(tmp_path / "mini", "masks", 2, train=learned)
    return tmp_path / "mini"


def test_rows_hold_the_numbers_of_the_stages(exp_dir):
    report(exp_dir, ["full-dense", "masks"], method="greedy")
    results = json.loads((exp_dir / "results.json").read_text())
    assert (results["recipe"], results["split"], results["method"]) == ("mini", "test", "greedy")
    for row in results["rows"]:
        assert tuple(row)[: len(KEYS)] == KEYS
        train = json.loads((exp_dir / row["name"] / "train.json").read_text())
        scores = json.loads((exp_dir / row["name"] / "decode_test_greedy" / "score.json").read_text())
        for written in (train, scores):
            shared = row.keys() & written.keys()
            assert {key: row[key] for key in shared} == {key: written[key] for key in shared}
        assert row["decode_seconds"] == 4.5


def test_first_row_is_the_one_compared_with(exp_dir):
    first, second = report(exp_dir, ["full-dense", "masks"], method="greedy").rows
    assert (first.delta_wer, first.delta_ci_low, first.delta_ci_high, first.p_better) == (None,) * 4
    expected = compare(utterances(6), utterances(2), FEW)
    assert (second.delta_wer, second.delta_ci_low) == (expected.delta_wer, expected.delta_ci_low)
    assert second.delta_wer == pytest.approx(second.wer - first.wer)


def test_markdown_shows_what_the_rows_hold(exp_dir):
    first, second = report(exp_dir, ["full-dense", "masks"], method="greedy").rows
    text = (exp_dir / "RESULTS.md").read_text()
    assert text.startswith("# Results of mini\n")
    assert "split test, decoding greedy, 10 utterances, 50 words" in text
    interval = f"{100 * first.wer:.2f} [{100 * first.ci_low:.2f}, {100 * first.ci_high:.2f}]"
    assert f"| full-dense | {interval} | - | - |" in text
    assert f"| masks | 4.00 [{100 * second.ci_low:.2f}" in text
    assert f"| -8.00 [{100 * second.delta_ci_low:+.2f}" in text
    assert "| masks | 5.25 | 50 | 0.50 | 10 | 700 | 0.420 | 2.60 M | 1.50 | 4.5 | 3 |" in text
    assert "asrsparse train recipe=mini system=masks\nasrsparse decode system=masks\n```" in text
    assert "bootstrap over utterances, 200 resamples, seed 0" in text
    assert "Normaliser: none, version 1" in text
    assert "- date: `2026-11-20 10:00 UTC`\n- python: `3.11.2`" in text
    assert "rows differ" not in text


def test_every_table_line_has_the_same_number_of_cells(exp_dir):
    report(exp_dir, ["full-dense", "masks"], method="greedy")
    tables = [part for part in (exp_dir / "RESULTS.md").read_text().split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_simulated_sparsity_is_named_where_there_are_masks(exp_dir):
    report(exp_dir, ["full-dense"], method="greedy")
    assert "simulated sparsity" not in (exp_dir / "RESULTS.md").read_text()
    report(exp_dir, ["full-dense", "masks"], method="greedy")
    assert "simulated sparsity" in (exp_dir / "RESULTS.md").read_text()
    make_system(exp_dir, "masks-to-dense", 2, train={"masks": "learned"})
    report(exp_dir, ["masks-to-dense"], method="greedy")
    assert "simulated sparsity" in (exp_dir / "RESULTS.md").read_text()


def test_different_environments_are_shown(exp_dir):
    other = {"environment": ENVIRONMENT | {"date": "2026-11-21 09:00 UTC", "threads": "8", "gpu": "none"}}
    make_system(exp_dir, "elsewhere", 3, train=other)
    report(exp_dir, ["full-dense", "elsewhere"], method="greedy")
    text = (exp_dir / "RESULTS.md").read_text()
    assert "**The rows differ in threads, gpu**" in text
    assert "- threads of full-dense: `2`\n- threads of elsewhere: `8`" in text
    assert "- gpu of full-dense: `not recorded`" in text
    assert "- date: `2026-11-20 10:00 UTC to 2026-11-21 09:00 UTC`" in text


def test_runs_that_recorded_little_still_give_a_row(exp_dir):
    bare = {"command": "asrsparse train", "hours_heard": 1.0, "train_seconds": 0.0, "density": 1.0, "parameters": 10}
    write_json(exp_dir / "full-dense" / "train.json", bare)
    (row,) = report(exp_dir, ["full-dense"], method="greedy").rows
    assert (row.seed, row.steps, row.peak_memory_gib, row.environment) == (None, None, None, {})
    assert "Not recorded." in (exp_dir / "RESULTS.md").read_text()


def test_terminal_table(exp_dir):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_table(report(exp_dir, ["full-dense", "masks"], method="greedy")))
    text = console.export_text()
    assert [word for word in ("full-dense", "12.00", "[6.00, 18.00]", "-8.00", "0.420") if word not in text] == []
    assert "…" not in text


def test_no_folder_of_this_machine_is_told(exp_dir, monkeypatch):
    monkeypatch.chdir(exp_dir.parent)
    command = f"{exp_dir.parent}/.venv/bin/asrsparse train exp_dir={exp_dir} corpus.dir=/data/grid"
    make_system(exp_dir, "full-dense", 6, train={"command": command})
    (row,) = report(exp_dir, ["full-dense"], method="greedy").rows
    assert row.command == "asrsparse train exp_dir=mini corpus.dir=/path/to/grid"
    written = (exp_dir / "RESULTS.md").read_text() + (exp_dir / "results.json").read_text()
    assert str(exp_dir.parent) not in written
    assert "/data/grid" not in written
    assert "`/path/to/` in a command" in written


@pytest.mark.parametrize(
    "command", ["asrsparse train a=1/3 b=../c d=~/e f=${g}/h i=$J/k l=exp/m n=https://o/p", "a --b"]
)
def test_other_slashes_stay(command):
    assert portable_command(command) == command


@pytest.mark.parametrize(
    ("missing", "stage"),
    [("train.json", "train"), ("decode_test_greedy/decode.json", "decode"), ("decode_test_greedy/score.json", "score")],
)
def test_missing_stages_are_named(exp_dir, missing, stage):
    (exp_dir / "masks" / missing).unlink()
    message = rf"the stage `{stage}` has not finished. Run `asrsparse {stage} recipe=mini system=masks`"
    with pytest.raises(ValueError, match=message):
        report(exp_dir, ["full-dense", "masks"], method="greedy")
    assert not (exp_dir / "RESULTS.md").exists()


def test_the_remedy_names_the_modality_that_a_folder_is_called_after(exp_dir):
    message = r"Run `asrsparse train recipe=mini system=easy2hard-masks modality=audiovisual`"
    with pytest.raises(ValueError, match=message):
        report(exp_dir, ["easy2hard-masks-audiovisual"], method="greedy")


def test_incomplete_and_outdated_files_are_refused(exp_dir):
    write_json(exp_dir / "masks" / "train.json", {"command": "asrsparse train", "density": 1.0})
    with pytest.raises(ValueError, match=r"train.json has no hours_heard, train_seconds, parameters"):
        report(exp_dir, ["masks"], method="greedy")
    write_decoded(exp_dir / "full-dense" / "decode_test_greedy", utterances(5))
    with pytest.raises(
        ValueError, match=r"score.json has WER 0.12, but not its .*have changed since. Run `asrsparse score"
    ):
        report(exp_dir, ["full-dense"], method="greedy")


def test_what_was_normalised_is_reported_normalised(exp_dir):
    decode_dirs = [exp_dir / name / "decode_test_greedy" for name in ("full-dense", "masks")]
    loud = [replace(utterance, hypothesis=utterance.hypothesis.upper()) for utterance in utterances(6)]
    write_decoded(decode_dirs[0], loud)
    score(decode_dirs[0], FEW, load_normaliser("lower_no_punctuation"))
    with pytest.raises(ValueError, match=r"masks was scored with normaliser .*'none'.*Run `asrsparse score` for both"):
        report(exp_dir, ["full-dense", "masks"], method="greedy")
    score(decode_dirs[1], FEW, load_normaliser("lower_no_punctuation"))
    first, second = report(exp_dir, ["full-dense", "masks"], method="greedy").rows
    assert (first.wer, second.delta_wer) == (0.12, pytest.approx(-0.08))
    assert "Normaliser: lower_no_punctuation, version 1" in (exp_dir / "RESULTS.md").read_text()


def test_rows_that_cannot_be_compared_are_refused(exp_dir):
    make_system(exp_dir, "other-text", 2, last="please")
    with pytest.raises(ValueError, match="full-dense and other-text cannot be compared"):
        report(exp_dir, ["full-dense", "other-text"], method="greedy")
    make_system(exp_dir, "other-seed", 2, bootstrap=Bootstrap(resamples=200, seed=9))
    with pytest.raises(ValueError, match=r"other-seed was scored with bootstrap .*'seed': 9.*Run `asrsparse score`"):
        report(exp_dir, ["full-dense", "other-seed"], method="greedy")
    with pytest.raises(ValueError, match="No systems to report"):
        report(exp_dir, [], method="greedy")
