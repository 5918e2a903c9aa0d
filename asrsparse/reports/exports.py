"""A report for other programs and for papers: results.json, results.csv and results.tex."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from asrsparse.reports.rows import Report, ReportRow, Section
from asrsparse.reports.tables import title_of

# -------------------------------------------------------------------------------------------------------- JSON and CSV


def to_json(report: Report) -> dict[str, Any]:
    """Returns the contents of results.json: the rows of all test sets in one list, and what all of them share."""
    return {
        "recipe": report.recipe,
        "bootstrap": asdict(report.bootstrap),
        "normaliser": report.normaliser,
        "left_out": report.left_out,
        "sections": [{"split": s.split, "method": s.method, "missing": s.missing} for s in report.sections],
        "rows": [asdict(row) for row in report.rows],
    }


def to_csv(report: Report) -> str:
    """Returns the text of results.csv: a line for each row, without environment and budget, and not rounded."""
    names = [one.name for one in fields(ReportRow) if one.name not in ("environment", "budget")]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in report.rows)
    return text.getvalue()


# --------------------------------------------------------------------------------------------------------------- LaTeX

_ESCAPES = {  # brackets and stars are hidden, since they would be arguments of the \\ before them
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*`"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", '"': "''"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
}
_RATES: dict[str, Callable[[ReportRow], tuple[float | None, float | None, float | None]]] = {
    "WER": lambda r: (r.wer, r.ci_low, r.ci_high),
    "CER": lambda r: (r.cer, r.cer_ci_low, r.cer_ci_high),
    "TER": lambda r: (r.ter, r.ter_ci_low, r.ter_ci_high),
}
_COSTS: dict[str, Callable[[ReportRow], str]] = {
    "Hours heard": lambda r: f"{r.hours_heard:.2f}",
    "Training s": lambda r: f"{r.train_seconds:.0f}",
    "Density": lambda r: f"{r.density:.3f}",
}


def escape(text: str) -> str:
    r"""Escapes text for LaTeX, in any encoding of fonts: accents are dropped, other characters than ASCII become `?`.

    Example:
        >>> escape("easy2hard_50% [é]")
        'easy2hard\\_50\\% {[}e{]}'
    """
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in letters)
    return re.sub("-(?=-)", "-{}", "".join(_ESCAPES.get(letter, letter) for letter in plain))  # no dashes


def to_latex(report: Report) -> str:
    r"""Returns a table for each rate, with a column for each test set; the document needs `\usepackage{booktabs}`."""
    recorded = [title for title, rate in _RATES.items() if any(rate(row)[0] is not None for row in report.rows)]
    tables = [_latex_table(report, title) for title in recorded]
    return "\n".join(["% Written by asrsparse report. The preamble needs: \\usepackage{booktabs}", *tables])


def _latex_table(report: Report, title: str) -> str:
    heads = ["System", *(["Modality"] if report.differ_in("modality") else []), *_COSTS]
    heads += [title_of(report, section) for section in report.sections]
    rows = [_latex_row(report, row, title) for row in report.runs]
    lines = [" & ".join(cells) + r" \\" for cells in (map(escape, heads), *rows)]
    return "\n".join(
        [
            *(r"\begin{table}", r"\centering", rf"\caption{{{_caption(report, title)}}}"),
            *(rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]),
            *(r"\bottomrule", r"\end{tabular}", r"\end{table}", ""),
        ]
    )


def _latex_row(report: Report, row: ReportRow, title: str) -> list[str]:
    mark = r"$^{\star}$" if row is report.runs[0] else ""
    modality = [escape(row.modality)] if report.differ_in("modality") else []
    costs = [cost(row) for cost in _COSTS.values()]
    return [escape(row.name) + mark, *modality, *costs, *(_rate_of(s, row.name, title) for s in report.sections)]


def _rate_of(section: Section, name: str, title: str) -> str:
    """The rate and its interval in small print; two hyphens, a dash, where there is none."""
    for row in section.rows:
        rate, low, high = _RATES[title](row)
        if row.name == name and rate is not None:
            interval = "" if low is None or high is None else rf" {{\scriptsize [{100 * low:.2f}, {100 * high:.2f}]}}"
            return f"{100 * rate:.2f}{interval}"
    return "--"


def _caption(report: Report, title: str) -> str:
    methods = ", ".join(dict.fromkeys(section.method for section in report.sections))
    bootstrap = report.bootstrap
    left_out = f" Left out: {'; '.join(report.left_out)}." if report.left_out else ""
    text = (
        f"{title} (%) of {report.recipe} with 95 % intervals (bootstrap over {bootstrap.unit}s, {bootstrap.resamples} "
        f"resamples); decoding {methods}; normaliser {report.normaliser}.{left_out}"
    )
    return rf"{escape(text)} $^{{\star}}$: the baseline."
