"""A sweep through the command that a user types: stopped, gone on with, a failure among its runs, one table."""

import json
import signal
import subprocess
import sys
import time

import pytest
from micro import MICRO


@pytest.fixture
def words(tiny_corpus, tmp_path):
    """A sweep of two seeds, of which each trains a few updates."""
    short = ["trainer.num_epochs=2", "pruning.plan.warmup_epochs=0", "pruning.plan.final_epochs=0"]
    places = [f"data_dir={tiny_corpus}", f"exp_dir={tmp_path / 'exp'}", "trainer.accelerator=cpu"]
    return ["sweep", *MICRO, *short, *places, "seed=0,1"]


def start(words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "asrsparse", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(condition, process: subprocess.Popen, seconds: int = 300) -> None:
    for _ in range(10 * seconds):
        if condition():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    raise AssertionError("not within the time")


@pytest.mark.slow
def test_a_sweep_is_stopped_goes_on_and_names_what_fails(words, tmp_path):
    exp_dir = tmp_path / "exp"
    stopped = start(words)
    until((exp_dir / "seed0" / "last.ckpt").is_file, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert "Run the same command again to go on" in stopped.communicate()[0]
    assert stopped.returncode == 130
    assert not (exp_dir / "seed1").exists()

    (exp_dir / "seed1").mkdir()
    (exp_dir / "seed1" / "last.ckpt").write_text("broken")
    failed = start(words)
    printed = failed.communicate()[0]
    assert failed.returncode == 1, printed
    assert "2 runs in " in printed
    assert f"seed1 failed: ended with status 1; {exp_dir / 'seed1' / 'sweep.log'}" in printed
    assert "resuming from" in (exp_dir / "seed0" / "sweep.log").read_text()
    assert (exp_dir / "seed0" / "sweep.log").read_text().count("+ ") == 4  # train twice, decode, score
    (mean,) = json.loads((exp_dir / "sweep.json").read_text())["means"]["test"]
    (row,) = json.loads((exp_dir / "results.json").read_text())["rows"]
    assert (mean["name"], mean["seeds"], row["name"], row["seed"]) == ("full-dense", 1, "seed0", 0)
    assert mean["wer"] == row["wer"]
