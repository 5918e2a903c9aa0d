"""What masks did in some runs: reads `masks/` of each run, and makes a page of plots and a table."""

import html
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from asrsparse.config import read_config
from asrsparse.files import write_json
from asrsparse.reports.html_page import figure, html_table, write_page
from asrsparse.reports.learning_curves import over_seconds, read_curves
from asrsparse.reports.mask_plots import (
    num_layer_panels,
    plot_bits,
    plot_density,
    plot_histograms,
    plot_layers,
    plot_norms,
)
from asrsparse.reports.masked_run import MaskedRun, read_masked_run
from asrsparse.reports.run_logs import common_folder, find_runs
from asrsparse.scoring.stage_files import read_stage
from asrsparse.scoring.table_formats import format_rate, terminal_table
from asrsparse.training.mask_log_files import LOG

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskRow:
    """One run in the table.

    Attributes:
        name: The name of the run.
        regime: When its masks are in use, and what they drop at once.
        seed: The seed of the run.
        density_all_end: The share of all parameters that no mask removes, at the end.
        density_all_mean: The mean of that share over the training.
        density_masked_end: The share of the masked weights that masks keep, at the end; None if nothing is masked.
        density_masked_mean: The mean of that share over the training; None if nothing is masked.
        parameters: The number of parameters of the model.
        hours_heard: The hours of speech that training processed over all epochs.
        flops_dense: The FLOPs of the training if nothing had been masked.
        flops_effective: The FLOPs of the training if zeros of masks cost nothing. Simulated: they do cost.
        train_seconds: The seconds of the training; None before its end.
        scores: A word error rate with its interval for each decoding that was scored.
    """

    name: str
    regime: str
    seed: int
    density_all_end: float
    density_all_mean: float
    density_masked_end: float | None
    density_masked_mean: float | None
    parameters: int
    hours_heard: float
    flops_dense: float
    flops_effective: float
    train_seconds: float | None
    scores: list[dict[str, Any]]


# ------------------------------------------------------------------------------------------------------------- reading


def report_masks(folders: Sequence[Path]) -> tuple[Path, list[MaskRow]]:
    """Writes `masks.html`, which needs no other file, and `masks.json`.

    They are written to the folder of the run, or to the one that holds all runs.

    Args:
        folders: The folders of runs, or of recipes, all of whose runs are taken.

    Returns:
        The path of the page, and the rows of its table.

    Raises:
        ValueError: If no run has a log, or a run's files are damaged.
    """
    run_dirs = [run_dir for folder in folders for run_dir in find_runs(folder, LOG)]
    for folder in folders:
        _name_left_out(folder, run_dirs)
    runs = [read_masked_run(run_dir) for run_dir in run_dirs]
    rows = [make_row(run, run_dir) for run, run_dir in zip(runs, run_dirs, strict=True)]
    page = common_folder(run_dirs) / "masks.html"
    write_json(page.with_suffix(".json"), {"rows": [asdict(row) for row in rows], "notes": NOTES})
    curves = {row.name: read_curves(run_dir) for row, run_dir in zip(rows, run_dirs, strict=True)}
    write_page(page, "What was masked", _sections(runs, rows, over_seconds(curves)))
    logger.info("%s shows %d runs.", page, len(runs))
    return page, rows


GRANULARITIES = {"SingleWeights": "unstructured", "Blocks": "blocks", "Structured": "structured"}


def _name_left_out(folder: Path, run_dirs: Sequence[Path]) -> None:
    for path in sorted(folder.glob("*/train.json")):
        if path.parent not in run_dirs:
            logger.warning("%s has no %s: an older version trained it. It is left out.", path.parent, LOG)


def make_row(run: MaskedRun, run_dir: Path) -> MaskRow:
    """Makes the row of a run from its log and from the files of the stages that have finished."""
    config = read_config(run_dir)
    trained = (run_dir / "train.json").is_file()
    any_masked = bool(run.masked.any())
    masked = run.over_masked("density")
    return MaskRow(
        name=run.name,
        regime=regime_of(config),
        seed=OmegaConf.select(config, "seed"),
        density_all_end=float(run.overall_density[-1]),
        density_all_mean=float(run.time_average(run.overall_density)),
        density_masked_end=float(masked[-1]) if any_masked else None,
        density_masked_mean=float(run.time_average(masked)) if any_masked else None,
        parameters=run.parameters,
        hours_heard=run.hours_heard,
        flops_dense=run.flops_dense,
        flops_effective=run.flops_effective,
        train_seconds=read_stage(run_dir / "train.json", "train")["train_seconds"] if trained else None,
        scores=[_score(path) for path in sorted(run_dir.glob("decode_*/score.json"))],
    )


def regime_of(config: DictConfig) -> str:
    """Returns when the masks of a run are in use, and what they drop at once: `"sparse from scratch; N:M"`.

    Example:
        >>> regime_of(OmegaConf.create({"masks": {"name": "rigl", "regime": "sparse from scratch, dynamic",
        ...     "method": {"granularity": {"_target_": "asrsparse.masks.Structured"}}}}))
        'sparse from scratch, dynamic; structured'
    """
    regime: str = OmegaConf.select(config, "masks.regime") or OmegaConf.select(config, "masks.name")
    allocation, granularity = (_class_name(config, setting) for setting in ("allocation", "granularity"))
    kind = "N:M" if allocation == "NM" else GRANULARITIES.get(granularity)
    return f"{regime}; {kind}" if kind else regime


