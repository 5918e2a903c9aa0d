#!/usr/bin/env python3
"""Where training from scratch fails, and what helps it: masks, LayerScale, a small start, masks that learn nothing.

    python benchmarks/from_scratch.py --exp-dir exp/from_scratch --depths 12 --lrs 4e-3 --warmups 0 [--seeds 0 1 2]
    python benchmarks/from_scratch.py --exp-dir exp/from_scratch --rows dense msrs --depths 6 12 --lrs 2e-3 4e-3

Trains conformers of width 96 by CTC alone, under all combinations of depth, learning rate and warm-up, with each seed:
the plain model (`dense`), and rows that change one thing of it. All masks end at the same share of training, and all
weights are trained from there; `magnitude` and `random` set their masks at that moment, so that the network is pruned
without training under masks before. A training has *learned* where the word error rate is below 80 %.

What is trained already is not trained again, so that it may be stopped and called again. Prints a table and one line of
JSON; leaves RESULTS.md in the folder, with the losses over the epochs in losses.png and the gradient norms of all
layers in gradients.png.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import trainings
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asrsparse.reports.masked_run import read_masked_run
from asrsparse.reports.report import report
from asrsparse.reports.rows import ReportRow

LEARNED_BELOW = 0.8
"""The word error rate below which a training counts as one that learned. GRID's sentences have six places, and the
most frequent word of each place gives 84.5 % on the test set: less than 90 % needs no audio."""

MODEL = ["model.decoder=null", "model.ctc_weight=1.0", "model.encoder.output_size=96", "model.encoder.linear_units=384"]
"""The overrides that all runs share; the rest is the model `tiny`: 4 heads, kernels of 15."""

ALLOCATION = "masks.method.allocation._target_"

Points = list[tuple[float, float]]
"""Epochs, with fractions, and a loss."""


@dataclass(frozen=True)
class Run:
    """One training: a row under one setting, with one seed."""

    row: str
    depth: int
    lr: float
    warmup: float
    seed: int

    @property
    def setting(self) -> str:
        """The setting under which rows are compared."""
        return f"{self.depth}x96-lr{self.lr:g}-warmup{self.warmup:g}"

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.row}-{self.setting}-seed{self.seed}"


@dataclass(frozen=True)
class Losses:
    """The losses of a run over the epochs.

    Attributes:
        train: Of batches, every tenth.
        dev: Of the validation set, at the end of each epoch.
    """

    train: Points
    dev: Points

    @property
    def final_train(self) -> float:
        """The mean over the batches of the last epoch."""
        num_epochs = self.dev[-1][0]
        return statistics.fmean(loss for epoch, loss in self.train if epoch > num_epochs - 1)

    @property
    def final_dev(self) -> float:
        """The loss on dev after the last epoch."""
        return self.dev[-1][1]


@dataclass(frozen=True)
class Result:
    """A run and its results.

    Attributes:
        reach: How much of the gradient reaches the lower blocks, in the end: the median of its norm over the weights of
            the lower third of the blocks, over that of the upper third.
    """

    run: Run
    losses: Losses
    reach: float
    scored: ReportRow

    @property
    def learned(self) -> bool:
        """Whether the training learned, or stalled."""
        return self.scored.wer < LEARNED_BELOW


def rows_of(density: float, until: float) -> dict[str, list[str]]:
    """Returns the overrides of each row: masks keep the share `density`, and end at the share `until` of training."""
    learned = [f"masks.method.target_density={density}", f"masks.method.until={until}"]
    # No check before the end of the phase, which could end it sooner: all masks are to end at the same step.
    msrs = ["masks=learned", *learned, "+masks.method.check_every=1.0", "masks.method.exit=dense"]
    layer_scale = ["model.layer_scale=0.1"]
    random = one_shot("random", density, until)
    return {
        "dense": [],
        "msrs": msrs,
        "layer_scale_0.1": layer_scale,
        "layer_scale_1e-5": ["model.layer_scale=1e-5"],
        "msrs+layer_scale_0.1": [*msrs, *layer_scale],
        "random+layer_scale_0.1": [*random, *layer_scale],
        "residual_0.1": ["model.residual_scale=0.1"],
        "residual_0": ["model.residual_scale=0"],
        "magnitude": [*one_shot("magnitude", density, until), f"{ALLOCATION}=asrsparse.masks.Global"],
        "random": random,
    }


def one_shot(masks: str, density: float, at: float) -> list[str]:
    """Returns the overrides that prune the network once, at a share of training, and train all weights from there."""
    method = {"density": density, "start": at, "until": at, "exit": "dense"}
    return [f"masks={masks}", *(f"masks.method.{key}={value}" for key, value in method.items())]


def overrides_of(run: Run, options: argparse.Namespace) -> list[str]:
    """Returns the configuration of one run."""
    return [
        *("recipe=grid", "system=full-dense", f"exp_dir={options.exp_dir}", f"name={run.name}", f"seed={run.seed}"),
        *(*MODEL, f"model.encoder.num_blocks={run.depth}"),
        *(f"optim.lr={run.lr}", f"optim.lr_schedule.warmup={run.warmup}", f"trainer.num_epochs={options.epochs}"),
        *rows_of(options.density, options.until)[run.row],
        *options.overrides,
    ]


def read_losses(run_dir: Path) -> Losses:
    """Returns the losses that Lightning logged for TensorBoard, by epoch; a resumed run has several files of them."""
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    dev = [(event.step + 1, event.value) for event in events.Scalars("dev_loss")]
    steps_per_epoch = dev[-1][0] / len(dev)
    train = [((event.step + 1) / steps_per_epoch, event.value) for event in events.Scalars("loss")]
    return Losses(train, [(step / steps_per_epoch, loss) for step, loss in dev])


def reach_of(run_dir: Path) -> float:
    """`Result.reach`, of the last epoch's log."""
    log = read_masked_run(run_dir)
    blocks = [int(match[1]) if (match := re.match(r"encoder\.encoders\.(\d+)\.", name)) else -1 for name in log.layers]
    third, norms = (max(blocks) + 1) // 3, log.values["grad_norm"][-1]
    lower = [norm for block, norm in zip(blocks, norms, strict=True) if 0 <= block < third]
    upper = [norm for block, norm in zip(blocks, norms, strict=True) if block > max(blocks) - third]
    return float(np.median(lower) / np.median(upper))


