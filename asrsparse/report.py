"""The result of a recipe: gathers what its systems left behind into RESULTS.md, results.json and a table to look at.

Reads, of each system, `train.json`, `decode_<split>_<method>/{decode.json,score.json,ref.trn,hyp.trn}`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from asrsparse.conditions import decoding_name
from asrsparse.files import read_json, write_json, write_text
from asrsparse.normalisers import normalised, recorded_normaliser
from asrsparse.sclite import Utterance, pooled, read_decoded
from asrsparse.score import Bootstrap, Comparison, compare


@dataclass(frozen=True)
class Row:
    """One system. Rates are fractions; `None` stands for what a run did not record, and for the first row's comparison.

    `density` is that of the weights when training ended, `masks` the method that was in use until then.
    """

    name: str
    wer: float
    ci_low: float
    ci_high: float
    words: int
    hours_heard: float
    train_seconds: float
    density: float
    parameters: int
    command: str
    decode_command: str
    method: str
    cer: float
    cer_ci_low: float
    cer_ci_high: float
    utterances: int
    insertions: int
    deletions: int
    substitutions: int
    sentence_error_rate: float
    decode_seconds: float
    audio_hours: float
    delta_wer: float | None = None
    delta_ci_low: float | None = None
    delta_ci_high: float | None = None
    p_better: float | None = None
    epochs: float | None = None
    steps: int | None = None
    seed: int | None = None
    peak_memory_gib: float | None = None
    masks: str = "dense"
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The rows of a recipe, and what holds for all of them."""

    recipe: str
    split: str
    method: str
    bootstrap: Bootstrap
    normaliser: str
    rows: list[Row]


# ----------------------------------------------------------------------------------------------------------- gathering


@dataclass(frozen=True)
class _System:
    """What one system left on the disk."""

    name: str
    train: dict[str, Any]
    decode: dict[str, Any]
    score: dict[str, Any]
    utterances: list[Utterance]


def report(exp_dir: Path, systems: Sequence[str], *, method: str, split: str = "test") -> Report:
    """Gathers the systems of a recipe and writes `RESULTS.md` and `results.json` into its folder.

    Args:
        exp_dir: `exp/<recipe>`.
        systems: Names of the systems' folders in it; the others are compared with the first.
        method: Of decoding, as in `decode_<split>_<method>`.
        split: That was decoded.

    Raises:
        ValueError: If a stage has not run for a system (it is named), its files do not belong together, or the systems
            were not scored alike on the same utterances.
    """
    gathered = gather(exp_dir, systems, method=method, split=split)
    write_text(exp_dir / "RESULTS.md", to_markdown(gathered))
    write_json(exp_dir / "results.json", asdict(gathered))
    return gathered


def gather(exp_dir: Path, systems: Sequence[str], *, method: str, split: str = "test") -> Report:
    """Reads the systems of a recipe and compares them; writes nothing. Arguments and errors as for `report`."""
    if not systems:
        raise ValueError(f"No systems to report for {exp_dir}: name at least one folder in it.")
    read = [_read_system(exp_dir / name, decoding_name(split, method)) for name in systems]
    for system in read[1:]:
        for key in ("bootstrap", "normaliser"):
            if system.score[key] != read[0].score[key]:
                raise ValueError(
                    f"{system.name} was scored with {key} {system.score[key]}, {read[0].name} with "
                    f"{read[0].score[key]}: numbers of one table are made alike. Run `asrsparse score` for both again."
                )
    bootstrap, normaliser = Bootstrap(**read[0].score["bootstrap"]), read[0].score["normaliser"]
    rows = [_row(system, _compare(read[0], system, bootstrap), method) for system in read]
    return Report(
        exp_dir.name, split, method, bootstrap, f"{normaliser['name']}, version {normaliser['version']}", rows
    )


def _read_system(system_dir: Path, decoding: str) -> _System:
    decode_dir = system_dir / decoding
    train = read_stage(system_dir / "train.json", "train")
    decode = read_stage(decode_dir / "decode.json", "decode")
    score = read_stage(decode_dir / "score.json", "score")
    utterances = normalised(read_decoded(decode_dir), recorded_normaliser(score["normaliser"]))
    if pooled(utterance.word_errors for utterance in utterances).rate != score["wer"]:
        raise ValueError(
            f"{decode_dir}: score.json has WER {score['wer']}, but not its ref.trn and hyp.trn, which have changed "
            f"since. {_remedy(system_dir, 'score')}"
        )
    return _System(system_dir.name, train, decode, score, utterances)


