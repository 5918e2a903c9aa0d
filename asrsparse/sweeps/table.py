"""The table of a sweep: the report of its runs, and the means of those that differ in their seed alone."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from rich import box
from rich.console import Console
from rich.table import Table

from asrsparse.files import write_json, write_text
from asrsparse.reports.report import report
from asrsparse.reports.rows import Row
from asrsparse.sweeps.combinations import Run


@dataclass(frozen=True)
class Mean:
    """What runs say that differ in their seed alone. Rates are fractions.

    `lowest` and `highest` are the error rates of single runs, `minus_first` is the difference of two means.
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


def means(rows: Sequence[Row], groups: Mapping[str, str]) -> list[Mean]:
    """Means over seeds, in the order of the rows.

    Args:
        rows: One for each run.
        groups: The group of each run, by its name.
    """
    parted: dict[str, list[Row]] = {}
    for row in rows:
        parted.setdefault(groups[row.name], []).append(row)
    first = mean(row.wer for row in next(iter(parted.values())))
    return [_mean(name, members, first) for name, members in parted.items()]


def _mean(name: str, rows: Sequence[Row], first: float) -> Mean:
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


def tabulate(exp_dir: Path, runs: Sequence[Run], failures: Mapping[str, str]) -> None:
    """Writes `RESULTS.md` (the report of all finished runs) and `SWEEP.md` and `sweep.json` into a folder, and prints.

    Args:
        exp_dir: Where the runs lie.
        runs: All of the sweep.
        failures: Why a run failed, by its name.
    """
    finished = [run for run in runs if run.name not in failures]
    tables = _means_by_split(exp_dir, finished)
    state = {run.name: failures.get(run.name, "finished") for run in runs}
    listed = [{"name": run.name, "state": state[run.name], "overrides": list(run.overrides)} for run in runs]
    by_split = {split: [asdict(row) for row in rows] for split, rows in tables.items()}
    write_json(exp_dir / "sweep.json", {"runs": listed, "means": by_split})
    write_text(exp_dir / "SWEEP.md", _markdown(runs, tables, failures))
    for split, rows in tables.items():
        Console().print(_table(split, rows))
    sys.stdout.writelines(
        f"{run.name} failed: {failures[run.name]}; {run.log}\n" for run in runs if run.name in failures
    )
    sys.stdout.write(f"{exp_dir / 'SWEEP.md'}\n")


def _means_by_split(exp_dir: Path, runs: Sequence[Run]) -> dict[str, list[Mean]]:
    """The means of each test set; also has the report of the runs written."""
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


def _table(split: str, rows: Sequence[Mean]) -> Table:
    table = Table(title=f"{split}, means over seeds", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(COLUMNS):
        table.add_column(title.replace(" ", "\n", 1), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _markdown(runs: Sequence[Run], tables: Mapping[str, Sequence[Mean]], failures: Mapping[str, str]) -> str:
    parts = [f"# Sweep of {len(runs)} runs"]
    for split, rows in tables.items():
        lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *map(_cells, rows)]
        parts += [f"## {split}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    if tables:
        parts.append(
            "Means over seeds, and the lowest and the highest of them; no intervals, which RESULTS.md has of each. "
            "Training s: of the clock, slowed by whatever ran at the same time."
        )
    parts += ["## Runs", "\n".join(f"- {_line(run, failures)}" for run in runs)]
    return "\n\n".join(parts) + "\n"


def _line(run: Run, failures: Mapping[str, str]) -> str:
    ended = f"failed: {failures[run.name]}, see `{run.log}`" if run.name in failures else "finished"
    return f"`{run.name}`, {ended}: `asrsparse train {shlex.join(run.overrides)}`"
