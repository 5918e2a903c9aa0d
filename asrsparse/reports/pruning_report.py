"""What pruners did in some runs: reads `pruning/epoch_*.parquet` of each run, and makes one page of plots.

Shape legend: N utterances, E epochs.
"""

import html
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from numpy.typing import NDArray

from asrsparse.files import write_json
from asrsparse.pruning import Audit
from asrsparse.reports.html_page import figure, name_lines, write_page
from asrsparse.reports.mislabelled import Suspects, find_suspects, html_section
from asrsparse.reports.run_logs import common_folder, find_runs, read_log

logger = logging.getLogger(__name__)

LOG = "pruning/epoch_*.parquet"
"""The pattern of the files of the log in the folder of a run."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of the scores that the page shows."""

_MOST_DOTS = 20_000
_COLUMNS = ("duration", "kept", "times_seen", "score", "last_seen")


@dataclass
class PrunedRun:
    """The contents of the pruning log of a run.

    Attributes:
        name: The name of the run's folder.
        durations: The seconds of all utterances (N,).
        times_seen: How often each utterance was trained on, in all epochs (N,).
        audits: A line on what was kept and seen, for each of E epochs.
        kept_hours: The hours of the utterances that each epoch kept (E,).
        hours_heard: The hours of speech that were processed until the end of each epoch (E,).
        scores: The quantiles of the scores of the utterances seen so far, after each epoch (E, 5).
        overlap: The share of an epoch's kept hours that the epoch before kept too (E - 1,).
    """

    name: str
    durations: NDArray[np.float32]
    times_seen: NDArray[np.int64]
    audits: list[str] = field(default_factory=list)
    kept_hours: list[float] = field(default_factory=list)
    hours_heard: list[float] = field(default_factory=list)
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)


def report_pruning(
    folders: Sequence[Path], utterance_id: str | None = None, reference: Path | None = None
) -> tuple[Path, list[Suspects]]:
    """Writes `pruning.html`, which needs no other file, and `pruning.json`, which lists what looks mislabelled.

    They are written to the folder of the run, or to the one that holds all runs.

    Args:
        folders: The folders of runs, or of recipes, all of whose runs are taken.
        utterance_id: The utterance whose kept chunks are shown; by default the first of the training set.
        reference: A file with the ids, one a line, of utterances whose transcripts are known to be right; loss curves
            are compared with their median. By default it is that of all utterances.

    Returns:
        The path of the page, and what looks mislabelled in each run.

    Raises:
        ValueError: If there is no run, a run's files are damaged, or the reference names no utterance of a run.
        FileNotFoundError: If there is no such file of ids.
    """
    run_dirs = [run_dir for folder in folders for run_dir in find_runs(folder, LOG)]
    runs = [read_pruned_run(run_dir) for run_dir in run_dirs]
    ids = None if reference is None else reference.read_text().split()
    suspects = [find_suspects(run_dir, sorted(run_dir.glob(LOG)), ids) for run_dir in run_dirs]
    plots = {
        "Hours heard": lambda axes: plot_hours(axes, runs),
        "Hours kept in each epoch": lambda axes: plot_kept(axes, runs),
        "Kept in an epoch and in the one before": lambda axes: plot_overlap(axes, runs),
    }
    sections = ["<h2>All runs</h2>", *(figure(title, draw) for title, draw in plots.items())]
    for run_dir, run, found in zip(run_dirs, runs, suspects, strict=True):
        sections += [f"<h2>{html.escape(run.name)}</h2>", *_sections_of_run(run_dir, run, utterance_id)]
        sections.append(html_section(found))
    page = common_folder(run_dirs) / "pruning.html"
    write_json(page.with_suffix(".json"), {"mislabelled": [asdict(found) for found in suspects]})
    write_page(page, "What was pruned", sections)
    logger.info("%s shows %d runs.", page, len(runs))
    return page, suspects


def read_pruned_run(run_dir: Path) -> PrunedRun:
    """Reads the pruning log of a run.

    Raises:
        ValueError: If a file is damaged, or has another number of utterances than those before it.
    """
    run: PrunedRun | None = None
    before = np.empty(0, dtype=np.bool_)
    for path in sorted(run_dir.glob(LOG)):
        table = read_log(path, _COLUMNS)
        durations, kept = table["duration"].to_numpy(), table["kept"].to_numpy()
        if run is None:
            run = PrunedRun(run_dir.name, durations, np.zeros(len(kept), dtype=np.int64))
        if len(kept) != len(run.durations):
            raise ValueError(
                f"{path} has {len(kept)} utterances, the epochs before have {len(run.durations)}. Train the run again."
            )
        _add_epoch(run, table, kept, before)
        before = kept
    assert run is not None
    return run