_WRITTEN = {  # the keys without which there is no row, by the stage that writes them
    "train": ("command", "hours_heard", "train_seconds", "density", "parameters"),
    "decode": ("command", "audio_hours", "seconds"),
    "score": (
        *("wer", "ci_low", "ci_high", "cer", "cer_ci_low", "cer_ci_high", "words", "utterances"),
        *("insertions", "deletions", "substitutions", "sentence_error_rate", "bootstrap", "normaliser"),
    ),
}


def read_stage(path: Path, stage: str) -> dict[str, Any]:
    """Reads the JSON file that a stage leaves: `"train"`, `"decode"` or `"score"`.

    Raises:
        ValueError: If it is missing, or lacks what a report shows.
    """
    if not path.is_file():
        raise ValueError(f"No {path}: the stage `{stage}` has not finished. {_remedy(path.parent, stage)}")
    values: dict[str, Any] = read_json(path)
    missing = [key for key in _WRITTEN[stage] if key not in values]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. Another version wrote it? {_remedy(path.parent, stage)}")
    return values


def _remedy(folder: Path, stage: str) -> str:
    system_dir = folder.parent if folder.name.startswith("decode_") else folder
    system = re.sub("-(video|audiovisual)$", r" modality=\1", system_dir.name)
    return f"Run `asrsparse {stage} recipe={system_dir.parent.name} system={system}`."


def _compare(first: _System, system: _System, bootstrap: Bootstrap) -> Comparison | None:
    if system is first:
        return None
    return compare(first.utterances, system.utterances, bootstrap, names=(first.name, system.name))


def _row(system: _System, comparison: Comparison | None, method: str) -> Row:
    """Joins what the stages wrote under the names of `Row`; the rest of their files stays there."""
    train, decode = system.train, system.decode
    compared = asdict(comparison) if comparison else {}
    renamed = {
        "name": system.name,
        "method": method,
        "command": portable_command(train["command"]),
        "decode_command": portable_command(decode["command"]),
        "decode_seconds": decode["seconds"],
        "audio_hours": decode["audio_hours"],
    }
    values = {**train, **system.score, **compared, **renamed}
    return Row(**{key: value for key, value in values.items() if key in Row.__dataclass_fields__})


def portable_command(command: str) -> str:
    """A command without the folders of this machine, for a file that others read.

    Paths inside the current folder become relative, programs lose their folder, other paths keep their last part.

    Example:
        >>> portable_command("/opt/env/bin/asrsparse prepare corpus.dir=/data/grid pruning.keep_ratio=0.7")
        'asrsparse prepare corpus.dir=/path/to/grid pruning.keep_ratio=0.7'
    """
    here = Path.cwd()

    def shorten(match: re.Match[str]) -> str:
        path = Path(match[0])
        if path.parent.name == "bin":
            return path.name
        return str(path.relative_to(here)) if path.is_relative_to(here) else f"/path/to/{path.name}"

    # A slash after a word, a dot, `~`, `}` or `:` is inside a relative path, a fraction, a variable or an address.
    return re.sub(r"(?<![\w.~}:/*-])/[^\s'\"=,;]+", shorten, command)


# ----------------------------------------------------------------------------------------------------------- rendering


def format_rate(value: float, low: float, high: float) -> str:
    """A rate with its interval, in per cent: `12.34 [11.02, 13.70]`."""
    return f"{100 * value:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _delta(row: Row) -> str:
    if row.delta_wer is None or row.delta_ci_low is None or row.delta_ci_high is None:
        return "-"
    return f"{100 * row.delta_wer:+.2f} [{100 * row.delta_ci_low:+.2f}, {100 * row.delta_ci_high:+.2f}]"


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M"


Columns = Mapping[str, Callable[[Row], str]]


def _result_columns(report: Report) -> Columns:
    return {
        "system": lambda r: r.name,
        "WER % [95 %]": lambda r: format_rate(r.wer, r.ci_low, r.ci_high),
        f"WER minus {report.rows[0].name} [95 %]": _delta,
        "P(better)": lambda r: _maybe(r.p_better, ".3f"),
        "CER % [95 %]": lambda r: format_rate(r.cer, r.cer_ci_low, r.cer_ci_high),
        "ins": lambda r: str(r.insertions),
        "del": lambda r: str(r.deletions),
        "sub": lambda r: str(r.substitutions),
        "S.Err %": lambda r: f"{100 * r.sentence_error_rate:.1f}",
    }


