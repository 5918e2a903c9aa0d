"""A training with a budget, through the command that a user types: where it ends, resuming, the time of another run."""

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from micro import MICRO
from safetensors.torch import load_file

from asrsparse.cli import main
from asrsparse.config import compose_config
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path
from asrsparse.files import read_json
from asrsparse.reports.learning_curves import read_curves
from asrsparse.training.train import train

EASY2HARD = ["pruning=easy2hard", "pruning.plan.warmup_epochs=1", "pruning.plan.final_epochs=0"]


def words_of(corpus: Path, exp_dir: Path, *more: str) -> list[str]:
    places = [f"data_dir={corpus}", f"exp_dir={exp_dir}"]
    return [*MICRO, *places, "trainer.accelerator=cpu", "trainer.batch_seconds=6", "trainer.num_threads=1", *more]


def hours_of(corpus: Path) -> float:
    return float(CutIndex.open(cuts_path(corpus / "cuts", "train")).durations.sum()) / 3600


def left_by(run_dir: Path) -> dict[str, object]:
    weights = {
        path.name: {k: v.numpy().tobytes() for k, v in load_file(path).items()} for path in run_dir.rglob("*.s*")
    }
    logs = {path.name: pq.read_table(path).to_pydict() for path in (run_dir / "pruning").glob("*.parquet")}
    cost = {key: read_json(run_dir / "train.json")[key] for key in ("steps", "hours_heard", "epochs", "budget")}
    return weights | logs | cost


def kill_after(words: list[str], checkpoint: Path, number: int) -> None:
    """Trains in a process of its own, and kills it when it has written so many checkpoints."""
    process = subprocess.Popen([sys.executable, "-m", "asrsparse", "train", *words], stderr=subprocess.DEVNULL)
    last = 0
    while number > 0:
        assert process.poll() is None, "the training ended before it was to be killed"
        found = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        number, last = number - (found != last), found
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_budget_of_hours_ends_within_an_epoch_with_its_schedules_and_resumes_exactly(tiny_corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="asrsparse")
    hours = 2.5 * hours_of(tiny_corpus)
    common = [*EASY2HARD, "name=run", f"trainer.budget.hours={hours}", "trainer.save_every_steps=1"]
    words = words_of(tiny_corpus, tmp_path / "whole", *common)
    main(["train", *words])
    run_dir = tmp_path / "whole" / "run"
    record = read_json(run_dir / "train.json")
    longest = 6 / 3600  # of a batch
    assert hours <= record["hours_heard"] < hours + longest
    assert record["epochs"] == len(list(run_dir.glob("snapshots/*"))) == 4  # 1 + 0.7 + 0.7, and a part
    assert "epoch 4/4" in caplog.text
    assert "the budget ended within this epoch" in caplog.text
    assert "not trained as planned" not in caplog.text
    curves = read_curves(run_dir)
    assert list(curves["dev_wer"]) == list(curves["train_seconds"]) == [1, 2, 3, 4]
    assert sorted(curves["train_seconds"].values()) == list(curves["train_seconds"].values())

    again = words_of(tiny_corpus, tmp_path / "killed", *common)
    kill_after(again, tmp_path / "killed" / "run" / "last.ckpt", record["steps"] // 2)
    main(["train", *again])
    assert "resuming from" in (tmp_path / "killed" / "run" / "train.log").read_text()
    assert left_by(tmp_path / "killed" / "run") == left_by(run_dir)

    shutil.copytree(run_dir, tmp_path / "at-its-end" / "run", ignore=shutil.ignore_patterns("train.json", "model.*"))
    (tmp_path / "at-its-end" / "run" / "config.yaml").unlink()
    main(["train", *words_of(tiny_corpus, tmp_path / "at-its-end", *common)])
    assert left_by(tmp_path / "at-its-end" / "run") == left_by(run_dir)


def test_full_data_in_the_time_of_another_system_by_its_name(tiny_corpus, tmp_path):
    common = words_of(tiny_corpus, tmp_path, "trainer.num_epochs=3", *EASY2HARD[1:], "trainer.accumulate=2")
    with pytest.raises(ValueError, match=r"same_time_as: got easy2hard, allowed is the name of a finished run"):
        train(compose_config([*common, "system=full-dense-as-easy2hard"]), "test")
    records = {
        system: train(compose_config([*common, f"system={system}"]), "test")
        for system in ("full-dense", "easy2hard", "full-dense-as-easy2hard")
    }
    full, timed, same = records.values()
    wanted = full["hours_heard"] * timed["train_seconds"] / full["train_seconds"]
    assert same["budget"]["hours"] == pytest.approx(wanted)
    assert wanted <= same["hours_heard"] * (1 + 1e-6) < wanted + 2 * 6 / 3600 + 1e-6


def test_a_budget_of_seconds_ends_by_the_clock(tiny_corpus, tmp_path):
    words = words_of(tiny_corpus, tmp_path, "name=run", "trainer.budget.seconds=8", "trainer.num_epochs=2")
    record = train(compose_config(words), "test")
    assert record["train_seconds"] >= 8
    assert record["epochs"] >= 1
    with pytest.raises(ValueError, match=r"^trainer\.budget\.seconds: got 0\.001, which ends in the first epoch"):
        train(compose_config([*words, "name=short", "trainer.budget.seconds=0.001"]), "test")
