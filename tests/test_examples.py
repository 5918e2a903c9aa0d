"""The examples run as they stand, and are as short as the README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(path: Path, folder: Path, *arguments: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, path, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_thirty_lines(path):
    assert len(path.read_text().splitlines()) <= 30


def test_the_plain_loop_prunes_learns_and_saves_what_a_resume_needs(tmp_path):
    printed = run(ROOT / "examples" / "plain_pytorch.py", tmp_path)
    kept = [int(share) for share in re.findall(r"kept (\d+)%", printed)]
    scores = [float(score) for score in re.findall(r"mean score ([\d.]+)", printed)]
    assert kept == [100, *[70] * 8, 100]
    assert scores[-1] < 0.6 * scores[0]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert len(saved["pruner"]["table"]["scores"]) == 1000


def test_lightnings_checkpoint_of_the_callback_example_holds_the_pruner(tmp_path):
    run(ROOT / "examples" / "lightning_callback.py", tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 20 + 4 * 14  # 1000 utterances, then 700, in batches of 50
    assert saved["callbacks"]["PruningCallback"]["epoch"] == 4


def test_the_lhotse_loop_prunes_real_cuts(tmp_path, tiny_corpus):
    cuts = tiny_corpus / "cuts" / "train_cuts.jsonl"
    printed = run(ROOT / "examples" / "lhotse_loop.py", tmp_path, cuts)
    kept = [int(share) for share in re.findall(r"kept (\d+)%", printed)]
    assert kept[0] == 100
    assert kept[1:] == [pytest.approx(70, abs=5)] * 3
