#!/usr/bin/env python3
"""The share of a training's time that choosing, planning and remembering take.

    python benchmarks/bookkeeping.py [--recipe grid] [--epochs 4] [HYDRA_OVERRIDE ...]

Trains a recipe's easy2hard system with energy segments for some epochs, in this process, with a clock around all that
the pruner does: choosing an epoch's utterances, planning its batches, recording losses, closing the epoch, writing its
Parquet file; and, apart, choosing and cutting segments. Validation does not count.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from asrsparse.config import compose_config
from asrsparse.data.sampler import EpochSampler
from asrsparse.environment import environment
from asrsparse.pruning import DynamicPruner, SegmentPruner
from asrsparse.training.callbacks import PruningLog
from asrsparse.training.train import train

CLOCKED: dict[str, list[tuple[Any, str]]] = {
    "choosing utterances, closing epochs": [(DynamicPruner, "start_epoch"), (DynamicPruner, "end_epoch")],
    "planning batches": [(EpochSampler, "__init__")],
    "recording losses": [(DynamicPruner, "observe")],
    "writing Parquet": [(PruningLog, "on_train_epoch_end")],
    "choosing and cutting segments": [(SegmentPruner, "choose"), (SegmentPruner, "apply"), (SegmentPruner, "observe")],
}


class Clock:
    """Seconds by name; of nested calls the outer one counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.runs = False

    def watch(self, name: str, owner: Any, method: str) -> None:
        """Puts a clock around a method."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def clocked(*arguments: Any, **more: Any) -> Any:
            if self.runs:
                return original(*arguments, **more)
            self.runs, began = True, time.perf_counter()
            try:
                return original(*arguments, **more)
            finally:
                self.runs = False
                self.seconds[name] += time.perf_counter() - began

        setattr(owner, method, clocked)


def main() -> None:
    """Reads the options, trains, prints."""
    parser = argparse.ArgumentParser(description="The share of a training's time that pruning itself takes.")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--epochs", type=int, default=4, help="of the training")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    options = parser.parse_args()
    clock = Clock()
    for name, methods in CLOCKED.items():
        for owner, method in methods:
            clock.watch(name, owner, method)
    with tempfile.TemporaryDirectory() as folder:
        words = [f"recipe={options.recipe}", "system=easy2hard", "segments=energy", "pruning.plan.warmup_epochs=1"]
        words += ["pruning.plan.final_epochs=0", f"trainer.num_epochs={options.epochs}", f"exp_dir={folder}"]
        total = train(compose_config([*words, *options.overrides]), "benchmark")["train_seconds"]
    table = Table(
        "part", "seconds", "% of the training", title=f"{options.recipe}, {options.epochs} epochs, {total:.1f} s"
    )
    for name, seconds in clock.seconds.items():
        table.add_row(name, f"{seconds:.3f}", f"{100 * seconds / total:.3f}")
    Console().print(table)
    shares = {name: round(seconds / total, 6) for name, seconds in clock.seconds.items()}
    record = {"benchmark": "bookkeeping", "recipe": options.recipe, "epochs": options.epochs, "train_seconds": total}
    sys.stdout.write(json.dumps(record | {"shares": shares, "environment": environment()}) + "\n")


if __name__ == "__main__":
    main()
