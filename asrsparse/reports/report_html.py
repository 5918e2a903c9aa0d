"""A report as one page, report.html, that needs no other file and no network."""

import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from asrsparse.reports.html_page import figure, html_table, inline, write_page
from asrsparse.reports.learning_curves import CURVES, LINES, NUM_COLORS, Curve, over_seconds, read_curves
from asrsparse.reports.rows import Report, ReportRow, Section
from asrsparse.reports.tables import (
    commands_of,
    cost_columns,
    describe,
    environment_lines,
    left_out_of,
    missing_of,
    notes_of,
    tables_of,
    title_of,
)

PAGES = {"pruning.html": "what was pruned", "masks.html": "what was masked"}
"""The pages of other reports that this one links to, each with the text of the link."""

_MARKERS = "osD^vP*X"

Runs = Mapping[str, Path]
"""The folder of each run, by its name in the report."""


def write_html(path: Path, report: Report, runs: Runs) -> None:
    """Writes the page of a report.

    Args:
        path: The path of the page.
        report: The report that it shows.
        runs: The folder of each run, by its name in the report.
    """
    commands = commands_of(report).items()
    sections = [
        _warning(left_out_of(report)),
        *(part for section in report.sections for part in _section_parts(report, section)),
        "<h2>Cost</h2>",
        html_table(cost_columns(report), report.runs),
        *_curves({row.name: read_curves(runs[row.name]) for row in report.runs}),
        *_links(path.parent, runs),
        "<h2>Environments</h2>",
        _list(environment_lines(report.runs)),
        "<h2>Commands</h2>",
        *(f"<details><summary>{html.escape(k)}</summary><pre>{html.escape(v)}</pre></details>" for k, v in commands),
        "<h2>How to read this</h2>",
        _list([*notes_of(report), "Plots: bars are the intervals; points of equal cost stand beside one another."]),
    ]
    write_page(path, f"Results of {report.recipe}", sections)


def _section_parts(report: Report, section: Section) -> list[str]:
    parts = [f"<h2>{html.escape(title_of(report, section))}</h2>", f"<p>{html.escape(describe(section))}</p>"]
    parts.append(_warning(missing_of(section)))
    for title, columns in tables_of(report, section).items():
        parts += [f"<h3>{title}</h3>", html_table(columns, section.rows)]
    names = [row.name for row in report.runs]
    height = _height([row.name for row in section.rows])
    title = f"WER on {title_of(report, section)} against cost"
    return [*parts, figure(title, lambda *axes: plot_wer(axes, section.rows, names), panels=2, height=height)]


def _warning(text: str | None) -> str:
    return f'<p class="warning">{inline(text)}</p>' if text else ""


def _list(lines: Sequence[str]) -> str:
    """Lines of Markdown, with or without `- ` before them."""
    items = [f"<li>{inline(line.removeprefix('- '))}</li>" for line in lines if line]
    return f"<ul>{''.join(items)}</ul>"


def _links(folder: Path, runs: Runs) -> list[str]:
    """Links to the pages of `report pruning` and `report masks` that are in the folder or in those of the runs."""
    folders = dict.fromkeys([folder.absolute(), *(run.absolute() for run in runs.values())])
    found = [(path / name, what) for path in folders for name, what in PAGES.items() if (path / name).is_file()]
    relative = [(os.path.relpath(path, folder.absolute()), what) for path, what in found]
    lines = [f'<li><a href="{quote(path)}">{html.escape(path)}</a>: {what}</li>' for path, what in relative]
    return ["<h2>More pages</h2>", f"<ul>{''.join(lines)}</ul>"] if lines else []


# --------------------------------------------------------------------------------------------------------------- plots


