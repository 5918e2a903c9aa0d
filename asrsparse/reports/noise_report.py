"""Error rates in noise: systems side by side, over the ratios of signal to babble that they were decoded at.

Reads, of each run, `config.yaml` and the folders `decode_<split>_<method>[_babble<dB>dB]`, which `decode.snrs` makes.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from asrsparse.files import write_json, write_text
from asrsparse.reports.selection import modality_of
from asrsparse.scoring.bootstrap import Bootstrap, Comparison, compare
from asrsparse.scoring.decodings import CLEAN, Snr, decoding_name
from asrsparse.scoring.score import check_scored_alike, read_scored


@dataclass(frozen=True)
class Cell:
    """One system at one ratio: its word error rate, the interval, and what the first system's is compared with it.

    Rates are fractions. `versus_first` is None for the first system, and where that was not decoded at this ratio.
    """

    wer: float
    ci_low: float
    ci_high: float
    versus_first: Comparison | None = None


@dataclass(frozen=True)
class Row:
    """One system; `cells` are by ratio. A model that hears nothing has the same cell at every ratio."""

    name: str
    modality: str
    cells: dict[Snr, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class _Decoded:
    """The folders of a run's decodings, by ratio."""

    run_dir: Path
    modality: str
    folders: dict[Snr, Path]

    def at(self, snr: Snr) -> Path | None:
        return self.folders.get(CLEAN if self.modality == "video" else snr)


def report_noise(
    run_dirs: Sequence[Path], method: str = "ctc_greedy", split: str = "test"
) -> tuple[Path, list[Snr], list[Row]]:
    """Writes `NOISE.md` and `noise.json` beside the first run.

    Args:
        run_dirs: Folders of runs; the others are compared with the first, paired, on the same noisy test set.
        method: Of decoding.
        split: That was decoded.

    Returns:
        The file, the ratios from quiet to loud, and the rows.

    Raises:
        ValueError: If a run was not decoded or scored, or none was in noise.
    """
    decoded = [_find(run_dir, method, split) for run_dir in run_dirs]
    snrs = sorted(
        {snr for one in decoded for snr in one.folders}, key=lambda snr: -float("inf" if snr == CLEAN else snr)
    )
    if snrs == [CLEAN]:
        raise ValueError(
            f"report noise: got {', '.join(one.run_dir.name for one in decoded)}, which were decoded clean alone. "
            "Decode and score them in noise first: decode.snrs=[clean,12.5,7.5,2.5,-2.5,-7.5]."
        )
    rows = [Row(one.run_dir.name, one.modality, _cells(one, decoded[0], snrs)) for one in decoded]
    path = run_dirs[0].parent / "NOISE.md"
    write_text(path, to_markdown(snrs, rows))
    write_json(path.with_name("noise.json"), {"method": method, "split": split, "rows": [_values(row) for row in rows]})
    return path, snrs, rows


def _find(run_dir: Path, method: str, split: str) -> _Decoded:
    if not (run_dir / "config.yaml").is_file():
        raise ValueError(f"report noise: {run_dir} is no folder of a run. Name folders such as exp/grid/full-dense.")
    name = decoding_name(split, method)
    folders: dict[Snr, Path] = {}
    for folder in run_dir.glob(f"{name}*"):
        match = re.fullmatch(re.escape(name) + r"(?:_babble(-?[\d.]+)dB)?", folder.name)
        if match and (folder / "score.json").is_file():
            folders[float(match[1]) if match[1] else CLEAN] = folder
    if not folders:
        raise ValueError(f"{run_dir} has no scored {name}. Run `asrsparse decode` and `asrsparse score` for it first.")
    return _Decoded(run_dir, modality_of(run_dir), folders)


def _cells(one: _Decoded, first: _Decoded, snrs: Sequence[Snr]) -> dict[Snr, Cell]:
    folders = {snr: one.at(snr) for snr in snrs}
    return {snr: _cell(folder, first.at(snr), one is first) for snr, folder in folders.items() if folder}


def _cell(folder: Path, first: Path | None, is_first: bool) -> Cell:
    score, utterances = read_scored(folder)
    versus = None
    if first is not None and not is_first:
        names = (str(first), str(folder))
        baseline, of_first = read_scored(first)
        check_scored_alike(names, [baseline, score])
        versus = compare(of_first, utterances, Bootstrap(**score["bootstrap"]), names)
    return Cell(score["wer"], score["ci_low"], score["ci_high"], versus)


def _values(row: Row) -> dict[str, Any]:
    return {"name": row.name, "modality": row.modality, "cells": {str(s): asdict(c) for s, c in row.cells.items()}}


# ------------------------------------------------------------------------------------------------------------- showing


def title_of(snr: Snr) -> str:
    """What a column is called.

    Example:
        >>> title_of("clean"), title_of(-2.5)
        ('clean', '-2.5 dB')
    """
    return str(snr) if snr == CLEAN else f"{snr:g} dB"


def to_table(snrs: Sequence[Snr], rows: Sequence[Row]) -> Table:
    """The table for the terminal."""
    table = Table(title="WER % [95 %] in babble", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, title in enumerate(["system", *map(title_of, snrs)]):
        table.add_column(title, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for row in rows:
        table.add_row(row.name, *(_in_lines(_rate(row.cells.get(snr))) for snr in snrs))
    return table


def _in_lines(rate: str) -> str:
    """A rate above its interval, so that seven columns fit in a narrow terminal."""
    return escape(rate.replace(" ", "\n").replace(",", ",\n"))


def to_markdown(snrs: Sequence[Snr], rows: Sequence[Row]) -> str:
    """NOISE.md."""
    head = ["system", "modality", *map(title_of, snrs)]
    rates = [[row.name, row.modality, *(_rate(row.cells.get(snr)) for snr in snrs)] for row in rows]
    differences = [[row.name, row.modality, *(_versus(row.cells.get(snr)) for snr in snrs)] for row in rows[1:]]
    parts = ["# Word error rates in babble", "WER % [95 %], by the ratio of signal to noise.", _lines([head, *rates])]
    if differences:
        parts += [f"WER minus that of {rows[0].name}, paired:", _lines([head, *differences])]
    parts.append(
        "Babble: voices of the corpus's dev set, mixed into each utterance at the ratio of their mean powers. Every "
        "system hears the same noise. A model that sees alone has one error rate."
    )
    return "\n\n".join(parts) + "\n"


def _lines(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = cells
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---", "---", *["---:"] * (len(head) - 2)], *rows])


def _rate(cell: Cell | None) -> str:
    return "-" if cell is None else f"{100 * cell.wer:.1f} [{100 * cell.ci_low:.1f},{100 * cell.ci_high:.1f}]"


def _versus(cell: Cell | None) -> str:
    if cell is None or cell.versus_first is None:
        return "-"
    versus = cell.versus_first
    return f"{100 * versus.delta_wer:+.1f} [{100 * versus.delta_ci_low:.1f},{100 * versus.delta_ci_high:.1f}]"
