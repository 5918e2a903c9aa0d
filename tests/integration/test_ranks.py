"""Several processes on CPUs (gloo): one set, each utterance once, equal steps, an end instead of a hang."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from micro import MICRO

PROGRAM = Path(__file__).with_name("ranks_program.py")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
EPOCHS = 4
pytestmark = pytest.mark.slow  # up to three processes, each with its own imports


def torchrun(num_ranks: int, *words: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), *words]


def training(tiny_corpus: Path, exp_dir: Path) -> list[str]:
    return [
        *("-m", "asrsparse", "train", *MICRO, f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", "name=run"),
        *("trainer.accelerator=cpu", f"trainer.num_epochs={EPOCHS}", "trainer.batch_seconds=8"),
        *("trainer.save_every_steps=1", "pruning=easy2hard", "pruning.plan.warmup_epochs=1"),
        *("pruning.plan.final_epochs=0", "segments=blank", "segments.blanks.warmup_visits=1"),
        "segments.final_epochs=1",
        *("masks=learned", "masks.method.until=0.5"),
    ]


def finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; one that takes too long is ended with its ranks: a killed torchrun leaves them."""
    with subprocess.Popen(
        command, env=ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            printed, messages = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, messages)


def run(command: list[str]) -> str:
    done = finished(command)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_epochs(run_dir: Path) -> None:
    """Every epoch saw each utterance that it kept once, and said so."""
    for epoch in range(EPOCHS):
        table = pq.read_table(run_dir / "pruning" / f"epoch_{epoch:03d}.parquet")
        assert table["times_seen"].to_pylist() == np.array(table["kept"]).astype(int).tolist()
    told = re.findall(r"each of \d+ kept utterances \(\S+ h\) was seen once", (run_dir / "train.log").read_text())
    assert len(told) == EPOCHS


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_all_ranks_choose_and_know_what_one_process_would(num_ranks):
    assert run(torchrun(num_ranks, str(PROGRAM))) == run([sys.executable, str(PROGRAM)])


def test_a_rank_that_dies_ends_the_others_and_fewer_ranks_go_on(tiny_corpus, tmp_path):
    """Killed in mid-epoch on three ranks, the run goes on with two: nothing is lost or doubled."""
    words = training(tiny_corpus, tmp_path)
    started = subprocess.Popen(torchrun(3, *words), env=ONE_THREAD, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "run" / "last.ckpt"
    wait_until(lambda: checkpoint.is_file() or started.poll() is not None)
    os.kill(rank_of(started.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, messages = started.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert started.returncode != 0
    assert re.search(r"rank [02] of 3 on \S+: error: another rank has ended, so this one cannot go on", messages)
    assert re.search(r"rank +: 1 .*\n.*exitcode +: -9", messages)
    run(torchrun(2, *words))
    check_epochs(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_what_is_wrong_on_one_rank_is_told_with_its_name(tiny_corpus, tmp_path):
    words = [*training(tiny_corpus, tmp_path), "pruning.keep_ratio=0.03", "pruning.plan.num_strata=1"]
    done = finished(torchrun(2, *words))
    assert done.returncode != 0
    message = r"rank [01] of 2 on \S+: error: 1 utterances are left in this epoch for 2 ranks.*Raise the keep ratio"
    assert re.search(message, done.stderr), done.stderr[-3000:]


def rank_of(torchrun_pid: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    children = Path(f"/proc/{torchrun_pid}/task/{torchrun_pid}/children").read_text().split()
    return next(
        int(p) for p in children if f"RANK={rank}".encode() in Path(f"/proc/{p}/environ").read_bytes().split(b"\0")
    )


def wait_until(happened) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
