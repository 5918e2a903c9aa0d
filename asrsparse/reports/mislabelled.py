"""Utterances that look mislabelled, by their loss curves in the pruning log of a run.

Shape legend: E epochs, N utterances.
"""

import html
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import OmegaConf
from rich.table import Table

from asrsparse.config import read_config
from asrsparse.pruning.scores import SMOOTHING
from asrsparse.pruning.trajectories import MIN_EPOCHS, agreement, loss_curves, outliers, usual_curve
from asrsparse.reports.html_page import html_table
from asrsparse.reports.run_logs import read_log
from asrsparse.scoring.table_formats import terminal_table

MOST_SHOWN = 50
"""The most utterances of a run in tables; `pruning.json` has all."""


@dataclass(frozen=True)
class Suspect:
    """An utterance whose transcript may be wrong.

    Attributes:
        id: Its id.
        seconds: Its duration.
        score: How well its loss curve agrees with the usual one, at most 1.
        epochs: The epochs in which it was trained on.
        loss: Its loss per token when it was last trained on.
        usual_loss: The median loss per token in that epoch.
        suggestion: What to do about it.
    """

    id: str
    seconds: float
    score: float
    epochs: int
    loss: float
    usual_loss: float
    suggestion: str


@dataclass(frozen=True)
class Suspects:
    """The utterances of a run that look mislabelled.

    Attributes:
        name: The name of the run.
        num_compared: How many utterances have a loss curve that is long enough.
        utterances: Those that look mislabelled, the least agreeing first.
    """

    name: str
    num_compared: int
    utterances: list[Suspect] = field(default_factory=list)


def find_suspects(run_dir: Path, paths: list[Path], reference: Collection[str] | None = None) -> Suspects:
    """Compares the loss curve of each utterance with the median curve of a reference set.

    Args:
        run_dir: The folder of the run, with its `config.yaml`.
        paths: The files of its pruning log, one for each of E epochs.
        reference: Ids of utterances whose transcripts are known to be right; by default all utterances.

    Raises:
        ValueError: If a file is damaged, or the training set has no utterance of the reference.
    """
    log = [read_log(path, ("id", "duration", "score", "last_seen")) for path in paths]
    scores, last_seen = (np.stack([table[name].to_numpy() for table in log]) for name in ("score", "last_seen"))
    losses = loss_curves(
        scores, last_seen, OmegaConf.select(read_config(run_dir), "pruning.smoothing", default=SMOOTHING)
    )
    ids = log[0]["id"].to_pylist()
    curve = usual_curve(losses, None if reference is None else _rows_of(reference, ids))
    scored = agreement(losses, curve)
    rows = np.flatnonzero(outliers(scored))
    utterances = [_suspect(log[0], row, losses, curve, scored) for row in rows[np.argsort(scored[rows], kind="stable")]]
    return Suspects(run_dir.name, int(np.isfinite(scored).sum()), utterances)


def _rows_of(reference: Collection[str], ids: list[str]) -> NDArray[np.bool_]:
    rows = np.isin(np.array(ids, dtype=object), np.array(list(reference), dtype=object))
    if not rows.any():
        raise ValueError(
            f"reference: got {len(reference)} ids, allowed are ids of the training set, and none is. The first there "
            f"is {ids[0]!r}. Write one id a line."
        )
    return rows


def _suspect(
    log: pa.Table, row: int, losses: NDArray[np.float64], curve: NDArray[np.float64], scored: NDArray[np.float64]
) -> Suspect:
    epochs = np.flatnonzero(np.isfinite(losses[:, row]))
    loss, usual = float(losses[epochs[-1], row]), float(curve[epochs[-1]])
    suggestion = (
        "compare the transcript with the recording" if loss > usual else "look for noise or a cut in the recording"
    )
    return Suspect(
        log["id"][row].as_py(),
        float(log["duration"][row].as_py()),
        float(scored[row]),
        len(epochs),
        loss,
        usual,
        suggestion,
    )


_COLUMNS: dict[str, Callable[[Suspect], str]] = {
    "utterance": lambda suspect: suspect.id,
    "seconds": lambda suspect: f"{suspect.seconds:.1f}",
    "score": lambda suspect: f"{suspect.score:.2f}",
    "epochs": lambda suspect: str(suspect.epochs),
    "loss": lambda suspect: f"{suspect.loss:.2f}",
    "median loss": lambda suspect: f"{suspect.usual_loss:.2f}",
    "suggestion": lambda suspect: suspect.suggestion,
}


def summary(suspects: Suspects) -> str:
    """Returns a sentence on how many utterances look mislabelled, and among how many."""
    if not suspects.num_compared:
        return f"No utterance was trained on in {MIN_EPOCHS} epochs yet, so that no loss curves are compared."
    shown = f" The first {MOST_SHOWN} are shown." if len(suspects.utterances) > MOST_SHOWN else ""
    return (
        f"{len(suspects.utterances)} of {suspects.num_compared} loss curves do not go with the usual one: the "
        f"transcripts of these utterances may be wrong.{shown}"
    )


def html_section(suspects: Suspects) -> str:
    """Returns the section of a run as HTML."""
    shown = suspects.utterances[:MOST_SHOWN]
    table = html_table(_COLUMNS, shown) if shown else ""
    return f"<h3>Utterances that look mislabelled</h3><p>{html.escape(summary(suspects))}</p>{table}"


def to_table(suspects: Suspects) -> Table:
    """Returns the table of a run for the terminal."""
    rows = [[column(suspect) for column in _COLUMNS.values()] for suspect in suspects.utterances[:MOST_SHOWN]]
    return terminal_table(
        f"{suspects.name}: utterances that look mislabelled", list(_COLUMNS), rows, caption=summary(suspects)
    )
