"""The table of a sweep: the report of its runs, and the means over runs that differ in their seed alone."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from rich.console import Console

from asrsparse.files import write_json, write_text
from asrsparse.reports.report import report
from asrsparse.reports.rows import ReportRow
from asrsparse.scoring.table_formats import markdown_table, terminal_table
from asrsparse.sweeps.combinations import SweepRun


@dataclass(frozen=True)
class Mean:
    """The means over runs that differ in their seed alone. Rates are fractions.

    Attributes:
        name: What the runs share.
        seeds: The number of runs.
        wer: The mean word error rate.
        lowest: The lowest word error rate of a run.
        highest: The highest one.
        minus_first: The mean word error rate minus that of the first group of the table.
        hours_heard: The mean hours of speech that training processed.
        train_seconds: The mean seconds of training.
        density: The mean share of weights that are not zero.
    """

    name: str
    seeds: int
    wer: float
    lowest: float
    highest: float
    minus_first: float
    hours_heard: float
    train_seconds: float
    density: float


def means(rows: Sequence[ReportRow], groups: Mapping[str, str]) -> list[Mean]:
    """Returns the means over seeds, in the order of the rows.

    Args:
        rows: One row for each run.
        groups: The group of each run, by its name.
    """
    members: dict[str, list[ReportRow]] = {}
    for row in rows:
        members.setdefault(groups[row.name], []).append(row)
    first = mean(row.wer for row in next(iter(members.values())))
    return [_mean(name, of_group, first) for name, of_group in members.items()]


def _mean(name: str, rows: Sequence[ReportRow], first: float) -> Mean:
    rates = [row.wer for row in rows]
    return Mean(
        name=name,
        seeds=len(rows),
        wer=mean(rates),
        lowest=min(rates),
        highest=max(rates),
        minus_first=mean(rates) - first,
        hours_heard=mean(row.hours_heard for row in rows),
        train_seconds=mean(row.train_seconds for row in rows),
        density=mean(row.density for row in rows),
    )


def tabulate(exp_dir: Path, runs: Sequence[SweepRun], failures: Mapping[str, str]) -> None:
    """Writes the report of all finished runs, `SWEEP.md` and `sweep.json` into a folder, and prints the tables.

    Args:
        exp_dir: The folder of the runs.
        runs: All runs of the sweep.
        failures: The reason why a run failed, by the name of the run.

    Raises:
        ValueError: As for `report`.
    """
    finished = [run for run in runs if run.name not in failures]
    tables = _means_by_split(exp_dir, finished)
    state = {run.name: failures.get(run.name, "finished") for run in runs}
    listed = [{"name": run.name, "state": state[run.name], "overrides": list(run.overrides)} for run in runs]
    by_split = {split: [asdict(row) for row in rows] for split, rows in tables.items()}
    write_json(exp_dir / "sweep.json", {"runs": listed, "means": by_split})
    write_text(exp_dir / "SWEEP.md", _markdown(runs, tables, failures))
    for split, rows in tables.items():
        titles = [title.replace(" ", "\n", 1) for title in COLUMNS]
        Console().print(terminal_table(f"{split}, means over seeds", titles, map(_cells, rows)))
    sys.stdout.writelines(
        f"{run.name} failed: {failures[run.name]}; {run.log}\n" for run in runs if run.name in failures
    )
    sys.stdout.write(f"{exp_dir / 'SWEEP.md'}\n")


def _means_by_split(exp_dir: Path, runs: Sequence[SweepRun]) -> dict[str, list[Mean]]:
    """Writes the report of the runs; returns the means of each test set."""
    if not runs:
        return {}
    groups, decode = {run.name: run.group for run in runs}, runs[0].config.decode
    made = report(exp_dir, list(groups), method=decode.method, splits=list(decode.splits))
    return {section.split: means(section.rows, groups) for section in made.sections}


COLUMNS = ("system", "WER %", "of seeds", "minus first", "hours heard", "training s", "density", "seeds")


def _cells(row: Mean) -> list[str]:
    return [
        row.name,
        f"{100 * row.wer:.2f}",
        f"{100 * row.lowest:.2f} to {100 * row.highest:.2f}" if row.seeds > 1 else "-",
        f"{100 * row.minus_first:+.2f}",
        f"{row.hours_heard:.2f}",
        f"{row.train_seconds:.0f}",
        f"{row.density:.3f}",
        str(row.seeds),
    ]


def _markdown(runs: Sequence[SweepRun], tables: Mapping[str, Sequence[Mean]], failures: Mapping[str, str]) -> str:
    parts = [f"# Sweep of {len(runs)} runs"]
    for split, rows in tables.items():
        parts += [f"## {split}", markdown_table(COLUMNS, map(_cells, rows))]
    if tables:
        parts.append(
            "Means over seeds, and the lowest and the highest of them; no intervals, which RESULTS.md has of each. "
            "Training s: of the clock, slowed by whatever ran at the same time."
        )
    parts += ["## Runs", "\n".join(f"- {_line(run, failures)}" for run in runs)]
    return "\n\n".join(parts) + "\n"


def _line(run: SweepRun, failures: Mapping[str, str]) -> str:
    ended = f"failed: {failures[run.name]}, see `{run.log}`" if run.name in failures else "finished"
    return f"`{run.name}`, {ended}: `asrsparse train {shlex.join(run.overrides)}`"
