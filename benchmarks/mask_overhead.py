#!/usr/bin/env python3
"""What masks cost in a training step: seconds and memory, against the dense model.

    python benchmarks/mask_overhead.py [--model base] [--batch 8] [--seconds 15] [--rounds 5] [--threads 2]

Takes training steps (forward, backward, AdamW, masks) of a recogniser on noise, in turns: dense, with masks that are
learned, with fixed masks at density 0.5, and after the exit `dense`. Prints medians and their ratios to the dense step,
by the clock and by the processor's own time, which other programs on the machine disturb less. The peak memory of each
is that of a process of its own. Prints a table and one line of JSON.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.batch import Batch
from asrsparse.config import build, compose_config
from asrsparse.environment import environment
from asrsparse.masks import SparseMasks
from asrsparse.train import build_model, resolve_precision

VOCABULARY = 500
SAMPLING_RATE = 16000
SECONDS_PER_TOKEN = 0.25
MASKS = {
    "dense": ["masks=dense"],
    "learned": ["masks=learned", "masks.method.until=1.0", "+masks.method.stable_share=0.0"],
    "fixed, density 0.5": ["masks=random", "masks.method.density=0.5"],
    "after the exit": ["masks=random", "masks.method.density=0.5", "masks.method.exit=dense"],
}


@dataclass
class Trainee:
    """A model in training, one step at a time.

    Attributes:
        step: Takes a training step.
        masks: Its masks.
    """

    step: Callable[[], None]
    masks: SparseMasks


def make(options: argparse.Namespace, row: str) -> Trainee:
    """A model with the masks of a row, and what it takes to train it."""
    torch.manual_seed(0)
    config = compose_config([f"model={options.model}", *MASKS[row]])
    model = build_model(config, VOCABULARY).train()
    masks = SparseMasks.attach(model, build(config.masks.method))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=1e-4, weight_decay=1e-2), betas=(0.9, 0.98))
    if row == "after the exit":
        masks.finish("dense", optimizer)
    batch = make_batch(options.batch, options.seconds)
    precision = resolve_precision(options.precision, "cpu")
    done = 0

    def step() -> None:
        nonlocal done
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = model(batch).total.mean() + masks.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        masks.step(min(0.5, done / 1000), optimizer)

    return Trainee(step, masks)


def make_batch(size: int, seconds: float) -> Batch:
    """Noise, with random labels."""
    generator = torch.Generator().manual_seed(0)
    samples, tokens = int(seconds * SAMPLING_RATE), int(seconds / SECONDS_PER_TOKEN)
    return Batch(
        ids=[str(number) for number in range(size)],
        audio=0.1 * torch.randn(size, samples, generator=generator),
        audio_lens=torch.full((size,), samples),
        tokens=torch.randint(1, VOCABULARY - 1, (size, tokens), generator=generator),
        token_lens=torch.full((size,), tokens),
        seconds=size * seconds,
    )


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of each step, by row: of the clock, and of the processor. The first step of each is not counted."""
    trainees = {row: make(options, row) for row in MASKS}
    seconds: dict[str, dict[str, list[float]]] = {row: {"clock": [], "processor": []} for row in MASKS}
    turns = [(number, row) for number in range(options.rounds + 1) for row in MASKS]
    for number, row in track(turns, description="Training"):
        clock, processor = time.perf_counter(), time.process_time()
        trainees[row].step()
        if number:
            seconds[row]["clock"].append(time.perf_counter() - clock)
            seconds[row]["processor"].append(time.process_time() - processor)
    return seconds


def peak_gib(options: argparse.Namespace, row: str) -> float:
    """The peak memory of a process that takes three steps."""
    command = [sys.executable, __file__, "--peak-of", row, "--model", options.model, "--precision", options.precision]
    command += ["--batch", str(options.batch), "--seconds", str(options.seconds), "--threads", str(options.threads)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(printed.splitlines()[-1]))


def show(options: argparse.Namespace, seconds: dict[str, dict[str, list[float]]], peaks: dict[str, float]) -> None:
    """Prints the table and the line of JSON."""
    title = f"{options.model}, {options.batch} x {options.seconds:g} s, {options.precision}, {options.threads} threads"
    medians = {row: {by: statistics.median(values) for by, values in of.items()} for row, of in seconds.items()}
    dense = medians["dense"]
    ratios = {row: {by: median / dense[by] for by, median in of.items()} for row, of in medians.items()}
    columns = ("masks", "s a step", "of dense", "processor s", "of dense", "peak GiB", "more than dense")
    table = Table(*columns, title=title)
    for row, of in medians.items():
        more = f"{peaks[row] - peaks['dense']:+.2f}"
        clock, processor = (f"{of[by]:.2f}" for by in ("clock", "processor"))
        clock_ratio, processor_ratio = (f"{ratios[row][by]:.3f}" for by in ("clock", "processor"))
        table.add_row(row, clock, clock_ratio, processor, processor_ratio, f"{peaks[row]:.2f}", more)
    Console().print(table)
    record = {
        "benchmark": "mask_overhead",
        "options": {key: value for key, value in vars(options).items() if key != "peak_of"},
        "seconds": seconds,
        "ratio_to_dense": ratios,
        "peak_gib": peaks,
        "environment": environment(),
    }
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="What masks cost in a training step.")
    parser.add_argument("--model", default="base", help="a choice of the group model")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of an utterance")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each that are counted")
    parser.add_argument("--threads", type=int, default=2, help="threads of the process")
    parser.add_argument("--precision", default="auto", help="as trainer.precision: auto, 32-true or bf16-mixed")
    parser.add_argument("--peak-of", choices=list(MASKS), help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        trainee = make(options, options.peak_of)
        for _ in range(3):
            trainee.step()
        sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}\n")
        return
    peaks = {row: peak_gib(options, row) for row in MASKS}
    show(options, measure(options), peaks)


if __name__ == "__main__":
    main()
