#!/usr/bin/env python3
"""What each setting of learned masks (MSRS) does: one setting changed at a time, against dense training.

    python benchmarks/learned_masks.py --exp-dir exp/learned_masks [--epochs 20] [--seeds 0 1] [--rows ROW ...]
                                       [--base masks.method.KEY=VALUE ...] [-- OVERRIDE ...]

`default` is `masks=learned` as it is, `trial` has the settings of a short program that preceded this toolkit. Other
rows change one setting of the default, or of what `--base` makes of it. Each row is compared with the dense training of
the same seed, over the same test utterances. Zeros are simulated, so that equal epochs are nearly equal seconds; what
the mask phase costs is measured by `benchmarks/mask_overhead.py`.

Trains each row with each seed, one after another in turns (all rows with the first seed, then with the next), decodes
and scores it. What is done already is not done again, so that it may be stopped and called again. Prints a table and
one line of JSON, and draws `dev_wer.png`: the word error rate on dev over epochs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import trainings
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asrsparse.files import read_json
from asrsparse.reports.report import report
from asrsparse.reports.rows import ReportRow


def growing_to(end: float) -> str:
    """The temperature that grows to `end`, as Hydra writes an object."""
    return f"{{_target_:asrsparse.schedules.Geometric,start:1.0,end:{end}}}"


TRIAL = {
    "logit": "0.5",
    "logit_lr_scale": "5",
    "max_logit": "null",
    "temperature": growing_to(20),
    "target_density": "null",
    "penalty_weight": "1e-4",
    "penalty_reduction": "sum",
}


def rows(epochs: int) -> dict[str, dict[str, str]]:
    """The settings of `masks.method` by which each row differs from the default; phases are in epochs of so many."""
    return (
        {"default": {}, "trial": TRIAL | {"until": f"{5 / epochs:.4f}"}}
        | {f"density-{density}": {"target_density": f"{density}"} for density in (0.05, 0.1, 0.2, 0.3, 0.7)}
        | {f"phase-{long}": {"until": f"{long / epochs:.4f}"} for long in (2, 3, 5, 8)}
        | {f"logit-{logit}": {"logit": f"{logit}"} for logit in (0.1, 0.5, 2.0)}
        | {"no-clamp": {"max_logit": "null"}}
        | {f"logit-lr-{lr}": {"logit_lr": f"{lr}"} for lr in (0.001, 0.01, 0.03)}
        | {f"logit-lr-x{scale}": {"logit_lr_scale": f"{scale}"} for scale in (2, 5)}
        | {f"temperature-{end}": {"temperature": growing_to(end)} for end in (20, 300)}
        | {
            "penalty-sum": {"target_density": "null", "penalty_weight": "1e-4", "penalty_reduction": "sum"},
            "grad-balance": {"density_by": "grad_balance"},
            "uniform": {"allocation._target_": "asrsparse.masks.Uniform"},
            "scaled": {"mask_scaling": "current"},
            "scaled-at-first": {"mask_scaling": "initial"},
            "regrown-kept": {"regrow_from": "kept"},
            "regrown-initial": {"regrow_from": "initial"},
            "sparse": {"exit": "sparse"},
        }
    )


DENSE = "dense"


@dataclass(frozen=True)
class Result:
    """A row with a seed: what it ended at, and how it got there.

    Attributes:
        row: The name of the row.
        seed: The seed of the training.
        exit_density: The density with which masks left their phase; None for dense training.
        dev_wers: The word error rate on dev after each epoch.
        scored: The row of the report, compared with dense training of the same seed.
    """

    row: str
    seed: int
    exit_density: float | None
    dev_wers: list[float]
    scored: ReportRow


def name_of(row: str, seed: int) -> str:
    """The folder of a row with a seed."""
    return f"{row}-seed{seed}"


def train(row: str, seed: int, options: argparse.Namespace) -> bool:
    """Trains, decodes and scores one row with one seed, unless that is done; returns whether it is."""
    own = {} if row == DENSE else rows(options.epochs)[row]
    changed = [] if row == DENSE else [*options.base, *(f"++masks.method.{key}={value}" for key, value in own.items())]
    masks = "dense" if row == DENSE else "learned"
    overrides = [f"recipe={options.recipe}", "system=full-dense", f"masks={masks}", *changed]
    overrides += [f"trainer.num_epochs={options.epochs}", f"seed={seed}", f"name={name_of(row, seed)}"]
    overrides += [f"exp_dir={options.exp_dir}", *options.overrides]
    return trainings.train(overrides)


def read_dev_wers(run_dir: Path) -> list[float]:
    """Returns the word error rate on dev after each epoch, from the log for TensorBoard."""
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [event.value for event in events.Scalars("dev_wer")]


def read_results(trained: Sequence[tuple[str, int]], exp_dir: Path) -> list[Result]:
    """Returns the results of all runs; those of a seed are compared with its dense training."""
    results = []
    for seed in dict.fromkeys(seed for _, seed in trained):
        of_seed = [row for row, its_seed in trained if its_seed == seed]
        scored = report(exp_dir, [name_of(row, seed) for row in of_seed], method="ctc_greedy").rows
        for row, line in zip(of_seed, scored, strict=True):
            run_dir = exp_dir / name_of(row, seed)
            exit_density = read_json(run_dir / "train.json")["density_at_exit"]
            results.append(Result(row, seed, exit_density, read_dev_wers(run_dir), line))
    return results


def show(results: Sequence[Result]) -> None:
    """Prints the table and the line of JSON."""
    table = Table("row", "seed", "density\nat exit", "dev WER %\nat a third", "WER %\n[95 %]", "minus dense\n[95 %]")
    for result in results:
        scored, density = result.scored, result.exit_density
        delta = "-"
        if scored.delta_wer is not None:
            delta = in_percent(scored.delta_wer, scored.delta_ci_low, scored.delta_ci_high)
        table.add_row(
            result.row,
            str(result.seed),
            "-" if density is None else f"{density:.2f}",
            f"{100 * result.dev_wers[len(result.dev_wers) // 3]:.1f}",
            in_percent(scored.wer, scored.ci_low, scored.ci_high),
            delta,
        )
    Console().print(table)
    sys.stdout.write(json.dumps({"benchmark": "learned_masks", "rows": [asdict(result) for result in results]}) + "\n")


def in_percent(value: float, low: float | None, high: float | None) -> str:
    """A rate and its interval, in percent."""
    bounds = "" if low is None or high is None else f"\n\\[{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{bounds}"


def plot(path: Path, results: Sequence[Result]) -> None:
    """Draws the word error rates on dev over epochs: a panel for each row, dense training in grey in all of them."""
    names = list(dict.fromkeys(result.row for result in results if result.row != DENSE))
    if not names:
        return
    with mpl.rc_context({"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(11, 2.4 * -(-len(names) // 4)), layout="constrained")
        panels = figure.subplots(-(-len(names) // 4), 4, squeeze=False, sharex=True, sharey=True)
        for name, panel in zip(names, panels.flat, strict=False):
            for result in results:
                if result.row in (name, DENSE):
                    epochs = range(1, len(result.dev_wers) + 1)
                    percents = [100 * wer for wer in result.dev_wers]
                    panel.plot(epochs, percents, color="0.6" if result.row == DENSE else "C0", linewidth=1)
            panel.set(title=name, yscale="log")
        figure.supxlabel("epoch")
        figure.supylabel("word error rate on dev, % (grey: dense)")
        figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description="What each setting of learned masks does.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is trained with each of them")
    parser.add_argument("--rows", nargs="+", help="by default all of them; dense is always in")
    parser.add_argument("--base", nargs="+", default=[], help="overrides of the default, for all rows but dense")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows, after --")
    options = parser.parse_args()
    known = list(rows(options.epochs))
    if unknown := sorted({*(options.rows or known)} - {*known}):
        parser.error(f"--rows: got {', '.join(unknown)}, allowed are {', '.join(known)}.")
    options.rows = options.rows or known
    return options


def main() -> None:
    """Trains what is not trained yet, prints, draws."""
    options = parse()
    turns = [(row, seed) for seed in options.seeds for row in (DENSE, *options.rows)]
    trained = [turn for turn in track(turns, description="Training") if train(*turn, options)]
    failed = [name_of(*turn) for turn in turns if turn not in trained]
    results = read_results(trained, options.exp_dir)
    show(results)
    plot(options.exp_dir / "dev_wer.png", results)
    Console(stderr=True).print(f"Failed, with the reason above: {', '.join(failed) or 'none'}.")


if __name__ == "__main__":
    main()