def _add_epoch(run: PrunedRun, table: pa.Table, kept: NDArray[np.bool_], before: NDArray[np.bool_]) -> None:
    times_seen, scores = table["times_seen"].to_numpy(), table["score"].to_numpy()
    seen = table["last_seen"].to_numpy() >= 0
    seconds = float(run.durations[kept].sum(dtype=np.float64))
    run.times_seen += times_seen
    run.audits.append(str(Audit(run.durations, kept, times_seen)))
    run.kept_hours.append(seconds / 3600)
    run.hours_heard.append(float((table.schema.metadata or {}).get(b"hours_heard", b"nan")))
    run.scores.append(np.quantile(scores[seen], QUANTILES) if seen.any() else np.full(len(QUANTILES), np.nan))
    if len(before):
        run.overlap.append(float(run.durations[kept & before].sum(dtype=np.float64)) / max(seconds, 1e-9))


def plot_hours(axes: Axes, runs: Sequence[PrunedRun]) -> None:
    """Draws the hours of speech that each run had processed at the end of each epoch."""
    for run in runs:
        axes.plot(range(1, 1 + len(run.hours_heard)), run.hours_heard, marker=".", label=run.name)
    axes.set(xlabel="epoch", ylabel="hours of speech processed", ylim=(0, None))
    name_lines(axes)


def plot_kept(axes: Axes, runs: Sequence[PrunedRun]) -> None:
    """Draws the hours of the utterances that each epoch kept."""
    for run in runs:
        axes.step(range(1, 1 + len(run.kept_hours)), run.kept_hours, where="mid", label=run.name)
    axes.set(xlabel="epoch", ylabel="hours of the kept utterances", ylim=(0, None))
    name_lines(axes)


def plot_overlap(axes: Axes, runs: Sequence[PrunedRun]) -> None:
    """Draws the share of each epoch's kept hours that the epoch before kept as well."""
    for run in runs:
        axes.plot(range(2, 2 + len(run.overlap)), run.overlap, marker=".", label=run.name)
    axes.set(xlabel="epoch", ylabel="share kept in the epoch before, too", ylim=(0, 1.05))
    name_lines(axes)


def plot_scores(axes: Axes, run: PrunedRun) -> None:
    """Draws the quantiles of the scores over epochs."""
    quantiles = np.array(run.scores)
    epochs = np.arange(1, 1 + len(quantiles))
    middle = len(QUANTILES) // 2
    for number in range(middle):
        label = f"{QUANTILES[number]:.0%} to {QUANTILES[-1 - number]:.0%}"
        axes.fill_between(epochs, quantiles[:, number], quantiles[:, -1 - number], alpha=0.25, color="C0", label=label)
    axes.plot(epochs, quantiles[:, middle], color="C0", label="median")
    axes.set(xlabel="epoch", ylabel="score: loss per token, smoothed", ylim=(0, None))
    axes.legend()


def plot_times_seen(axes: Axes, run: PrunedRun) -> None:
    """Draws how often each utterance was trained on, by its duration; of very many utterances, a random sample."""
    rng = np.random.default_rng(0)
    shown = rng.permutation(len(run.durations))[:_MOST_DOTS]
    spread = rng.uniform(-0.3, 0.3, len(shown))  # else equal counts would hide one another
    axes.plot(run.durations[shown], run.times_seen[shown] + spread, ".", alpha=0.4, markersize=3)
    edges = np.unique(np.quantile(run.durations, np.linspace(0, 1, 11)))
    stratum = np.clip(np.searchsorted(edges, run.durations, side="right") - 1, 0, max(0, len(edges) - 2))
    means = [run.times_seen[stratum == number].mean() for number in np.unique(stratum)]
    middles = [run.durations[stratum == number].mean() for number in np.unique(stratum)]
    axes.plot(middles, means, "C3o-", label="mean in tenths of the utterances")
    axes.set(xlabel="duration, s", ylabel=f"times seen in {len(run.audits)} epochs", ylim=(-0.5, None))
    axes.legend()


def _sections_of_run(run_dir: Path, run: PrunedRun, utterance_id: str | None) -> list[str]:
    from asrsparse.reports.chunk_plot import plot_chunks  # what it needs takes seconds to import

    rows = "".join(f"<tr><td>{n}</td><td>{html.escape(line)}</td></tr>" for n, line in enumerate(run.audits, start=1))
    return [
        figure("Scores", lambda axes: plot_scores(axes, run)),
        figure("How often utterances were seen", lambda axes: plot_times_seen(axes, run)),
        figure("Kept chunks of an utterance", lambda axes: plot_chunks(axes, run_dir, utterance_id)),
        f"<h3>Audit</h3><table><tr><th>epoch</th><th>all ranks together</th></tr>{rows}</table>",
    ]
