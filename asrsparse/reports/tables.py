"""A report as text: RESULTS.md, and the tables for the terminal."""

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table

from asrsparse.reports.rows import Report, ReportRow, Section
from asrsparse.scoring.table_formats import format_difference, format_rate, markdown_table, terminal_table

Columns = Mapping[str, Callable[[ReportRow], str]]
"""The columns of a table: what each shows of a row, by its title."""

# ------------------------------------------------------------------------------------------------------------- columns


def word_columns(report: Report, section: Section) -> Columns:
    """Returns the columns of ESPnet's table of word errors, and of the comparison with the first row."""
    first = section.rows[0]
    return {
        **_who(report),
        "Snt": lambda r: str(r.utterances),
        "Wrd": lambda r: str(r.words),
        **_percents("words", "deletions", "insertions", "substitutions"),
        "Err [95 %]": lambda r: format_rate(r.wer, r.ci_low, r.ci_high),
        "S.Err": lambda r: f"{100 * r.sentence_error_rate:.1f}",
        f"Err minus {first.name} [95 %]": lambda r: "baseline" if r is first else _delta(r),
        "P(better)": lambda r: _maybe(r.p_better, ".3f"),
    }


def character_columns(report: Report) -> Columns:
    """Returns the columns of ESPnet's table of character errors."""
    errors = (f"character_{what}" for what in ("deletions", "insertions", "substitutions"))
    return {
        **_who(report),
        "Snt": lambda r: str(r.utterances),
        "Chr": lambda r: str(r.characters),
        **_percents("characters", *errors),
        "Err [95 %]": lambda r: format_rate(r.cer, r.cer_ci_low, r.cer_ci_high),
        "S.Err": lambda r: f"{100 * r.sentence_error_rate:.1f}",
    }


def token_columns(report: Report) -> Columns:
    """Returns the columns of the table of token errors."""
    return {**_who(report), "Err [95 %]": _token_rate}


def tables_of(report: Report, section: Section) -> dict[str, Columns]:
    """Returns the columns of each table of a section, by the title that ESPnet gives it."""
    tables = {"WER": word_columns(report, section), "CER": character_columns(report)}
    if any(row.ter is not None for row in section.rows):
        tables["TER"] = token_columns(report)
    return tables


def cost_columns(report: Report) -> Columns:
    """Returns the columns of the table of costs: hours, seconds, weights, memory, and decoding for each test set."""
    first = report.runs[0]
    return {
        **_who(report),
        "hours heard": lambda r: f"{r.hours_heard:.2f}",
        "training s": lambda r: f"{r.train_seconds:.0f}",
        "times less": lambda r: times_less(r, first),
        "epochs": lambda r: _maybe(r.epochs, "g"),
        "steps": lambda r: _maybe(r.steps, "d"),
        "density": lambda r: f"{r.density:.3f}",
        "parameters": lambda r: f"{r.parameters / 1e6:.2f} M",
        "memory GiB": lambda r: _maybe(r.peak_memory_gib, ".2f"),
        **{_decoding_title(report, section): _decoding_seconds(section) for section in report.sections},
        "seed": lambda r: _maybe(r.seed, "d"),
    }


def _who(report: Report) -> Columns:
    return {"system": lambda r: r.name} | ({"modality": lambda r: r.modality} if report.differ_in("modality") else {})


def _percents(total: str, deletions: str, insertions: str, substitutions: str) -> Columns:
    """ESPnet's columns from fields of a row that hold counts."""

    def percent(count: Callable[[ReportRow], int]) -> Callable[[ReportRow], str]:
        return lambda r: f"{100 * count(r) / max(getattr(r, total), 1):.1f}"

    return {
        "Corr": percent(lambda r: getattr(r, total) - getattr(r, deletions) - getattr(r, substitutions)),
        "Sub": percent(lambda r: getattr(r, substitutions)),
        "Del": percent(lambda r: getattr(r, deletions)),
        "Ins": percent(lambda r: getattr(r, insertions)),
    }


