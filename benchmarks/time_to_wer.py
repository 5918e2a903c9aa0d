#!/usr/bin/env python3
"""Word error rate against seconds of training: full data, pruned utterances, pruned utterances and segments.

    python benchmarks/time_to_wer.py --exp-dir exp/time_to_wer [--epochs 30] [--seeds 0 1] [--rows ROW ...]
    python benchmarks/time_to_wer.py --exp-dir exp/segments --study segments --epochs 14
    python benchmarks/time_to_wer.py --exp-dir exp/masks --study masks --epochs 15

The study `time` compares whole systems; `segments` compares ways to choose segments, shares of the time to keep and
lengths of the chunks, on all utterances; `masks` compares methods of sparse masks, whose rows save no seconds: zeros of
single weights are multiplied like any other number. Trains each row with each seed, one after another in turns (all
rows with the first seed, then with the next), decodes and scores it, and compares it with full data of the first seed.
What is trained already is not trained again, so that it may be stopped and called again. Prints a table and one line of
JSON, and leaves RESULTS.md in the folder. Run it alone on the machine, or compare no seconds.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.reports.report import report
from asrsparse.reports.rows import Report


def segments(choice: str, keep_ratio: float, chunk_seconds: float = 0.1) -> list[str]:
    """The overrides of one way to prune segments, of all utterances."""
    return [
        "pruning=none",
        f"segments={choice}",
        f"segments.keep_ratio={keep_ratio}",
        f"segments.chunk_seconds={chunk_seconds}",
        "segments.final_epochs=0",
    ]


FULL = {"full": ["pruning=none"]}
STUDIES: dict[str, dict[str, list[str]]] = {
    "time": FULL
    | {
        "random-0.7": ["pruning=random"],
        "easy2hard-0.7": ["pruning=easy2hard"],
        "easy2hard-0.7-energy-0.7": ["pruning=easy2hard", "segments=energy", "segments.keep_ratio=0.7"],
        "infobatch-0.7": ["pruning=infobatch"],
        "energy-0.5": ["pruning=none", "segments=energy", "segments.keep_ratio=0.5"],
        "random-0.7-energy-0.5": ["pruning=random", "segments=energy", "segments.keep_ratio=0.5"],
    },
    "segments": FULL
    | {f"energy-{keep}": segments("energy", keep) for keep in (0.7, 0.9, 0.5)}
    | {f"random-{keep}": segments("random", keep) for keep in (0.7, 0.9, 0.5)}
    | {f"energy-{keep}-final": [*segments("energy", keep, 0.2), "segments.final_epochs=2"] for keep in (0.7, 0.5)}
    | {f"speech-{chunk}s": segments("speech", 0.3, chunk) for chunk in (0.04, 0.12, 0.2)}
    | {f"{choice}-final": [f"segments={choice}"] for choice in ("speech", "kaldi_vad")}
    | {f"blank-{keep}": segments("blank", keep, 0.2) for keep in (0.7, 0.9, 0.5)}
    | {f"energy-0.7-{chunk}s": segments("energy", 0.7, chunk) for chunk in (0.04, 0.2, 0.4)}
    | {
        f"blank-0.7-{chunk}s-alone": [*segments("blank", 0.7, chunk), "segments.pruner.policy.context_seconds=0"]
        for chunk in (0.12, 0.4)
    },
    "masks": FULL
    | {
        f"{row}-{density}": ["pruning=none", f"masks={method}", f"masks.method.{key}={density}", *more]
        for density in (0.5, 0.2)
        for row, method, key, more in (
            ("msrs-dense", "learned", "target_density", ["masks.method.exit=dense"]),
            ("msrs-sparse", "learned", "target_density", ["masks.method.exit=sparse"]),
            ("random", "random", "density", []),
            ("rigl", "rigl", "density", []),
            ("granet", "granet", "density", []),
        )
    },
}


def run(options: argparse.Namespace, row: str, seed: int) -> None:
    """Trains, decodes and scores one row with one seed."""
    overrides = [
        f"recipe={options.recipe}",
        "system=full-dense",
        *STUDIES[options.study][row],
        f"trainer.num_epochs={options.epochs}",
    ]
    overrides += [f"seed={seed}", f"name={name_of(row, seed)}", f"exp_dir={options.exp_dir}", *options.overrides]
    for command in ("train", "decode", "score"):
        subprocess.run([sys.executable, "-m", "asrsparse", command, *overrides], check=True)


def name_of(row: str, seed: int) -> str:
    """The folder of a row with a seed."""
    return f"{row}-seed{seed}"


def show(gathered: Report) -> None:
    """Prints the table and the line of JSON."""
    table = Table("row", "WER % [95 %]", "minus full [95 %]", "hours heard", "training s", "times less")
    for row in gathered.rows:
        delta = "-" if row.delta_wer is None else interval(row.delta_wer, row.delta_ci_low, row.delta_ci_high)
        wer = interval(row.wer, row.ci_low, row.ci_high)
        same_seed = next(r for r in gathered.rows if r.seed == row.seed and r.name.startswith("full"))
        less = f"{same_seed.train_seconds / row.train_seconds:.2f}"
        table.add_row(row.name, wer, delta, f"{row.hours_heard:.2f}", f"{row.train_seconds:.0f}", less)
    Console().print(table)
    sys.stdout.write(json.dumps({"benchmark": "time_to_wer", "rows": [asdict(row) for row in gathered.rows]}) + "\n")


def interval(value: float, low: float | None, high: float | None) -> str:
    """A rate and its interval, in percent."""
    bounds = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{100 * value:.2f}{bounds}"


def main() -> None:
    """Reads the options, trains, prints."""
    parser = argparse.ArgumentParser(description="Word error rate against seconds of training.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--epochs", type=int, default=30, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is trained with each of them")
    parser.add_argument("--study", choices=list(STUDIES), default="time", help="what is compared")
    parser.add_argument("--rows", nargs="+", help="of the study; by default all of them; full is always in")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows")
    options = parser.parse_args()
    known = list(STUDIES[options.study])
    unknown = sorted({*(options.rows or known)} - {*known})
    if unknown:
        parser.error(f"--rows: got {', '.join(unknown)}, allowed are {', '.join(known)}.")
    rows = ["full", *(row for row in options.rows or known if row != "full")]
    turns = [(row, seed) for seed in options.seeds for row in rows]
    for row, seed in track(turns, description="Training"):
        run(options, row, seed)
    show(report(options.exp_dir, [name_of(row, seed) for row, seed in turns], method="ctc_greedy"))


if __name__ == "__main__":
    main()
