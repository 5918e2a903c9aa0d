#!/usr/bin/env python3
"""Lip-reading from scratch: the dense model against a model whose masks are learned first (MSRS) and then removed.

    python benchmarks/lip_reading.py --exp-dir exp/lip_reading [--recipe grid] [--epochs 120] [--seeds 0 1]

Trains both rows with each seed for the same epochs, decodes and scores them; a finished run is not trained again.
Prints a table and one line of JSON, and leaves RESULTS.md and curves.png (losses, and the word error rate on
dev, over the epochs) in the folder. `epochs` is the first epoch after which the word error rate on dev is that of the
dense run of the same seed after its last epoch, or less.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asrsparse.reports.report import report
from asrsparse.reports.rows import ReportRow

ROWS = {"dense": [], "msrs": ["masks=learned", "masks.method.exit=dense"]}
CURVES = {"loss": "training loss per token", "dev_loss": "dev loss per token", "dev_wer": "WER on dev"}

Points = list[tuple[float, float]]
"""Epochs, with fractions, and a value."""


@dataclass(frozen=True)
class Result:
    """One training with its scores, and its curves by the names that Lightning logs."""

    row: str
    seed: int
    scored: ReportRow
    curves: dict[str, Points]

    @property
    def dev_wer(self) -> float:
        """The word error rate on dev after the last epoch, in [0, inf)."""
        return self.curves["dev_wer"][-1][1]

    def epochs_to(self, dev_wer: float) -> int | None:
        """Returns the first epoch after which the WER on dev is at most `dev_wer`; None if there is none."""
        return next((round(epoch) for epoch, value in self.curves["dev_wer"] if value <= dev_wer), None)


def name_of(row: str, seed: int) -> str:
    """Returns the name of the folder of a row with a seed."""
    return f"{row}-seed{seed}"


def run(options: argparse.Namespace, row: str, seed: int) -> None:
    """Trains, decodes and scores one row with one seed."""
    overrides = [
        *(f"recipe={options.recipe}", "system=full-dense", "modality=video", *ROWS[row]),
        *(f"trainer.num_epochs={options.epochs}", f"seed={seed}"),
        *(f"name={name_of(row, seed)}", f"exp_dir={options.exp_dir}", *options.overrides),
    ]
    for command in ("train", "decode", "score"):
        subprocess.run([sys.executable, "-m", "asrsparse", command, *overrides], check=True)


def read_curves(run_dir: Path) -> dict[str, Points]:
    """Reads the curves that Lightning logged for TensorBoard, by epoch; a resumed run has several files of them."""
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    scalars = {name: events.Scalars(name) for name in CURVES}
    steps_per_epoch = (scalars["dev_loss"][-1].step + 1) / len(scalars["dev_loss"])
    return {name: [((e.step + 1) / steps_per_epoch, e.value) for e in values] for name, values in scalars.items()}


def show(results: list[Result]) -> None:
    """Prints the table and the line of JSON."""
    dense = {result.seed: result.dev_wer for result in results if result.row == "dense"}
    table = Table("row", "seed", "WER % [95 %]", "dev WER %", "epochs to dense's", "dev loss", "training s")
    records = []
    for result in results:
        epochs, row = result.epochs_to(dense[result.seed]), result.scored
        table.add_row(
            *(result.row, str(result.seed)),
            f"{100 * row.wer:.1f} \\[{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]",
            *(f"{100 * result.dev_wer:.1f}", "never" if epochs is None else str(epochs)),
            *(f"{result.curves['dev_loss'][-1][1]:.3f}", f"{row.train_seconds:.0f}"),
        )
        records.append({"epochs_to_dense": epochs, "dev_wer": result.dev_wer, **asdict(row)})
    Console().print(table)
    sys.stdout.write(json.dumps({"benchmark": "lip_reading", "rows": records}) + "\n")


def plot(path: Path, results: list[Result]) -> None:
    """Draws each kind of curve in a panel of its own, a colour for each row, a line for each seed."""
    colours = {row: f"C{number}" for number, row in enumerate(ROWS)}
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(13, 4), layout="constrained")
        for panel, (name, title) in zip(figure.subplots(1, len(CURVES)), CURVES.items(), strict=True):
            for result in results:
                panel.plot(*zip(*result.curves[name], strict=True), color=colours[result.row], label=result.row)
            panel.set(title=title, xlabel="epoch", yscale="linear" if name == "dev_wer" else "log")
        legend = {line.get_label(): line for line in panel.lines}
        panel.legend(legend.values(), legend.keys())
        figure.savefig(path, dpi=110)


def main() -> None:
    """Reads the options, trains what is not trained yet, prints, draws."""
    parser = argparse.ArgumentParser(description="Lip-reading from scratch, dense against MSRS.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--recipe", default="grid", help="the recipe with the corpus and the settings")
    parser.add_argument("--epochs", type=int, default=120, help="number of epochs of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is trained with each of them")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, help="by default both")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows, after --")
    options = parser.parse_args()
    turns = [(row, seed) for seed in options.seeds for row in options.rows]
    for row, seed in track(turns, description="Training"):
        run(options, row, seed)
    rows = report(options.exp_dir, [name_of(*turn) for turn in turns], method="ctc_greedy").rows
    results = [
        Result(row, seed, scored, read_curves(options.exp_dir / name_of(row, seed)))
        for (row, seed), scored in zip(turns, rows, strict=True)
    ]
    show(results)
    plot(options.exp_dir / "curves.png", results)


if __name__ == "__main__":
    main()