def _class_name(config: DictConfig, setting: str) -> str:
    return str(OmegaConf.select(config, f"masks.method.{setting}._target_")).rpartition(".")[2]


def _score(path: Path) -> dict[str, Any]:
    score = read_stage(path, "score")
    decoding = path.parent.name.removeprefix("decode_")
    return {"decoding": decoding, **{key: score[key] for key in ("wer", "ci_low", "ci_high")}}


# ----------------------------------------------------------------------------------------------------------- rendering

NOTES = [
    "Density: the share of weights that masks keep, at the last measurement; in brackets, its mean over the training. "
    "Of all: over all parameters. Of masked: over the weights that have, or had, a mask.",
    "FLOPs: of the training, forward and backward; products of matrices and convolutions, counted on the first batch "
    "and scaled to the processed speech. Norms, activations, losses, the optimiser and the choice of masks are left "
    "out.",
    "Effective FLOPs are simulated: each layer's share is scaled by the density of its mask, forward and backward "
    "alike. While masks are learned they are soft, and the weights count as dense. Zeros of unstructured masks are "
    "multiplied like any other number: nothing gets faster, the measured seconds say what a training took.",
    "Gradients: before clipping, of what the optimiser trains; under a soft mask, that of the effective weight times "
    "the mask. Of weights that are held at zero they are zero.",
]

MaskColumns = Mapping[str, Callable[[MaskRow], str]]
"""The columns of the table of masks: what each shows of a row, by its title."""

COLUMNS: MaskColumns = {
    "run": lambda r: r.name,
    "regime": lambda r: r.regime,
    "seed": lambda r: str(r.seed),
    "density of all": lambda r: _end_and_mean(r.density_all_end, r.density_all_mean),
    "density of masked": lambda r: _end_and_mean(r.density_masked_end, r.density_masked_mean),
    "parameters": lambda r: f"{r.parameters / 1e6:.2f} M",
    "training FLOPs": lambda r: f"{r.flops_dense:.3g}",
    "effective (simulated)": lambda r: f"{r.flops_effective:.3g}",
    "training s": lambda r: "-" if r.train_seconds is None else f"{r.train_seconds:.0f}",
    "WER % [95 %]": lambda r: "; ".join(map(_wer, r.scores)) or "-",
}


def _end_and_mean(end: float | None, mean: float | None) -> str:
    return "-" if end is None or mean is None else f"{end:.3f} ({mean:.3f})"


def _wer(score: Mapping[str, Any]) -> str:
    return f"{format_rate(score['wer'], score['ci_low'], score['ci_high'])} {score['decoding']}"


def to_table(rows: Sequence[MaskRow]) -> Table:
    """Makes the table for the terminal, which fits into 80 columns: the regime is below the name, means below ends."""
    columns: MaskColumns = {
        "run\nregime": lambda r: f"{r.name}\nseed {r.seed}; {r.regime}",
        "density\nof all\n(mean)": COLUMNS["density of all"],
        "of\nmasked\n(mean)": COLUMNS["density of masked"],
        "weights": COLUMNS["parameters"],
        "training\nFLOPs\neffective*": lambda r: f"{r.flops_dense:.3g}\n{r.flops_effective:.3g}",
        "training\nseconds": COLUMNS["training s"],
        "WER %\n[95 %]": lambda r: COLUMNS["WER % [95 %]"](r).replace("; ", "\n"),
    }
    cells = [[_in_lines(column(row)) for column in columns.values()] for row in rows]
    caption = "* simulated: if zeros of masks cost nothing. They do: nothing gets faster."
    return terminal_table("Masks", list(columns), cells, caption=caption, show_lines=True)


def _in_lines(cell: str) -> str:
    return cell.replace(" (", "\n(").replace(" [", "\n[").replace("] ", "]\n")


def _sections(runs: Sequence[MaskedRun], rows: Sequence[MaskRow], curves: Sequence[str]) -> list[str]:
    plots = {
        "Density of the masked weights": lambda axes: plot_density(axes, runs),
        "Bits of the masks that changed since the last measurement": lambda axes: plot_bits(axes, runs),
        "Norm of the gradient": lambda axes: plot_norms(axes, runs, "grad_norm"),
        "Norm of the gradient, of kept weights alone": lambda axes: plot_norms(axes, runs, "grad_norm_kept"),
        "Norm of the weights": lambda axes: plot_norms(axes, runs, "weight_norm"),
    }
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in NOTES)
    sections = ["<h2>All runs</h2>", html_table(COLUMNS, rows), f"<ul>{notes}</ul>", *curves]
    sections += [figure(title, draw, height=3.6) for title, draw in plots.items()]
    for run in runs:
        sections += [f"<h2>{html.escape(run.name)}</h2>", *_sections_of_run(run)]
    return sections


def _sections_of_run(run: MaskedRun) -> list[str]:
    height = min(1.2 + 0.13 * len(run.layers), 40.0)
    return [
        figure("Layers", lambda *panels: plot_layers(panels, run), num_layer_panels(run), height),
        figure("Weights after some epochs", lambda *panels: plot_histograms(panels, run), panels=4),
    ]
