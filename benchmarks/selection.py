#!/usr/bin/env python3
"""Seconds and memory that choosing an epoch's utterances takes, by the number of utterances in the corpus.

    python benchmarks/selection.py [--sizes 100000 1000000 10000000] [--rounds 5]

For each size: a score table is built from ids and durations, scores are put in, and easy2hard at 0.7, budgeted in
seconds within 10 strata of duration, chooses a set; beside it InfoBatch chooses, here (with the same budget and strata)
and as its authors' published sampler does it (no budget, no strata). Medians over the rounds, in turns, in one process
on one thread.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.environment import environment
from asrsparse.pruning import EasyToHard, InfoBatch, Policy, PruningPlan, ScoreTable, select

PLAN = PruningPlan(num_epochs=20, warmup_epochs=1)


def make_table(size: int) -> ScoreTable:
    """A table of `size` utterances like those of a corpus: gamma-distributed lengths and losses, all seen once."""
    rng = np.random.default_rng(0)
    durations = rng.gamma(4.0, 3.0, size).astype(np.float32) + np.float32(0.2)
    table = ScoreTable([f"speaker-{i % 5000:04d}-{i:08d}" for i in range(size)], durations)
    table.update(np.arange(size), rng.gamma(2.0, 0.5, size).astype(np.float32), epoch=0)
    return table


def bytes_per_utterance(table: ScoreTable) -> float:
    """What the columns of a table hold."""
    columns = [value for value in vars(table).values() if isinstance(value, np.ndarray)]
    return sum(column.nbytes for column in columns) / len(table)


def ours(policy: Policy, table: ScoreTable) -> Callable[[int], object]:
    """Chooses by `select`, anew for each epoch."""
    return lambda epoch: select(table, policy, PLAN, epoch, seed=0)


def plain_infobatch(table: ScoreTable, keep: float = 0.5) -> Callable[[int], NDArray[np.int64]]:
    """InfoBatch as published: a share of what is below the mean is drawn and joined to the rest; all is shuffled."""

    def choose(epoch: int) -> NDArray[np.int64]:
        rng = np.random.RandomState(epoch)
        easier = table.scores < table.scores.mean()
        (candidates,) = np.where(easier)
        (kept,) = np.where(~easier)
        drawn = rng.choice(candidates, int(keep * len(candidates)), replace=False)
        indices = np.concatenate([kept, drawn])
        rng.shuffle(indices)
        return indices

    return choose


def measure(size: int, rounds: int) -> dict[str, float]:
    """Builds a table of `size`, lets each way choose in turns, and returns seconds and bytes."""
    started = time.perf_counter()
    table = make_table(size)
    building = time.perf_counter() - started
    ways = {
        "easy2hard": ours(EasyToHard(0.7), table),
        "infobatch": ours(InfoBatch(0.7), table),
        "plain infobatch": plain_infobatch(table),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, choose in ways.items():
            started = time.perf_counter()
            choose(1 + number)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"utterances": size, "building": building, "bytes": bytes_per_utterance(table), **medians}


def show(rows: list[dict[str, float]]) -> None:
    """Prints the table and the line of JSON."""
    table = Table("utterances", "bytes each", "building, s", "easy2hard, s", "infobatch, s", "plain infobatch, s")
    for row in rows:
        seconds = (row[name] for name in ("building", "easy2hard", "infobatch", "plain infobatch"))
        table.add_row(f"{row['utterances']:,.0f}", f"{row['bytes']:.0f}", *(f"{value:.3f}" for value in seconds))
    Console().print(table)
    rounded = [{name: round(value, 5) for name, value in row.items()} for row in rows]
    sys.stdout.write(json.dumps({"benchmark": "selection", "rows": rounded, "environment": environment()}) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Seconds and memory of choosing an epoch's utterances.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7], help="utterances in the corpus")
    parser.add_argument("--rounds", type=int, default=5, help="choices of each way, in turns")
    options = parser.parse_args()
    show([measure(size, options.rounds) for size in track(options.sizes, description="Choosing")])


if __name__ == "__main__":
    main()
