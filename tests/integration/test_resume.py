"""Invariants of a whole training, through the command that a user types: the null objects, exact resume, two ranks."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from micro import MICRO
from safetensors import safe_open
from safetensors.torch import load_file

from asrsparse.cli import main
from asrsparse.config import build, compose_config
from asrsparse.data.batch import BatchDataset
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path
from asrsparse.data.sampler import EpochSampler, duration_bins
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.files import read_json
from asrsparse.models.builders import build_model
from asrsparse.pruning import KeptSet, ScoreTable
from asrsparse.training.train import train

EPOCHS = 3
BLANKS = ["segments=blank", "segments.blanks.warmup_visits=1", "segments.final_epochs=0"]
LEARNED = ["masks=learned", "masks.method.until=0.5", "pruning=easy2hard", "pruning.plan.warmup_epochs=1"]


def overrides(tiny_corpus: Path, exp_dir: Path, *more: str) -> list[str]:
    return [
        *MICRO,
        f"data_dir={tiny_corpus}",
        f"exp_dir={exp_dir}",
        f"trainer.num_epochs={EPOCHS}",
        "trainer.accelerator=cpu",
        "pruning.plan.final_epochs=0",
        *more,
    ]


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "asrsparse", *words]


def one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def plain_loop(tiny_corpus: Path, words: list[str]) -> dict[str, torch.Tensor]:
    """The same parts in a loop of their own: no pruner, no masks, no Lightning module."""
    config = compose_config(words)
    L.seed_everything(config.seed, verbose=False)
    index = CutIndex.open(cuts_path(tiny_corpus / "cuts", "train"))
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    model = build_model(config, tokenizer.vocab_size)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.optim.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.optim.lr,
        betas=(0.9, 0.98),
    )
    lr_schedule = build(config.optim.lr_schedule)
    total = EPOCHS * index.durations.sum()
    everything = KeptSet(ScoreTable(index.ids.to_pylist(), index.durations), np.ones(len(index), dtype=np.bool_))
    bins = duration_bins(everything.table.durations, config.trainer.num_buckets)
    heard = 0.0
    model.train()
    for epoch in range(EPOCHS):
        for rows in EpochSampler(everything, config.trainer.batch_seconds, bins, config.seed, epoch):
            for group in optimizer.param_groups:
                group["lr"] = config.optim.lr * lr_schedule(heard / total)
            batch = BatchDataset(tokenizer.encode)[index.read(rows)]
            optimizer.zero_grad()
            model(batch).total.mean().backward()
            # In the optimiser's order, as Lightning does: the norm is a sum, and its last bits depend on the order.
            torch.nn.utils.clip_grad_norm_([*matrices, *vectors], config.trainer.clip)
            optimizer.step()
            heard += batch.seconds
    return model.state_dict()


def test_no_pruning_and_dense_masks_equal_a_plain_loop_bit_for_bit(tiny_corpus, tmp_path):
    words = overrides(tiny_corpus, tmp_path, "pruning=none", "masks=dense", "trainer.average.num=1")
    train(compose_config(words), "test")
    ours = load_file(tmp_path / "full-dense" / "model.safetensors")
    plain = plain_loop(tiny_corpus, words)
    assert ours.keys() == plain.keys()
    different = [name for name in plain if not torch.equal(plain[name], ours[name])]
    assert different == []


def what_a_run_left(run_dir: Path) -> dict[str, object]:
    """The weights, averaged and by epoch, what the pruner knew and chose in each epoch, what was measured of masks."""
    weights = {path.name: what_it_holds(path) for path in run_dir.rglob("*.safetensors")}
    logs = {str(path.relative_to(run_dir)): pq.read_table(path).to_pydict() for path in run_dir.glob("*/*.parquet")}
    return weights | logs | {"FLOPs": read_json(run_dir / "masks" / "flops.json")}


def what_it_holds(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Metadata and the bits of the weights; the order of the metadata in the file is any."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    return metadata, {name: value.numpy().tobytes() for name, value in load_file(path).items()}


def train_in_child(words: list[str]) -> None:
    torch.set_num_threads(1)
    train(compose_config(words), "test")


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_a_run_ends_the_same(tiny_corpus, tmp_path):
    """Twenty runs, each killed once at a random moment and started again: weights, scores and sets are the same."""
    children = multiprocessing.get_context("forkserver")
    children.set_forkserver_preload(["asrsparse.training.train"])

    def start(run_dir: Path) -> multiprocessing.Process:
        methods = [*LEARNED, *BLANKS, "optim=adamw_largest"]
        words = overrides(
            tiny_corpus, run_dir, *methods, "trainer.save_every_steps=1", "name=run", "trainer.num_epochs=2"
        )
        child = children.Process(target=train_in_child, args=(words,))
        child.start()
        return child

    start(tmp_path / "whole").join()
    whole = what_a_run_left(tmp_path / "whole" / "run")
    assert len(whole) == 10
    num_checkpoints = read_json(tmp_path / "whole" / "run" / "train.json")["steps"]
    moments, num_killed = random.Random(0), 0
    for number in range(20):
        child = start(tmp_path / str(number))
        wait_for_checkpoints(tmp_path / str(number) / "run" / "last.ckpt", moments.randrange(num_checkpoints), child)
        child.join(timeout=moments.uniform(0.0, 0.3))
        child.kill()
        child.join()
        num_killed += child.exitcode == -signal.SIGKILL
        start(tmp_path / str(number)).join()
        assert what_a_run_left(tmp_path / str(number) / "run") == whole, f"run {number}"
        shutil.rmtree(tmp_path / str(number))
    assert num_killed >= 15  # after its last checkpoint a run may end before it is killed


def wait_for_checkpoints(path: Path, number: int, child: multiprocessing.Process) -> None:
    """Returns when `path` has been written so often, or the child has ended."""
    written = 0
    while number > 0 and child.is_alive():
        found = path.stat().st_mtime_ns if path.exists() else 0
        number -= found != written
        written = found
        time.sleep(0.002)


def wait_for_new(path: Path, process: subprocess.Popen) -> None:
    """Returns when `path` has been written anew."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None, "the training ended before its next checkpoint"
        assert time.monotonic() < deadline, "no new checkpoint within two minutes"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_the_same_command_goes_on(number, tiny_corpus, tmp_path):
    words = overrides(tiny_corpus, tmp_path, "trainer.save_every_steps=1", "name=run")
    checkpoint = tmp_path / "run" / "last.ckpt"
    process = subprocess.Popen(command(["train", *words]), env=one_thread(), stderr=subprocess.PIPE, text=True)
    wait_for_new(checkpoint, process)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"{number.name} received: finishing this update" in messages
    assert "Run the same command again to go on." in messages
    assert "Traceback" not in messages
    main(["train", *words])  # in this process, which saves imports
    assert "resuming from" in (tmp_path / "run" / "train.log").read_text()
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_finished_run_is_not_trained_again(tiny_corpus, tmp_path):
    config = compose_config(overrides(tiny_corpus, tmp_path, "trainer.num_epochs=1", "name=run"))
    first = train(config, "test")
    written = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert train(config, "test")["train_seconds"] == first["train_seconds"]
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == written


