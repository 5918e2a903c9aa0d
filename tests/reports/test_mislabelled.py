import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from asrsparse.pruning import ScoreTable
from asrsparse.reports import pruning_report
from asrsparse.reports.mislabelled import find_suspects, html_section, summary, to_table
from asrsparse.reports.pruning_report import LOG, report_pruning

NUM_EPOCHS, SIZE, WRONG = 8, 60, (7, 33)


def write_run(folder, num_epochs=NUM_EPOCHS, smoothing=0.7):
    """A run in which two transcripts are wrong: their losses stop falling."""
    rng = np.random.default_rng(0)
    ids = [f"u{number:02d}" for number in range(SIZE - 1)] + ["<b>"]
    table = ScoreTable(ids, [2.0] * SIZE, smoothing)
    (folder / "pruning").mkdir(parents=True)
    OmegaConf.save({"pruning": {"smoothing": smoothing}}, folder / "config.yaml")
    for epoch in range(num_epochs):
        losses = 4.0 * 0.6**epoch * rng.uniform(0.8, 1.25, SIZE)
        losses[list(WRONG)] = [2.5 + 0.3 * epoch, 3.0]
        rows = np.flatnonzero(rng.random(SIZE) < 0.8) if epoch else np.arange(SIZE)
        table.update(rows, losses[rows], epoch)
        times_seen = np.bincount(rows, minlength=SIZE).astype(np.uint8)
        columns = {"id": ids, "duration": table.durations, "kept": times_seen > 0, "times_seen": times_seen}
        columns |= {"score": table.scores.copy(), "last_seen": table.last_seen.copy()}
        pq.write_table(pa.table(columns), folder / "pruning" / f"epoch_{epoch:03d}.parquet")
    return folder


def suspects_of(folder, reference=None):
    return find_suspects(folder, sorted(folder.glob(LOG)), reference)


def test_utterances_whose_losses_do_not_fall_like_the_others_are_listed(tmp_path):
    found = suspects_of(write_run(tmp_path / "run"))
    assert {suspect.id for suspect in found.utterances} == {"u07", "u33"}
    assert found.num_compared == pytest.approx(SIZE, abs=2)
    first = found.utterances[0]
    assert first.score == min(suspect.score for suspect in found.utterances) < 0.5
    assert first.loss > 2.0 > first.usual_loss
    assert first.suggestion == "compare the transcript with the recording"
    assert summary(found).startswith(f"2 of {found.num_compared} loss curves do not go with the usual one")


def test_a_clean_reference_takes_the_place_of_all_utterances(tmp_path):
    run = write_run(tmp_path / "run")
    wrong = [f"u{row:02d}" for row in WRONG]
    assert {s.id for s in suspects_of(run, ["u01", "u02", "u03", "elsewhere"]).utterances} == set(wrong)
    assert len(suspects_of(run, wrong[:1]).utterances) != 2  # a bad reference makes a bad list
    with pytest.raises(ValueError, match=r"^reference: got 1 ids, allowed are ids of the training set.*'u00'"):
        suspects_of(run, ["elsewhere"])


def test_a_training_that_has_just_begun_has_no_list(tmp_path):
    found = suspects_of(write_run(tmp_path / "run", num_epochs=2))
    assert (found.utterances, found.num_compared) == ([], 0)
    assert summary(found).startswith("No utterance was trained on in 4 epochs yet")
    assert "<table>" not in html_section(found)


def test_page_file_and_table_show_the_same_utterances(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run")
    (tmp_path / "clean.txt").write_text("u01\nu02\nu03\n")
    monkeypatch.setattr(pruning_report, "_sections_of_run", lambda *_: [])  # plots of a real run
    page, (found,) = report_pruning([run], reference=tmp_path / "clean.txt")
    (written,) = json.loads(page.with_suffix(".json").read_text())["mislabelled"]
    assert (written["name"], [u["id"] for u in written["utterances"]]) == ("run", [s.id for s in found.utterances])
    assert "Utterances that look mislabelled" in page.read_text()
    with Console(width=160).capture() as _:
        console = Console(width=160, record=True)
        console.print(to_table(found))
    for text in (page.read_text(), console.export_text()):
        assert all(suspect.id in text for suspect in found.utterances)