def _cost_columns(report: Report) -> Columns:
    first = report.rows[0]
    return {
        "system": lambda r: r.name,
        "hours heard": lambda r: f"{r.hours_heard:.2f}",
        "training s": lambda r: f"{r.train_seconds:.0f}",
        f"of {first.name}": lambda r: f"{r.train_seconds / first.train_seconds:.2f}" if first.train_seconds else "-",
        "epochs": lambda r: _maybe(r.epochs, "g"),
        "steps": lambda r: _maybe(r.steps, "d"),
        "density": lambda r: f"{r.density:.3f}",
        "parameters": lambda r: _count(r.parameters),
        "memory GiB": lambda r: _maybe(r.peak_memory_gib, ".2f"),
        "decoding s": lambda r: f"{r.decode_seconds:.1f}",
        "seed": lambda r: _maybe(r.seed, "d"),
    }


def to_table(report: Report) -> Table:
    """The table for the terminal: what fits into 80 columns, intervals on a line of their own."""
    results, costs = _result_columns(report), _cost_columns(report)
    system, wer, delta = list(results.values())[:3]
    columns: Columns = {
        "system": system,
        "WER %\n[95 %]": wer,
        f"minus\n{report.rows[0].name}": delta,
        "hours\nheard": costs["hours heard"],
        "training\nseconds": costs["training s"],
        "density": costs["density"],
    }
    table = Table(title=f"{report.recipe}: {_scored(report)}", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(columns):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in report.rows:
        table.add_row(*(escape(column(row)).replace(" [", "\n[") for column in columns.values()))
    return table


def to_markdown(report: Report) -> str:
    """RESULTS.md."""
    parts = [
        f"# Results of {report.recipe}",
        f"Scored: {_scored(report)}.",
        "## Environments",
        _environments(report.rows),
        "## Word error rates",
        _markdown_table(_result_columns(report), report.rows),
        "## Cost",
        _markdown_table(_cost_columns(report), report.rows),
        "## Commands",
        *(f"### {row.name}\n\n```\n{row.command}\n{row.decode_command}\n```" for row in report.rows),
        "## How to read this",
        "\n".join(f"- {note}" for note in _notes(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _scored(report: Report) -> str:
    first = report.rows[0]
    return f"split {report.split}, decoding {report.method}, {first.utterances} utterances, {first.words} words"


def _markdown_table(columns: Columns, rows: Sequence[Row]) -> str:
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[column(row) for column in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _environments(rows: Sequence[Row]) -> str:
    """What all rows were trained with and, where they differ (dates aside), what each was."""
    settings = list(dict.fromkeys(key for row in rows for key in row.environment if key != "date"))
    values = {key: [row.environment.get(key, "not recorded") for row in rows] for key in settings}
    differing = [key for key in settings if len(set(values[key])) > 1]
    dates = sorted({row.environment["date"] for row in rows if "date" in row.environment})
    lines = [f"- date: `{' to '.join(dict.fromkeys((dates[0], dates[-1])))}`"] if dates else []
    lines += [f"- {key}: `{values[key][0]}`" for key in settings if key not in differing]
    if differing:
        warning = (
            f"**The rows differ in {', '.join(differing)}**: mind that when comparing their seconds and error rates."
        )
        lines = [warning, "", *lines]
    for key in differing:
        lines += [f"- {key} of {row.name}: `{value}`" for row, value in zip(rows, values[key], strict=True)]
    return "\n".join(lines) or "Not recorded."


def _notes(report: Report) -> list[str]:
    rows, bootstrap = report.rows, report.bootstrap
    notes = [
        f"Intervals: 95 %, bootstrap over {bootstrap.unit}s, {bootstrap.resamples} resamples, seed {bootstrap.seed}. "
        "Errors are pooled over the test set, not averaged over utterances.",
        f"WER minus {rows[0].name}: paired, both systems on the same resamples; negative is better. P(better) is the "
        "share of resamples with fewer errors (Bisani & Ney 2004).",
        f"Normaliser: {report.normaliser}. Upper and lower case differ where it leaves them; the space is a character "
        "in the CER.",
        "Hours heard: speech that training processed, over all epochs.",
        "Training s: of the clock, without validation. Trainings that ran at the same time slowed one another, and "
        "`run.sh` runs two unless it is given `--jobs 1`: compare seconds with care.",
    ]
    if any(row.density < 1 or row.masks != "dense" for row in rows):
        notes.append(
            "Density: the share of weights that are not zero. Zeros are simulated sparsity, multiplied like any other "
            "number: a lower density alone saves no time and no memory. The measured seconds say what a system costs."
        )
    if any("/path/to/" in row.command + row.decode_command for row in rows):
        notes.append("`/path/to/` in a command stands for a folder of the machine that ran it.")
    return notes
