#!/usr/bin/env python3
"""How fast a finished run decodes a test set: greedy and joint, by size of batches and number of processes.

    python benchmarks/decoding.py RUN_DIR [--split test] [--batch-seconds 0.1 15 60] [--jobs 1 2] [--first N]

Each setting decodes the same utterances, from files to tokens. "Times real time" (hours decoded per hour) is the
seconds of audio divided by those of the clock; "by CPU" it is divided by the CPU seconds of all processes, which is the
speed of one core, and the better figure where other programs use the machine. `differ` counts the utterances whose best
hypothesis is not that of the first setting of the method; it should be 0. A batch of 0.1 s is one utterance.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lhotse.cut import Cut
from rich.console import Console
from rich.table import Table

from asrsparse.data.batch import BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.decoding.recogniser import Recogniser, device_of, recognise
from asrsparse.decoding.runs import FinishedRun, open_run
from asrsparse.environment import environment

METHODS = {"greedy": ("decode=ctc_greedy",), "joint": ("decode=joint",)}


@dataclass(frozen=True)
class Row:
    """The speed of one setting; `clock` and `cpu` are in seconds."""

    method: str
    batch_seconds: float
    jobs: int
    clock: float
    cpu: float
    times_real_time: float
    times_real_time_by_cpu: float
    differ: int


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of the processes that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(run: FinishedRun, cuts: list[Cut], batch_seconds: float, jobs: int) -> tuple[float, float, list[list[int]]]:
    """Returns the seconds by the clock, the CPU seconds, and the tokens of the best hypotheses."""
    recogniser = Recogniser(run.model, run.decoder, BatchDataset(run.tokenizer.encode, run.model.modalities))
    clock, cpu = time.perf_counter(), cpu_seconds()
    found = recognise(recogniser, cuts, batch_seconds, jobs)
    return time.perf_counter() - clock, cpu_seconds() - cpu, [best.tokens for best, *_ in found]


def rows_of(method: str, run: FinishedRun, cuts: list[Cut], options: argparse.Namespace) -> list[Row]:
    """Measures all settings of a method, after two utterances that are not measured."""
    seconds, rows, first = sum(cut.duration for cut in cuts), [], None
    measure(run, cuts[:2], options.batch_seconds[0], 1)
    for jobs in options.jobs:
        for batch_seconds in options.batch_seconds:
            clock, cpu, tokens = measure(run, cuts, batch_seconds, jobs)
            first = first or tokens
            differ = sum(one != other for one, other in zip(first, tokens, strict=True))
            rows.append(Row(method, batch_seconds, jobs, clock, cpu, seconds / clock, seconds / cpu, differ))
    return rows


def show(rows: list[Row], cuts: list[Cut], options: argparse.Namespace) -> None:
    """Prints the table and the line of JSON."""
    hours = sum(cut.duration for cut in cuts) / 3600
    title = f"{options.run_dir}, {options.split}: {len(cuts)} utterances, {hours:.2f} h"
    columns = ("method", "batch, s", "processes", "seconds", "CPU seconds", "times real time", "by CPU", "differ")
    table = Table(*columns, title=title)
    for row in rows:
        numbers = [f"{value:.1f}" for value in (row.clock, row.cpu, row.times_real_time, row.times_real_time_by_cpu)]
        table.add_row(row.method, f"{row.batch_seconds:g}", str(row.jobs), *numbers, str(row.differ))
    Console().print(table)
    record = {"benchmark": "decoding", **vars(options), "run_dir": str(options.run_dir), "utterances": len(cuts)}
    record |= {"audio_hours": hours, "rows": [asdict(row) for row in rows], "environment": environment()}
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Speed of decoding a finished run.")
    parser.add_argument("run_dir", type=Path, help="a finished run: exp/<recipe>/<system>")
    parser.add_argument("--split", default="test", help="a test set")
    parser.add_argument("--first", type=int, help="number of utterances to decode; all by default")
    parser.add_argument("--batch-seconds", type=float, nargs="+", default=[0.1, 15.0, 60.0], help="sizes of batches")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, os.cpu_count()], help="numbers of processes")
    parser.add_argument("--beam", type=int, default=10, help="width of the joint beam")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for method, overrides in METHODS.items():
        beam = (f"decode.decoder.beam_size={options.beam}",) if method == "joint" else ()
        run = open_run(options.run_dir, (*overrides, *beam))
        run.model.to(device_of(run.config.trainer.accelerator))
        cuts = list(read_cuts(Path(run.config.data_dir) / "cuts", options.split))[: options.first]
        rows += rows_of(method, run, cuts, options)
    show(rows, cuts, options)


if __name__ == "__main__":
    main()
