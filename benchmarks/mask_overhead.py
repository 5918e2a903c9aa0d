#!/usr/bin/env python3
"""The cost of masks in a training step: seconds and memory, compared with the dense model.

    python benchmarks/mask_overhead.py [--model base] [--batch 8] [--seconds 15] [--rounds 5] [--threads 2]

Takes training steps (forward, backward, AdamW, masks) of a recogniser on noise, in turns: dense, with masks that are
learned, with fixed masks, with an optimiser that remembers live weights only, just after the exit `dense`, and after
masks have moved several times. Prints medians and their ratios to the dense step, by the clock and by the processor's
own time, which other programs on the machine disturb less. The peak memory of each is that of a process of its own; the
optimiser's is what its state takes. Prints a table and one line of JSON.
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

from asrsparse.config import build, compose_config
from asrsparse.data.batch import Batch
from asrsparse.environment import environment
from asrsparse.masks import SparseAdamW, SparseMasks
from asrsparse.models.builders import build_model
from asrsparse.rates import SAMPLING_RATE
from asrsparse.training.fit import resolve_precision

VOCABULARY = 500
SECONDS_PER_TOKEN = 0.25
WARM_UP = 3  # steps that are not counted: the first ones of a process take up to twice as long


@dataclass(frozen=True)
class Row:
    """One row of the table: a model, its masks and its optimiser.

    Attributes:
        masks: Overrides that choose the masks.
        optimizer: The optimiser's class.
        exit: Whether the exit to dense weights was taken before the measurement.
        moves: How often masks have moved before the measurement; they stay during it.
    """

    masks: list[str]
    optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW
    exit: bool = False
    moves: int = 0


MOVE_EVERY = 0.04  # of the training of 1,000 steps: no move is among the steps that are measured


def fixed(density: float) -> list[str]:
    """Returns the overrides for masks that do not change."""
    return ["masks=random", f"masks.method.density={density}"]


ROWS = {
    "dense": Row(["masks=dense"]),
    "learned": Row(["masks=learned", "masks.method.until=1.0", "+masks.method.stable_share=0.0"]),
    "fixed 0.5": Row(fixed(0.5)),
    "fixed 0.5, SparseAdamW": Row(fixed(0.5), SparseAdamW),
    "fixed 0.2, SparseAdamW": Row(fixed(0.2), SparseAdamW),
    "just after the exit": Row(fixed(0.5), exit=True),
    "moved 10 times": Row(["masks=set", "masks.method.density=0.5", f"masks.method.every={MOVE_EVERY}"], moves=10),
}


@dataclass
class Trainee:
    """A model in training, one step at a time.

    Attributes:
        step: Takes a training step.
        optimizer: What it trains with.
    """

    step: Callable[[], None]
    optimizer: torch.optim.Optimizer

    @property
    def optimizer_gib(self) -> float:
        """Returns the memory of the optimiser's state."""
        tensors = [t for state in self.optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
        return sum(t.numel() * t.element_size() for t in tensors) / 2**30


def make(options: argparse.Namespace, row: str) -> Trainee:
    """Returns a model with the masks of a row, ready to be trained."""
    torch.manual_seed(0)
    config = compose_config([f"model={options.model}", *ROWS[row].masks])
    model = build_model(config, VOCABULARY).train()
    masks = SparseMasks.attach(model, build(config.masks.method))
    optimizer = ROWS[row].optimizer(masks.param_groups(lr=1e-4, weight_decay=1e-2), betas=(0.9, 0.98))
    if ROWS[row].exit:
        masks.finish("dense", optimizer)
    batch = make_batch(options.batch, options.seconds)
    precision = resolve_precision(options.precision, "cpu")
    for move in range(1, ROWS[row].moves + 1):
        masks.step(move * MOVE_EVERY, optimizer)
    done = int(1000 * MOVE_EVERY * ROWS[row].moves)

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

    return Trainee(step, optimizer)


def make_batch(size: int, seconds: float) -> Batch:
    """Returns a batch of noise, with random labels."""
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
    """Returns the seconds of each step, by row, of the clock and of the processor, each next to a dense step."""
    seconds: dict[str, dict[str, list[float]]] = {row: {"clock": [], "processor": []} for row in options.rows}
    for row in track([row for row in options.rows if row != "dense"], description="Training"):
        trainees = {name: make(options, name) for name in ("dense", row)}
        for number in range(WARM_UP + options.rounds):
            for name, trainee in trainees.items():
                clock, processor = time.perf_counter(), time.process_time()
                trainee.step()
                if number >= WARM_UP:
                    seconds[name]["clock"].append(time.perf_counter() - clock)
                    seconds[name]["processor"].append(time.process_time() - processor)
    return seconds


def memory(options: argparse.Namespace, row: str) -> dict[str, float]:
    """Returns the peak memory of a process that takes two steps, and its optimiser's, in GiB."""
    command = [sys.executable, __file__, "--memory-of", row, "--model", options.model, "--precision", options.precision]
    command += ["--batch", str(options.batch), "--seconds", str(options.seconds), "--threads", str(options.threads)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def print_memory(options: argparse.Namespace, row: str) -> None:
    """Prints the line that `memory` reads."""
    trainee = make(options, row)
    for _ in range(2):
        trainee.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(json.dumps({"peak": peak, "optimizer": trainee.optimizer_gib}) + "\n")


def ratio_to_dense(seconds: dict[str, dict[str, list[float]]], row: str, by: str) -> float:
    """Returns the median of a row divided by that of the dense steps that were taken beside it."""
    values, dense = seconds[row][by], seconds["dense"][by]
    first = max(list(seconds).index(row) - 1, 0) * len(values)
    return statistics.median(values) / statistics.median(dense[first : first + len(values)])


def show(
    options: argparse.Namespace, seconds: dict[str, dict[str, list[float]]], gib: dict[str, dict[str, float]]
) -> None:
    """Prints the table and the line of JSON."""
    title = f"{options.model}, {options.batch} x {options.seconds:g} s, {options.precision}, {options.threads} threads"
    medians = {row: {by: statistics.median(values) for by, values in of.items()} for row, of in seconds.items()}
    ratios = {row: {by: ratio_to_dense(seconds, row, by) for by in of} for row, of in medians.items()}
    columns = ("masks", "s a step", "of dense", "processor s", "of dense", "peak GiB", "more", "optimiser GiB")
    table = Table(*columns, title=title)
    for row, of in medians.items():
        times = [f"{number:.3f}" for by in ("clock", "processor") for number in (of[by], ratios[row][by])]
        more = gib[row]["peak"] - gib["dense"]["peak"]
        table.add_row(row, *times, f"{gib[row]['peak']:.2f}", f"{more:+.2f}", f"{gib[row]['optimizer']:.2f}")
    Console().print(table)
    record = {
        "benchmark": "mask_overhead",
        "options": {key: value for key, value in vars(options).items() if key != "memory_of"},
        "seconds": seconds,
        "ratio_to_dense": ratios,
        "gib": gib,
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
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="what is compared with dense")
    parser.add_argument("--memory-of", choices=list(ROWS), help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print_memory(options, options.memory_of)
    else:
        options.rows = ["dense", *(row for row in options.rows if row != "dense")]
        gib = {row: memory(options, row) for row in options.rows}
        show(options, measure(options), gib)


if __name__ == "__main__":
    main()