def test_a_checkpoint_of_another_model_is_refused(tiny_corpus, tmp_path):
    words = overrides(tiny_corpus, tmp_path, "trainer.num_epochs=1", "name=run")
    train(compose_config(words), "test")
    for file in ("model.safetensors", "config.yaml"):
        (tmp_path / "run" / file).unlink()
    with pytest.raises(
        ValueError, match=r"checkpoint is of another model: .* is \(64,\) in the checkpoint and \(128,\) here"
    ):
        train(compose_config([*words, "model.encoder.linear_units=128"]), "test")


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one_whole(tiny_corpus, tmp_path):
    """The limit on the size of files stands for a full disk: writing fails in the middle."""
    words = overrides(tiny_corpus, tmp_path, "name=run", "trainer.save_every_steps=1")
    train(compose_config([*words, "trainer.num_epochs=1", "name=small"]), "test")
    size = (tmp_path / "small" / "last.ckpt").stat().st_size
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2})); "
    limited += "from asrsparse.cli import main; main(sys.argv[1:])"
    finished = subprocess.run(
        [sys.executable, "-c", limited, "train", *words], env=one_thread(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert "last.ckpt cannot be written" in finished.stderr
    assert "there is no older one. Make room and run the same command again" in finished.stderr
    assert list((tmp_path / "run").glob("*.ckpt*")) == []
    main(["train", *words])  # in this process, which saves imports
    assert (tmp_path / "run" / "model.safetensors").is_file()