def show(results: Sequence[Result]) -> None:
    """Prints a table for each setting, and the line of JSON."""
    for setting in dict.fromkeys(result.run.setting for result in results):
        table = Table(title=setting, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for title in ("row", "seed", "loss", "dev loss", "reach", "WER %\n[95 %]", "learns"):
            table.add_column(title, justify="left" if title == "row" else "right", no_wrap=True)
        for result in results:
            if result.run.setting == setting:
                table.add_row(*_cells(result))
        Console().print(table)
    Console().print(f"Learned: a word error rate below {LEARNED_BELOW:.0%}.")
    Console().print(
        "Reach: the gradient's norm in the lower third of the blocks over that in the upper third, medians."
    )
    record = {"benchmark": "from_scratch", "learned_below": LEARNED_BELOW, "rows": [_values(r) for r in results]}
    sys.stdout.write(json.dumps(record) + "\n")


def _cells(result: Result) -> list[str]:
    run, losses, row = result.run, result.losses, result.scored
    wer = f"{100 * row.wer:.1f}\n\\[{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"
    learned = "yes" if result.learned else "no"
    return [
        run.row,
        str(run.seed),
        f"{losses.final_train:.3f}",
        f"{losses.final_dev:.3f}",
        f"{result.reach:.0e}",
        wer,
        learned,
    ]


def _values(result: Result) -> dict[str, Any]:
    losses = {"loss": result.losses.final_train, "dev_loss": result.losses.final_dev, "reach": result.reach}
    return asdict(result.run) | losses | {"learned": result.learned} | asdict(result.scored)


def plot_losses(path: Path, results: Sequence[Result]) -> None:
    """Draws losses over epochs: a column for each setting, training above dev, a colour for each row, a line a seed."""
    settings = list(dict.fromkeys(result.run.setting for result in results))
    colours = {row: f"C{number}" for number, row in enumerate(dict.fromkeys(result.run.row for result in results))}
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(5 * len(settings), 7), layout="constrained")
        columns = figure.subplots(2, len(settings), squeeze=False, sharex=True, sharey="row").T
        for result in results:
            run, losses = result.run, result.losses
            for axes, points in zip(columns[settings.index(run.setting)], (losses.train, losses.dev), strict=True):
                axes.plot(*zip(*points, strict=True), color=colours[run.row], linewidth=1, label=run.row)
        for setting, (above, below) in zip(settings, columns, strict=True):
            above.set(title=setting, yscale="log", ylabel="training loss per token")
            below.set(xlabel="epoch", yscale="log", ylabel="dev loss per token")
        legend = {line.get_label(): line for axes in columns.flat for line in axes.lines}
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=5)
        figure.savefig(path, dpi=110)


