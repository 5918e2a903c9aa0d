"""Whole recipes through the commands that a user types, with a model small enough for a test."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro import MICRO

from asrsparse.cli import main

SYSTEMS = ["full-dense", "easy2hard-masks"]


def asrsparse(*words: str) -> None:
    """A command in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-m", "asrsparse", *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


def run_recipe(overrides: list[str]) -> None:
    """Stages 2 to 5 for two systems, the first one's in processes of their own."""
    for system, run in zip(SYSTEMS, (asrsparse, lambda *words: main(words)), strict=True):
        for stage in ("train", "decode", "score"):
            run(stage, f"system={system}", *overrides)
    main(["report", f"systems=[{','.join(SYSTEMS)}]", *overrides])


def check_results(exp_dir: Path, num_words: int) -> None:
    rows = json.loads((exp_dir / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == SYSTEMS
    for row in rows:
        assert 0 <= row["ci_low"] <= row["wer"] <= row["ci_high"]
        assert row["words"] == num_words
        assert row["train_seconds"] > 0
        assert row["parameters"] > 1000
        assert row["command"].startswith("asrsparse train ")
    assert rows[1]["hours_heard"] < rows[0]["hours_heard"]
    assert rows[0]["delta_wer"] is None
    markdown = (exp_dir / "RESULTS.md").read_text()
    assert all(row["command"] in markdown for row in rows)


@pytest.fixture
def short(tmp_path):
    """Overrides for a training of three short epochs into `tmp_path`."""
    plan = ["trainer.num_epochs=3", "pruning.plan.warmup_epochs=1", "pruning.plan.final_epochs=0"]
    return [*MICRO, *plan, "trainer.accelerator=cpu", f"exp_dir={tmp_path / 'exp'}"]


@pytest.mark.slow
def test_mini_from_cuts_to_the_table_and_nothing_twice(tiny_corpus, tmp_path, short, capsys, caplog):
    shutil.copytree(tiny_corpus / "cuts", tmp_path / "data" / "cuts")
    overrides = ["recipe=mini", f"data_dir={tmp_path / 'data'}", *short]
    run_recipe(overrides)
    assert "easy2hard-" in capsys.readouterr().out  # a narrow table breaks names
    num_words = sum(len(line.split("\t")[0].split()) for line in reference(tmp_path / "exp").splitlines())
    check_results(tmp_path / "exp", num_words)
    with caplog.at_level("INFO", "asrsparse"):
        for stage in ("train", "decode", "score"):
            main([stage, "system=full-dense", *overrides])
    said = [text.split()[-2:] for text in caplog.messages[-3:]]
    assert said == [["already", f"{what}."] for what in ("trained", "decoded", "scored")]
    check_that_other_data_is_not_taken_for_it(overrides, tmp_path / "data", capsys)


def check_that_other_data_is_not_taken_for_it(overrides, data_dir, capsys):
    """The same commands, after the corpus was prepared anew with one utterance less in each split."""
    for path in (data_dir / "cuts").glob("*_cuts.jsonl"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    for stage, message in {
        "train": "was begun with .* of training, .* holds others",
        "decode": "which are not those that",
    }.items():
        with pytest.raises(SystemExit):
            main([stage, "system=full-dense", *overrides])
        assert re.search(message, capsys.readouterr().err)


def reference(exp_dir: Path) -> str:
    return (exp_dir / "full-dense" / "decode_test_ctc_greedy" / "ref.trn").read_text()


def test_grid_from_videos_to_the_table(grid_dir, tmp_path, short):
    """Real speech: 150 utterances, whose test set has no letter that training lacks."""
    part = tmp_path / "grid"
    (part / "s1").mkdir(parents=True)
    for video in sorted((grid_dir / "s1").glob("*.m*"))[::6]:
        (part / "s1" / video.name).symlink_to(video)
    (part / "alignments").symlink_to(grid_dir / "alignments")
    overrides = ["recipe=grid", f"data_dir={tmp_path / 'data'}", *short]
    main(["prepare", *overrides, f"corpus.corpus_dir={part}", "corpus.max_left_out=0.5"])
    run_recipe(overrides)
    num_utterances = len(reference(tmp_path / "exp").splitlines())
    assert 5 <= num_utterances <= 40
    check_results(tmp_path / "exp", num_words=6 * num_utterances)