def _token_rate(row: ReportRow) -> str:
    if row.ter is None:
        return "-"
    if row.ter_ci_low is None or row.ter_ci_high is None:
        return f"{100 * row.ter:.2f}"
    return format_rate(row.ter, row.ter_ci_low, row.ter_ci_high)


def _delta(row: ReportRow) -> str:
    if row.delta_wer is None or row.delta_ci_low is None or row.delta_ci_high is None:
        return "-"
    return format_difference(row.delta_wer, row.delta_ci_low, row.delta_ci_high)


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def times_less(row: ReportRow, first: ReportRow) -> str:
    """Returns how many times less seconds of training a row took than the first one: `"1.25"`."""
    return f"{first.train_seconds / row.train_seconds:.2f}" if row.train_seconds else "-"


def _budget(row: ReportRow) -> str:
    """A sentence on the budget that ended a training."""
    budget = row.budget or {}
    if "same_time_as" in budget:
        return (
            f"{row.name}: stopped at the same time as {budget['same_time_as']}, with its schedules: the "
            f"{budget['of_seconds']:.0f} s of that system are {budget['hours']:.2f} h of speech at the pace of "
            f"{budget['rate_of']}."
        )
    what = f"{budget['hours']:g} hours of speech" if "hours" in budget else f"{budget['seconds']:g} s of training"
    return f"{row.name}: its budget was {what}, where its schedules ended."


def _decoding_title(report: Report, section: Section) -> str:
    return "decoding s" if len(report.sections) == 1 else f"decoding s, {title_of(report, section)}"


def _decoding_seconds(section: Section) -> Callable[[ReportRow], str]:
    seconds = {row.name: row.decode_seconds for row in section.rows}
    return lambda r: _maybe(seconds.get(r.name), ".1f")


# -------------------------------------------------------------------------------------------------------------- titles


def title_of(report: Report, section: Section) -> str:
    """Returns the heading of a section: the test set, and the method of decoding where there are several."""
    return f"{section.split}, {section.method}" if report.differ_in("method") else section.split


def describe(section: Section) -> str:
    """Returns a sentence on what was scored."""
    first = section.rows[0]
    return f"Split {section.split}, decoding {section.method}, {first.utterances} utterances, {first.words} words."


def missing_of(section: Section) -> str | None:
    """Returns a line of Markdown with the runs that have no score on a test set; None if there are none."""
    return f"**Without a score on this test set: {', '.join(section.missing)}.**" if section.missing else None


def left_out_of(report: Report) -> str | None:
    """Returns a line of Markdown with the runs that have no row; None if there are none."""
    return f"**Left out: {'; '.join(report.left_out)}.**" if report.left_out else None


# ----------------------------------------------------------------------------------------------------------- rendering


def to_tables(report: Report) -> list[Table]:
    """Makes a table for the terminal for each section, which fits into 80 columns: intervals are below their rates."""
    return [_terminal_table(report, section) for section in report.sections]


def _terminal_table(report: Report, section: Section) -> Table:
    words, costs = word_columns(report, section), cost_columns(report)
    columns: Columns = {
        **_who(report),
        "WER %\n[95 %]": words["Err [95 %]"],
        "minus\nbaseline": words[f"Err minus {section.rows[0].name} [95 %]"],
        "hours\nheard": costs["hours heard"],
        "training\nseconds\n[times less]": lambda r: f"{costs['training s'](r)} [{costs['times less'](r)}]",
        "density": costs["density"],
    }
    rows = [[column(row).replace(" [", "\n[") for column in columns.values()] for row in section.rows]
    return terminal_table(f"{report.recipe}: {describe(section)}", list(columns), rows)