def plot_gradients(path: Path, exp_dir: Path, results: Sequence[Result]) -> None:
    """Draws the norm of the gradient of each layer over the training: a panel for each run, one scale for all."""
    logs = [read_masked_run(exp_dir / result.run.name) for result in results]
    norms = [np.log10(log.values["grad_norm"].T + 1e-12) for log in logs]
    low, high = np.quantile(np.concatenate([norm.ravel() for norm in norms]), [0.02, 0.98])
    num_rows = -(-len(logs) // 3)
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(11, 2.6 * num_rows), layout="constrained")
        panels = figure.subplots(num_rows, 3, squeeze=False, sharex=True)
        for panel, log, norm in zip(panels.flat, logs, norms, strict=False):
            image = panel.pcolormesh(log.progress, np.arange(len(log.layers)), norm, vmin=low, vmax=high)
            panel.set(title=log.name)
        figure.colorbar(image, ax=panels, label="log10 of the gradient's norm")
        figure.supxlabel("share of the training")
        figure.supylabel("layer, from the input up")
        figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description="Where training from scratch fails, and what helps it.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--depths", type=int, nargs="+", default=[12], help="blocks of the encoder")
    parser.add_argument("--lrs", type=float, nargs="+", default=[4e-3], help="peak learning rates")
    parser.add_argument("--warmups", type=float, nargs="+", default=[0.0], help="shares of training; 0 for none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is trained with each of them")
    parser.add_argument("--epochs", type=int, default=14, help="of each training")
    parser.add_argument("--density", type=float, default=0.015, help="the share of weights that masks keep")
    parser.add_argument("--until", type=float, default=0.25, help="the share of training at which masks end")
    known = list(rows_of(density=1.0, until=1.0))
    parser.add_argument("--rows", nargs="+", default=known, choices=known, help="by default all of them")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows, after --")
    return parser.parse_args()


def main() -> None:
    """Trains what is not trained yet, prints, draws."""
    options = parse()
    turns = itertools.product(options.seeds, options.depths, options.lrs, options.warmups, options.rows)
    wanted = [Run(row, depth, lr, warmup, seed) for seed, depth, lr, warmup, row in turns]
    runs = [run for run in track(wanted, description="Training") if trainings.train(overrides_of(run, options))]
    failed = sorted({run.name for run in wanted} - {run.name for run in runs})
    rows = report(options.exp_dir, [run.name for run in runs], method="ctc_greedy").rows
    folders = [options.exp_dir / run.name for run in runs]
    results = [
        Result(run, read_losses(folder), reach_of(folder), row)
        for run, folder, row in zip(runs, folders, rows, strict=True)
    ]
    show(results)
    Console().print(f"Failed, with the reason above: {', '.join(failed) or 'none'}.")
    plot_losses(options.exp_dir / "losses.png", results)
    plot_gradients(options.exp_dir / "gradients.png", options.exp_dir, results)


if __name__ == "__main__":
    main()
