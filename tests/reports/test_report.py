"""The report of a recipe: its numbers are those of the stages, in every file, and it refuses what does not belong."""

import json
from dataclasses import replace

import pytest
from scored_runs import FEW, make_system, utterances, write_config

from asrsparse.cli import main
from asrsparse.reports.report import report, report_runs
from asrsparse.scoring.bootstrap import compare
from asrsparse.scoring.normalisers import load_normaliser
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

KEYS = ("name", "wer", "ci_low", "ci_high", "words", "hours_heard", "train_seconds", "density", "parameters", "command")
FILES = ("RESULTS.md", "results.json", "results.csv", "results.tex", "report.html")


@pytest.fixture
def exp_dir(tmp_path):
    make_system(tmp_path / "mini", "full-dense", 6)
    make_system(tmp_path / "mini", "masks", 2, train={"density": 0.42, "train_seconds": 50.0, "masks": "learned"})
    return tmp_path / "mini"


def test_rows_hold_the_numbers_of_the_stages(exp_dir):
    report(exp_dir, ["full-dense", "masks"], method="greedy")
    results = json.loads((exp_dir / "results.json").read_text())
    assert results["recipe"] == "mini"
    assert results["sections"] == [{"split": "test", "method": "greedy", "missing": []}]
    for row in results["rows"]:
        assert tuple(row)[: len(KEYS)] == KEYS
        train = json.loads((exp_dir / row["name"] / "train.json").read_text())
        scores = json.loads((exp_dir / row["name"] / "decode_test_greedy" / "score.json").read_text())
        for written in (train, scores):
            shared = row.keys() & written.keys()
            assert {key: row[key] for key in shared} == {key: written[key] for key in shared}
        assert row["decode_seconds"] == 4.5
        errors = sum(row[f"character_{kind}"] for kind in ("insertions", "deletions", "substitutions"))
        assert errors / row["characters"] == pytest.approx(scores["cer"])


def test_first_row_is_the_one_compared_with(exp_dir):
    first, second = report(exp_dir, ["full-dense", "masks"], method="greedy").rows
    assert (first.delta_wer, first.delta_ci_low, first.delta_ci_high, first.p_better) == (None,) * 4
    expected = compare(utterances(6), utterances(2), FEW)
    assert (second.delta_wer, second.delta_ci_low) == (expected.delta_wer, expected.delta_ci_low)
    assert second.delta_wer == pytest.approx(second.wer - first.wer)


def test_test_sets_stand_in_the_order_of_the_splits(exp_dir):
    splits = ["dev-other", "test", "dev-clean"]
    for split in splits:
        for name in ("full-dense", "masks"):
            make_system(exp_dir, name, 3, split=split)
    made = report(exp_dir, ["masks", "full-dense"], method="greedy", splits=splits)
    assert [section.split for section in made.sections] == splits
    text = (exp_dir / "RESULTS.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Environments", *(f"## {split}" for split in splits), "## Cost", "## Commands", headings[-1]]
    assert [row["split"] for row in json.loads((exp_dir / "results.json").read_text())["rows"]] == [
        split for split in splits for _ in range(2)
    ]


def test_a_report_that_is_refused_writes_nothing(exp_dir):
    (exp_dir / "masks" / "train.json").unlink()
    with pytest.raises(ValueError, match="the stage `train` has not finished"):
        report(exp_dir, ["full-dense", "masks"], method="greedy")
    assert not any((exp_dir / name).exists() for name in FILES)


def test_all_files_lie_in_the_folder_that_holds_the_runs(exp_dir):
    make_system(exp_dir.parent / "grid", "full-dense", 1)
    for folders, where in (
        ([exp_dir], exp_dir),
        ([exp_dir / "masks", exp_dir / "full-dense"], exp_dir),
        ([exp_dir / "masks"], exp_dir / "masks"),
        ([exp_dir.parent / "grid", exp_dir], exp_dir.parent),
    ):
        report_runs(folders)
        assert all((where / name).is_file() for name in FILES), where
        for name in FILES:
            (where / name).unlink()


def test_modalities_share_a_report(exp_dir):
    for name, modality in (("full-dense", "audio"), ("masks", "audio"), ("full-dense-video", "video")):
        make_system(exp_dir, name, 4)
        write_config(exp_dir / name, modality)
    made = report_runs([exp_dir])
    assert [(row.name, row.modality) for row in made.rows] == [
        ("full-dense", "audio"),
        ("masks", "audio"),
        ("full-dense-video", "video"),
    ]
    assert "| full-dense-video | video |" in (exp_dir / "RESULTS.md").read_text()
    assert "full-dense-video & video &" in (exp_dir / "results.tex").read_text()
    report_runs([exp_dir / "full-dense", exp_dir / "masks"])
    assert "modality" not in (exp_dir / "RESULTS.md").read_text()


def test_the_command_takes_folders(exp_dir, capsys):
    main(["report", str(exp_dir), "baseline=masks", "method=greedy"])
    printed = capsys.readouterr().out
    assert printed.index(" masks ") < printed.index(" full-dense ")
    assert "[6.00, 18.00]" in printed
    assert (exp_dir / "report.html").is_file()


def test_the_command_takes_no_overrides_beside_folders(exp_dir, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(exp_dir), "recipe=grid"])
    message = capsys.readouterr().err
    assert "report: got recipe=grid, allowed are folders that exist, baseline=VALUE, method=VALUE." in message


def test_the_command_of_a_recipe_reports_all_its_test_sets(exp_dir, capsys):
    for split in ("test-clean", "test-other"):
        make_system(exp_dir, "masks", 2, split=split, method="ctc_greedy")
    words = ["corpus.test_splits=[test-other,test-clean]", "systems=[masks]"]
    main(["report", f"exp_dir={exp_dir}", *words])
    printed = capsys.readouterr().out
    assert printed.index("Split test-other") < printed.index("Split test-clean")


def test_the_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "report EXP ... [baseline=RUN] [method=NAME]" in capsys.readouterr().out


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
    assert "Normaliser of both texts: lower_no_punctuation, version 1" in (exp_dir / "RESULTS.md").read_text()
