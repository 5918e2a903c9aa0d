"""Error rates in noise: systems side by side, under each condition that they were decoded under.

Of each run, `config.yaml` and the folders `decode_<split>_<method>[_<noise><dB>dB]` are read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from asrsparse.files import write_json, write_text
from asrsparse.reports.run_selection import modality_of
from asrsparse.scoring.bootstrap import Comparison, compare
from asrsparse.scoring.comparable import check_same_test_set, check_scored_alike
from asrsparse.scoring.decodings import (
    BABBLE,
    CLEAN,
    NoiseCondition,
    decoding_name,
    parse_decoding_name,
    quiet_to_loud,
)
from asrsparse.scoring.score import read_scored
from asrsparse.scoring.table_formats import markdown_table, terminal_table


@dataclass(frozen=True)
class Cell:
    """One system under one condition. Rates are fractions.

    Attributes:
        wer: The word error rate.
        ci_low: The lower end of its 95 % interval.
        ci_high: The upper end.
        versus_first: The difference from the first system under this condition; None for the first system itself, and
            where that was not decoded under this condition.
    """

    wer: float
    ci_low: float
    ci_high: float
    versus_first: Comparison | None = None


@dataclass(frozen=True)
class NoiseRow:
    """One system in the table of error rates in noise.

    Attributes:
        name: The name of its run.
        modality: The name of its modality. A model of video alone has the same cell under every condition.
        cells: Its rates by condition.
    """

    name: str
    modality: str
    cells: dict[NoiseCondition, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class _Decoded:
    """The folders of a run's decodings, by condition."""

    run_dir: Path
    modality: str
    folders: dict[NoiseCondition, Path]

    def at(self, condition: NoiseCondition) -> Path | None:
        return self.folders.get(CLEAN if self.modality == "video" else condition)


def report_noise(
    run_dirs: Sequence[Path], method: str = "ctc_greedy", split: str = "test"
) -> tuple[Path, list[NoiseCondition], list[NoiseRow]]:
    """Writes `NOISE.md` and `noise.json` beside the first run.

    Args:
        run_dirs: The folders of runs; the others are compared with the first, paired, on the same noisy test set.
        method: The method of decoding.
        split: The name of the test set.

    Returns:
        The path of `NOISE.md`, the conditions from quiet to loud, and the rows.

    Raises:
        ValueError: If a run was not decoded or scored, no run was decoded in noise, or runs were not scored alike on
            the same utterances.
    """
    decoded = [_find(run_dir, method, split) for run_dir in run_dirs]
    conditions = quiet_to_loud(condition for one in decoded for condition in one.folders)
    if conditions == [CLEAN]:
        raise ValueError(
            f"report noise: got {', '.join(one.run_dir.name for one in decoded)}, which were decoded clean alone. "
            "Decode and score them in noise first: decode.snrs=[clean,12.5,7.5,2.5,-2.5,-7.5]."
        )
    rows = [NoiseRow(one.run_dir.name, one.modality, _cells(one, decoded[0], conditions)) for one in decoded]
    path = run_dirs[0].parent / "NOISE.md"
    write_text(path, to_markdown(conditions, rows))
    write_json(path.with_name("noise.json"), {"method": method, "split": split, "rows": [_values(row) for row in rows]})
    return path, conditions, rows


def _find(run_dir: Path, method: str, split: str) -> _Decoded:
    if not (run_dir / "config.yaml").is_file():
        raise ValueError(f"report noise: {run_dir} is no folder of a run. Name folders such as exp/grid/full-dense.")
    name = decoding_name(split, method)
    parsed = [(folder, *parse_decoding_name(folder.name)) for folder in sorted(run_dir.glob(f"{name}*"))]
    folders = {
        condition: folder for folder, base, condition in parsed if base == name and (folder / "score.json").is_file()
    }
    if not folders:
        raise ValueError(f"{run_dir} has no scored {name}. Run `asrsparse decode` and `asrsparse score` for it first.")
    return _Decoded(run_dir, modality_of(run_dir), folders)


def _cells(one: _Decoded, first: _Decoded, conditions: Sequence[NoiseCondition]) -> dict[NoiseCondition, Cell]:
    folders = {condition: one.at(condition) for condition in conditions}
    return {
        condition: _cell(folder, None if one is first else first.at(condition))
        for condition, folder in folders.items()
        if folder
    }


def _cell(folder: Path, baseline: Path | None) -> Cell:
    scored = read_scored(folder)
    versus = None
    if baseline is not None:
        first, names = read_scored(baseline), (str(baseline), str(folder))
        check_scored_alike(names, [first.scores, scored.scores])
        check_same_test_set(first.utterances, scored.utterances, names, (baseline, folder))
        versus = compare(first.utterances, scored.utterances, scored.bootstrap, names)
    return Cell(scored.scores["wer"], scored.scores["ci_low"], scored.scores["ci_high"], versus)


def _values(row: NoiseRow) -> dict[str, Any]:
    cells = {condition.key: asdict(cell) for condition, cell in row.cells.items()}
    return {"name": row.name, "modality": row.modality, "cells": cells}


# ------------------------------------------------------------------------------------------------------------- showing


def _noise_in(conditions: Sequence[NoiseCondition]) -> str:
    """The names of the noises."""
    return " and ".join(dict.fromkeys(condition.name for condition in conditions if condition != CLEAN))


def to_table(conditions: Sequence[NoiseCondition], rows: Sequence[NoiseRow]) -> Table:
    """Makes the table for the terminal."""
    cells = [[row.name, *(_in_lines(_rate(row.cells.get(condition))) for condition in conditions)] for row in rows]
    titles = ["system", *(condition.title for condition in conditions)]
    return terminal_table(f"WER % [95 %] in {_noise_in(conditions)}", titles, cells)


def _in_lines(rate: str) -> str:
    """A rate above its interval, so that seven columns fit in a narrow terminal."""
    return rate.replace(" ", "\n").replace(",", ",\n")


def to_markdown(conditions: Sequence[NoiseCondition], rows: Sequence[NoiseRow]) -> str:
    """Returns the text of NOISE.md."""
    titles = ["system", "modality", *(condition.title for condition in conditions)]
    rates = [[row.name, row.modality, *(_rate(row.cells.get(c)) for c in conditions)] for row in rows]
    differences = [[row.name, row.modality, *(_versus(row.cells.get(c)) for c in conditions)] for row in rows[1:]]
    parts = [
        f"# Word error rates in {_noise_in(conditions)}",
        "WER % [95 %], by the ratio of signal to noise.",
        markdown_table(titles, rates, num_text_columns=2),
    ]
    if differences:
        parts.append(f"WER minus that of {rows[0].name}, paired:")
        parts.append(markdown_table(titles, differences, num_text_columns=2))
    babble = (
        "Babble: voices of the corpus's dev set, mixed into each utterance at the ratio of their mean powers. "
        if BABBLE in _noise_in(conditions)
        else ""
    )
    parts.append(
        f"{babble}All systems are decoded in the same noise. A model that reads video alone has one error rate."
    )
    return "\n\n".join(parts) + "\n"


def _rate(cell: Cell | None) -> str:
    return "-" if cell is None else f"{100 * cell.wer:.1f} [{100 * cell.ci_low:.1f},{100 * cell.ci_high:.1f}]"


def _versus(cell: Cell | None) -> str:
    if cell is None or cell.versus_first is None:
        return "-"
    versus = cell.versus_first
    return f"{100 * versus.delta_wer:+.1f} [{100 * versus.delta_ci_low:.1f},{100 * versus.delta_ci_high:.1f}]"