def to_markdown(report: Report) -> str:
    """Returns the text of RESULTS.md."""
    parts = [
        f"# Results of {report.recipe}",
        left_out_of(report),
        "## Environments",
        "\n".join(environment_lines(report.runs)),
        *(part for section in report.sections for part in _section_parts(report, section)),
        "## Cost",
        _markdown_table(cost_columns(report), report.runs),
        "## Commands",
        *(f"### {name}\n\n```\n{text}\n```" for name, text in commands_of(report).items()),
        "## How to read this",
        "\n".join(f"- {note}" for note in notes_of(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section_parts(report: Report, section: Section) -> list[str | None]:
    tables = tables_of(report, section)
    shown = [f"### {title}\n\n{_markdown_table(columns, section.rows)}" for title, columns in tables.items()]
    return [f"## {title_of(report, section)}", describe(section), missing_of(section), *shown]


def _markdown_table(columns: Columns, rows: Sequence[ReportRow]) -> str:
    return markdown_table(list(columns), [[column(row) for column in columns.values()] for row in rows])


def environment_lines(rows: Sequence[ReportRow]) -> list[str]:
    """Returns lines of Markdown on the environments of the trainings: what they share, then what differs by run."""
    settings = list(dict.fromkeys(key for row in rows for key in row.environment if key != "date"))
    values = {key: [row.environment.get(key, "not recorded") for row in rows] for key in settings}
    differing = [key for key in settings if len(set(values[key])) > 1]
    dates = sorted({row.environment["date"] for row in rows if "date" in row.environment})
    lines = [f"- date: `{' to '.join(dict.fromkeys((dates[0], dates[-1])))}`"] if dates else []
    lines += [f"- {key}: `{values[key][0]}`" for key in settings if key not in differing]
    if differing:
        warning = (
            f"**The rows differ in {', '.join(differing)}**: consider that when you compare seconds and error rates."
        )
        lines = [warning, "", *lines]
    for key in differing:
        lines += [f"- {key} of {row.name}: `{value}`" for row, value in zip(rows, values[key], strict=True)]
    return lines or ["Not recorded."]


def commands_of(report: Report) -> dict[str, str]:
    """Returns the commands of each run, one on a line, by the name of the run."""
    commands = {row.name: {row.command: None} for row in report.runs}
    for row in report.rows:
        commands[row.name][row.decode_command] = None
    return {name: "\n".join(lines) for name, lines in commands.items()}


def notes_of(report: Report) -> list[str]:
    """Returns lines of Markdown on how to read the tables."""
    rows, bootstrap = report.rows, report.bootstrap
    notes = [
        "Corr, Sub, Del, Ins, Err: in per cent of the words (WER) or characters (CER) of the reference; S.Err: in per "
        "cent of the utterances. Errors are pooled over the test set, not averaged over utterances.",
        f"Intervals: 95 %, bootstrap over {bootstrap.unit}s, {bootstrap.resamples} resamples, seed {bootstrap.seed}.",
        f"Err minus {rows[0].name}: paired, both systems on the same resamples; negative is better. P(better) is the "
        "share of resamples with fewer errors (Bisani & Ney 2004).",
        f"Normaliser of both texts: {report.normaliser}. The space is a character in the CER.",
        "Hours heard: speech that training processed, over all epochs.",
        "Training s: of the clock, without validation. Trainings that ran at the same time slowed one another, and "
        "`run.sh` runs two unless it is given `--jobs 1`: compare seconds with care. "
        f"Times less: the seconds of {rows[0].name} over those of the row.",
    ]
    notes += [_budget(row) for row in report.runs if row.budget]
    if any(row.density < 1 or row.masks != "dense" for row in rows):
        notes.append(
            "Density: the share of weights that are not zero. Zeros are simulated sparsity, multiplied like any other "
            "number: a lower density alone saves no time and no memory. The measured seconds say what a system costs."
        )
    if any(row.ter is not None for row in rows):
        notes.append("TER: of each system's own tokens; only systems that share a tokenizer can be compared by it.")
    if any("/path/to/" in row.command + row.decode_command for row in rows):
        notes.append("`/path/to/` in a command stands for a folder of the machine that ran it.")
    return notes
