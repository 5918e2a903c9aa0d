#!/usr/bin/env python3
"""Which units of a model may leave: ways to choose them at one density, and a model that is small from the start.

    python benchmarks/unit_choice.py --exp-dir exp/unit_choice [--epochs 30] [--seeds 0 1] [--densities 0.5]
                                     [--rows taylor small ...] [--kinds all feed-forward ...] [-- OVERRIDE ...]

Each row is a way to choose units, with a density and the kind of unit that may leave. All but `small` train the whole
model for a quarter of the training (`learned` less, if its masks are stable); then the units leave, and the rest is
trained with smaller layers. `small` has random units from the first step on: it is the control that each choice must
beat at the same seconds, not at the same epochs. Its layers have the initial values of whole ones, which are somewhat
smaller than those of a model that is built small (Xavier, by the sum of inputs and outputs). `full` is the dense model.

Trains each row with each seed, one after another in turns (all rows with the first seed, then with the next), decodes
and scores it. What is done already is not done again, so that it may be stopped and called again. A row that fails is
named at the end; a ranking over the whole model (`-global`) may leave a layer without units, which is refused. Prints a
table and one line of JSON, and leaves RESULTS.md in the folder. Steps per second are those at the beginning and at the
end of the training. Run it alone on the machine, or compare no seconds.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trainings
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asrsparse.reports.report import report
from asrsparse.reports.rows import ReportRow

GLOBAL = "masks.method.allocation._target_=asrsparse.masks.Global"
LATE = ["masks.method.start=0.25", "masks.method.until=0.25"]
RELATIVE = [
    "++masks.method.first._target_=asrsparse.masks.RelativeSaliency",
    "++masks.method.first.of._target_=asrsparse.masks.MagnitudeSaliency",
]
ROWS: dict[str, list[str]] = {
    "small": ["masks=structured_random"],
    "random": ["masks=structured_random", *LATE],
    "magnitude": ["masks=structured_magnitude"],
    "magnitude-global": ["masks=structured_magnitude", GLOBAL, *RELATIVE],
    "taylor": ["masks=structured_taylor"],
    "taylor-global": ["masks=structured_taylor", GLOBAL],
    "shrinking": ["masks=structured_shrinking"],
    "shrinking-taylor": [
        "masks=structured_shrinking",
        "masks.method.first._target_=asrsparse.masks.TaylorSaliency",
    ],
    "learned": ["masks=structured"],
    "learned-global": ["masks=structured", GLOBAL],
}
KINDS = {
    "all": ["*"],
    "feed-forward": ["*feed_forward*"],
    "heads": ["*attn*"],
    "channels": ["*pointwise_conv2*"],
    "subsampling": ["encoder.embed.*"],
}
"""The patterns of the units that may leave, by kind, as in `asrsparse/conf/masks/_structured.yaml`."""


@dataclass(frozen=True)
class Run:
    """One training: a row with a density, a kind of unit and a seed; `full` has no units that leave."""

    row: str
    density: float
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """The folder of the run."""
        chosen = [] if self.row == "full" else [str(self.density), *([] if self.kind == "all" else [self.kind])]
        return "-".join([self.row, *chosen, f"seed{self.seed}"])

    def overrides(self) -> list[str]:
        """The configuration of its masks."""
        if self.row == "full":
            return ["masks=dense"]
        key = "target_density" if self.row.startswith("learned") else "density"
        include = ",".join(f"'{pattern}'" for pattern in KINDS[self.kind])
        return [*ROWS[self.row], f"masks.method.{key}={self.density}", f"++masks.method.include=[{include}]"]


@dataclass(frozen=True)
class Result:
    """A run, its steps per second at the beginning and at the end, and its row of the report."""

    run: Run
    first_steps_per_second: float
    last_steps_per_second: float
    row: ReportRow


def train(run: Run, options: argparse.Namespace) -> bool:
    """Trains, decodes and scores one run, unless that is done; returns whether it is."""
    overrides = [f"recipe={options.recipe}", "system=full-dense", *run.overrides()]
    overrides += [f"trainer.num_epochs={options.epochs}", f"seed={run.seed}", f"name={run.name}"]
    overrides += [f"exp_dir={options.exp_dir}", *options.overrides]
    return trainings.train(overrides)


def speeds(run_dir: Path) -> tuple[float, float]:
    """Returns the steps per second in the first tenth and in the last tenth of a training, by its log."""
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload().Scalars("lr")
    rates = [(b.step - a.step) / (b.wall_time - a.wall_time) for a, b in itertools.pairwise(events)]
    tenth = max(1, len(rates) // 10)
    return statistics.median(rates[:tenth]), statistics.median(rates[-tenth:])


def show(results: Sequence[Result]) -> None:
    """Prints the table and the line of JSON."""
    table = Table(
        "row", "density", "kind", "seed", "WER % [95 %]", "training s", "M parameters", "steps/s", "at the end"
    )
    for run, first, last, row in ((r.run, r.first_steps_per_second, r.last_steps_per_second, r.row) for r in results):
        wer = f"{100 * row.wer:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"
        chosen = ("1", "-") if run.row == "full" else (str(run.density), run.kind)
        sizes = (f"{row.train_seconds:.0f}", f"{row.parameters / 1e6:.2f}", f"{first:.2f}", f"{last:.2f}")
        table.add_row(run.row, *chosen, str(run.seed), wer, *sizes)
    Console().print(table)
    record = {"benchmark": "unit_choice", "rows": [asdict(result) for result in results]}
    sys.stdout.write(json.dumps(record) + "\n")


def wanted(options: argparse.Namespace) -> list[Run]:
    """Returns the runs in their order, the dense ones first with each seed."""
    runs = []
    for seed in options.seeds:
        runs.append(Run("full", 1.0, "all", seed))
        turns = itertools.product(options.densities, options.kinds, options.rows)
        runs += [Run(row, density, kind, seed) for density, kind, row in turns]
    return runs


def parse() -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description="Ways to choose the units that leave a model.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--epochs", type=int, default=30, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is trained with each of them")
    parser.add_argument("--densities", type=float, nargs="+", default=[0.7, 0.5, 0.35], help="of what may leave")
    parser.add_argument("--kinds", nargs="+", default=["all"], choices=list(KINDS), help="of units that may leave")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), help="by default all of them")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows, after --")
    return parser.parse_args()


def main() -> None:
    """Trains what is not trained yet, prints."""
    options = parse()
    runs = [run for run in track(wanted(options), description="Training") if train(run, options)]
    failed = [run.name for run in wanted(options) if run not in runs]
    rows = report(options.exp_dir, [run.name for run in runs], method="ctc_greedy").rows
    show([Result(run, *speeds(options.exp_dir / run.name), row) for run, row in zip(runs, rows, strict=True)])
    Console(stderr=True).print(f"Failed, with the reason above: {', '.join(failed) or 'none'}.")


if __name__ == "__main__":
    main()
