#!/usr/bin/env python3
"""Word error rate against seconds of training: full data, pruned utterances, pruned utterances and segments.

    python benchmarks/time_to_wer.py --exp-dir exp/time_to_wer [--epochs 30] [--seeds 0 1 2] [--rows ROW ...]
    python benchmarks/time_to_wer.py --exp-dir exp/segments --study segments --epochs 14
    python benchmarks/time_to_wer.py --exp-dir exp/masks --study masks --epochs 15

The study `time` compares whole systems; `segments` compares ways to choose segments, shares of the time to keep and
lengths of the chunks, on all utterances; `masks` compares methods of sparse masks, whose rows save no seconds: zeros of
single weights are multiplied like any other number. Trains each row with each seed, one after another in turns (all
rows with the first seed, then with the next), decodes and scores it. What is trained already is not trained again, so
that it may be stopped and called again.

A row `full-as-ROW` is full data that stops at the same time as ROW with the same seed, with its schedules: what ROW
saves in seconds, full data could have spent otherwise. Each row is compared with full data, and with full data at its
own time where there is such a row, over utterances and seeds, and tested for non-inferiority (`asrsparse compare`) with
`--margin`, or `--relative-margin`. Prints a table of rows and one line of JSON, and leaves RESULTS.md, which has every
run, in the folder. Run it alone on the machine, or compare no seconds.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.reports.report import report
from asrsparse.reports.rows import Report, ReportRow
from asrsparse.scoring.comparison import Margin
from asrsparse.scoring.score import read_scored
from asrsparse.scoring.seeds import SeedComparison, compare_seeds
from asrsparse.scoring.table_formats import format_difference, format_rate

METHOD = "ctc_greedy"
AT_TIME_OF = "full-as-"
"""How the name of a row begins that is full data, stopped at the same time as the row that its name ends with."""


def segments(choice: str, keep_ratio: float, chunk_seconds: float = 0.1) -> list[str]:
    """The overrides of one way to prune segments, of all utterances."""
    return [
        "pruning=none",
        f"segments={choice}",
        f"segments.keep_ratio={keep_ratio}",
        f"segments.chunk_seconds={chunk_seconds}",
        "segments.final_epochs=0",
    ]


def stopped_with(*rows: str) -> dict[str, list[str]]:
    """Full data that stops at the same time as each of some rows; `run` adds which run that is."""
    return {f"{AT_TIME_OF}{row}": ["pruning=none"] for row in rows}


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
    }
    | stopped_with("easy2hard-0.7", "easy2hard-0.7-energy-0.7", "energy-0.5", "random-0.7-energy-0.5"),
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
        *budget_of(row, seed),
        f"trainer.num_epochs={options.epochs}",
    ]
    overrides += [f"seed={seed}", f"name={name_of(row, seed)}", f"exp_dir={options.exp_dir}", *options.overrides]
    for command in ("train", "decode", "score"):
        subprocess.run([sys.executable, "-m", "asrsparse", command, *overrides], check=True)


def budget_of(row: str, seed: int) -> list[str]:
    """The overrides by which a row stops at the same time as another one."""
    if not row.startswith(AT_TIME_OF):
        return []
    timed = name_of(row.removeprefix(AT_TIME_OF), seed)
    return [f"trainer.budget.same_time_as={timed}", f"trainer.budget.rate_of={name_of('full', seed)}"]


def name_of(row: str, seed: int) -> str:
    """The folder of a row with a seed."""
    return f"{row}-seed{seed}"


@dataclass(frozen=True)
class Result:
    """A row over all seeds.

    Attributes:
        runs: The rows of the report, one for each seed.
        to_full: The comparison with full data.
        at_equal_time: The comparison with full data that stopped at the same time; None without such a row.
        times_less: The training seconds of full data over those of this row, the mean over the seeds.
    """

    row: str
    runs: list[ReportRow]
    to_full: SeedComparison
    at_equal_time: SeedComparison | None
    times_less: float


def results_of(options: argparse.Namespace, rows: Sequence[str], gathered: Report, margin: Margin) -> list[Result]:
    """Compares all rows over utterances and seeds."""
    runs = {run.name: run for run in gathered.rows}
    of_row = {row: [runs[name_of(row, seed)] for seed in options.seeds] for row in rows}
    read = {
        row: [read_scored(options.exp_dir / run.name / f"decode_test_{METHOD}") for run in found]
        for row, found in of_row.items()
    }
    bootstrap = read["full"][0].bootstrap

    def compared(first: str, second: str) -> SeedComparison:
        sides = ([scored.utterances for scored in read[row]] for row in (first, second))
        return compare_seeds(*sides, bootstrap, margin, (first, second))

    return [
        Result(
            row,
            found,
            compared("full", row),
            compared(f"{AT_TIME_OF}{row}", row) if f"{AT_TIME_OF}{row}" in rows else None,
            statistics.fmean(f.train_seconds / r.train_seconds for f, r in zip(of_row["full"], found, strict=True)),
        )
        for row, found in of_row.items()
    ]


def show(results: Sequence[Result], margin: Margin) -> None:
    """Prints the table and the line of JSON."""
    titles = ("row", "WER %\n[95 %]", "minus\nfull", "non-\ninferior", "minus full\nat equal time", "hours\nheard")
    table = Table(*titles, "training s\n[times less]")
    for result in results:
        compared, equal = result.to_full, result.at_equal_time
        hours, seconds = (
            statistics.fmean(getattr(r, n) for r in result.runs) for n in ("hours_heard", "train_seconds")
        )
        cells = [
            format_rate(compared.wer, compared.ci_low, compared.ci_high),
            "-" if result.row == "full" else difference(compared),
            "-" if result.row == "full" else "shown" if compared.non_inferiority.shown else "not shown",
            "-" if equal is None else difference(equal),
            f"{hours:.2f}",
            f"{seconds:.0f} [{result.times_less:.2f}]",
        ]
        table.add_row(result.row, *(cell.replace(" [", "\n\\[") for cell in cells))
    Console().print(table)
    Console().print(f"Means and 95 % intervals over utterances and {results[0].to_full.num_seeds} seeds.", end=" ")
    Console().print(f"Non-inferior: worse than full by less than {margin} (one-sided, 2.5 %).")
    record = {"benchmark": "time_to_wer", "margin": asdict(margin), "rows": [asdict(result) for result in results]}
    sys.stdout.write(json.dumps(record) + "\n")


def difference(compared: SeedComparison) -> str:
    """A difference and its interval, in points."""
    versus = compared.comparison
    return format_difference(versus.delta_wer, versus.delta_ci_low, versus.delta_ci_high)


def in_order(study: dict[str, list[str]], wanted: Sequence[str] | None) -> list[str]:
    """The rows to train: full data first, rows that stop with another one last, and all that these need."""
    chosen = {"full", *(wanted or study)}
    chosen |= {row.removeprefix(AT_TIME_OF) for row in chosen if row.startswith(AT_TIME_OF)}
    return [row for row in study if row in chosen]


def main() -> None:
    """Reads the options, trains, prints."""
    parser = argparse.ArgumentParser(description="Word error rate against seconds of training.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--epochs", type=int, default=30, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="each row is trained with each of them")
    parser.add_argument("--study", choices=list(STUDIES), default="time", help="what is compared")
    parser.add_argument("--rows", nargs="+", help="of the study; by default all of them; full is always in")
    margins = parser.add_mutually_exclusive_group()
    margins.add_argument("--margin", type=float, default=1.0, help="of the non-inferiority test, in points of WER")
    margins.add_argument("--relative-margin", type=float, help="the same in per cent of full data's WER")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows")
    options = parser.parse_args()
    known = list(STUDIES[options.study])
    unknown = sorted({*(options.rows or known)} - {*known})
    if unknown:
        parser.error(f"--rows: got {', '.join(unknown)}, allowed are {', '.join(known)}.")
    relative = options.relative_margin is not None
    margin = Margin((options.relative_margin if relative else options.margin) / 100, relative)
    rows = in_order(STUDIES[options.study], options.rows)
    turns = [(row, seed) for seed in options.seeds for row in rows]
    for row, seed in track(turns, description="Training"):
        run(options, row, seed)
    gathered = report(options.exp_dir, [name_of(row, seed) for row, seed in turns], method=METHOD)
    show(results_of(options, rows, gathered, margin), margin)


if __name__ == "__main__":
    main()