def plot_wer(panels: Sequence[Axes], rows: Sequence[ReportRow], names: Sequence[str]) -> None:
    """Draws WER against the hours of speech processed, and against the seconds of training, with intervals.

    Args:
        panels: The axes of two panels beside one another.
        rows: The rows of one test set.
        names: The names of all runs of the report, so that a run has the same colour and marker in each plot.
    """
    costs = {"hours heard": [row.hours_heard for row in rows], "seconds of training": [r.train_seconds for r in rows]}
    for axes, (title, values) in zip(panels, costs.items(), strict=True):
        for row, place in zip(rows, side_by_side(values), strict=True):
            number = names.index(row.name)
            bars = np.maximum([[row.wer - row.ci_low], [row.ci_high - row.wer]], 0.0)
            marker, color = _MARKERS[number // NUM_COLORS % len(_MARKERS)], f"C{number % NUM_COLORS}"
            axes.errorbar(place, 100 * row.wer, 100 * bars, marker=marker, color=color, capsize=2, label=row.name)
        axes.axhline(100 * rows[0].wer, color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel=title, ylabel="WER, % (dotted: the baseline's)", ylim=(0, None))
        if np.ptp(values) == 0.0:
            axes.set_xticks([values[0]], [f"{values[0]:.2f}, all of them"])
        else:
            axes.set_xlim(0, 1.1 * max(values))
    _legend(panels[0])


def side_by_side(values: Sequence[float]) -> NDArray[np.float64]:
    """Moves points with equal values apart by a few hundredths of the axis, so that all can be seen.

    Example:
        >>> side_by_side([10.0, 5.0, 10.0]).round(2).tolist()
        [9.93, 5.0, 10.07]
    """
    places = np.array(values, dtype=np.float64)
    span = float(places.max()) or 1.0
    group = np.round(places / (0.01 * span))
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        step = min(0.015, 0.1 / len(members)) * span
        places[members] += step * (np.arange(len(members)) - (len(members) - 1) / 2)
    return places


_TITLES = {"dev_loss": "loss on dev", "loss": "loss in training", "dev_wer": "WER on dev, %"}


def _curves(curves: Mapping[str, Mapping[str, Curve]]) -> list[str]:
    """The learning curves that some run has."""
    known = [name for name in CURVES if any(name in of_run for of_run in curves.values())]
    without = [name for name, of_run in curves.items() if not of_run]
    parts = ["<h2>Learning curves</h2>"]
    if without:
        parts.append(f"<p>Without TensorBoard files: {html.escape(', '.join(without))}.</p>")
    if known:
        title = f"After each epoch: {', '.join(_TITLES[name].removesuffix(', %') for name in known)}"
        height = _height(list(curves))
        parts.append(figure(title, lambda *axes: plot_curves(axes, known, curves), panels=len(known), height=height))
        parts += over_seconds({name: of_run for name, of_run in curves.items() if of_run}, height)
    return parts


def plot_curves(panels: Sequence[Axes], known: Sequence[str], curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draws the learning curves of all runs.

    Args:
        panels: The axes of a panel for each of the names in `known`.
        known: The names of the curves that are drawn.
        curves: The curves of each run, by its name.
    """
    for axes, curve in zip(panels, known, strict=True):
        percent = 100 if curve == "dev_wer" else 1
        for number, of_run in enumerate(curves.values()):
            drawn = of_run.get(curve, {})
            (line,) = axes.plot(list(drawn), [percent * value for value in drawn.values()], label=list(curves)[number])
            line.set(color=f"C{number % NUM_COLORS}", linestyle=LINES[number // NUM_COLORS % len(LINES)])
        axes.set(xlabel="epoch", ylabel=_TITLES[curve], yscale="linear" if percent == 100 else "log")
        if percent == 1:  # 0.6 and not 6 x 10^-1
            axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(panels[0])


def _legend(axes: Axes) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=_legend_columns(labels), fontsize=8)


def _legend_columns(names: Sequence[str]) -> int:
    return min(4, max(1, 110 // (max(map(len, names)) + 6)))


def _height(names: Sequence[str]) -> float:
    """Inches that panels with their legend need."""
    return 3.2 + 0.18 * math.ceil(len(names) / _legend_columns(names))
