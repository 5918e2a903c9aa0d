#!/usr/bin/env python3
"""Seconds until an epoch's first batch, and to read the manifest of an epoch, by the number of cuts.

    python benchmarks/epoch_start.py [--sizes 10000 100000 1000000] [--keep-ratio 0.7] [--rounds 3]

For each size a manifest is written and indexed once. Then an epoch starts in turns: ours (easy2hard chooses, batches
are planned, the lines of the first batch are parsed, its audio is read), and lhotse's dynamic bucketing over the same
lazily filtered manifest, with its own defaults. All cuts share one audio file of real samples. `from the middle` starts
ours at half of the epoch, as a resumed run does; `all lines` parses every cut that the epoch keeps, without audio.
Medians over the rounds, in one process on one thread; choosing is part of both.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.data.batch import BatchDataset, IndexedBatchDataset
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.sampler import EpochSampler, duration_bins
from asrsparse.environment import environment
from asrsparse.pruning import EasyToHard, KeptSet, PruningPlan, ScoreTable, select

BATCH_SECONDS = 600.0
LONGEST = 30.0
RATE = 16000
CUT = (
    '{"id": "%s", "start": 0.0, "duration": %s, "channel": 0, "supervisions": [{"id": "%s", "recording_id": "r", '
    '"start": 0.0, "duration": %s, "channel": 0, "text": "one of a million", "language": "English", "speaker": "s1"}], '
    '"recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "%s"}], "sampling_rate": 16000, '
    '"num_samples": 480000, "duration": 30.0, "channel_ids": [0]}, "type": "MonoCut"}\n'
)


def write_manifest(folder: Path, size: int) -> Path:
    """Cuts of gamma-distributed lengths out of one recording."""
    rng = np.random.default_rng(0)
    soundfile.write(folder / "audio.wav", rng.uniform(-0.1, 0.1, int(RATE * LONGEST)), RATE)
    durations = np.clip(rng.gamma(4.0, 3.0, size), 0.5, LONGEST).round(2)
    path = folder / f"cuts_{size}.jsonl"
    with open(path, "w", encoding="utf-8") as lines:
        for number, seconds in enumerate(durations):
            name = f"speaker-{number % 5000:04d}-{number:08d}"
            lines.write(CUT % (name, seconds, name, seconds, folder / "audio.wav"))
    return path


def make_table(index: CutIndex) -> ScoreTable:
    """The scores of an epoch that saw everything."""
    table = ScoreTable(index.ids.to_pylist(), index.durations)
    losses = np.random.default_rng(1).gamma(2.0, 0.5, len(table)).astype(np.float32)
    table.update(np.arange(len(table)), losses, epoch=0)
    return table


def choose(table: ScoreTable, keep_ratio: float) -> KeptSet:
    """What the second epoch keeps."""
    return select(table, EasyToHard(keep_ratio), PruningPlan(num_epochs=20, warmup_epochs=1), epoch=1, seed=0)


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(size: int, keep_ratio: float, rounds: int) -> dict[str, float]:
    """Starts epochs in turns; returns medians of seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_manifest(Path(folder), size)
        indexing = seconds_of(lambda: CutIndex.make(path))
        opening = seconds_of(lambda: CutIndex.open(path))
        index = CutIndex.open(path)
        table = make_table(index)
        bins = duration_bins(table.durations, 10)

        def ours(first_batch: int = 0) -> object:
            sampler = EpochSampler(choose(table, keep_ratio), BATCH_SECONDS, bins, 0, 1, first_batch=first_batch)
            return IndexedBatchDataset(index, BatchDataset(lambda text: [1]))[next(iter(sampler))]

        def lhotses() -> object:
            kept = choose(table, keep_ratio)
            cuts = CutSet.from_jsonl_lazy(path).filter(lambda cut: cut.id in kept)
            sampler = DynamicBucketingSampler(
                cuts, max_duration=BATCH_SECONDS, num_buckets=None, duration_bins=bins, shuffle=True
            )
            return BatchDataset(lambda text: [1])[next(iter(sampler))]

        kept = choose(table, keep_ratio)
        middle = EpochSampler(kept, BATCH_SECONDS, bins, 0, 1).num_batches // 2
        ways: dict[str, Callable[[], object]] = {
            "ours": ours,
            "ours, from the middle": lambda: ours(middle),
            "lhotse": lhotses,
            "ours, all lines": lambda: index.read(kept.positions),
            "lhotse, all lines": lambda: [0 for cut in CutSet.from_jsonl_lazy(path) if cut.id in kept],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                seconds[name].append(seconds_of(way))
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        return {"cuts": size, "making the index": indexing, "opening it": opening, **medians}


def show(rows: list[dict[str, float]], keep_ratio: float) -> None:
    """Prints the table and the line of JSON."""
    table = Table(*rows[0], title=f"seconds, {keep_ratio:.0%} of the speech kept")
    for row in rows:
        table.add_row(f"{row['cuts']:,.0f}", *(f"{value:.3f}" for name, value in row.items() if name != "cuts"))
    Console().print(table)
    rounded = [{name: round(value, 5) for name, value in row.items()} for row in rows]
    record = {"benchmark": "epoch_start", "keep_ratio": keep_ratio, "rows": rounded, "environment": environment()}
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Seconds until an epoch's first batch, by the number of cuts.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6], help="cuts in the manifest")
    parser.add_argument("--keep-ratio", type=float, default=0.7, help="share of the speech that the epoch keeps")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each way, in turns")
    options = parser.parse_args()
    rows = [measure(size, options.keep_ratio, options.rounds) for size in track(options.sizes, description="Starting")]
    show(rows, options.keep_ratio)


if __name__ == "__main__":
    main()
