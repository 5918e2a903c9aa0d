"""Plots of masks, weights and gradients over a training.

Shape legend: S measurements, M layers whose weight may have a mask.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from asrsparse.reports.html_page import name_lines
from asrsparse.reports.masked_run import MaskedRun

_NORMS = {
    "grad_norm": "norm of the gradient",
    "grad_norm_kept": "norm, kept weights",
    "weight_norm": "norm of the weights",
}


def plot_density(axes: Axes, runs: Sequence[MaskedRun]) -> None:
    """Draws the density of all masked weights of each run, and the range over their layers; 1 if nothing is masked."""
    for number, run in enumerate(runs):
        mean = run.over_masked("density") if run.masked.any() else np.ones(len(run.steps))
        axes.plot(run.steps, mean, color=f"C{number}", label=run.name)
        _fill_range(axes, run, run.density[:, run.masked], f"C{number}")
    axes.set(xlabel="step", ylabel="share of weights kept", ylim=(0, 1.05))
    name_lines(axes, "all masked weights; shaded: range over layers; dotted: new phase")


def plot_bits(axes: Axes, runs: Sequence[MaskedRun]) -> None:
    """Draws the share of mask bits that changed between two measurements, of all layers, and the range over layers."""
    for number, run in enumerate(runs):
        if run.masked.any():
            axes.plot(run.steps, run.over_masked("changed"), color=f"C{number}", marker=".", label=run.name)
            _fill_range(axes, run, run.values["changed"][:, run.masked], f"C{number}")
    axes.set(xlabel="step", ylabel="share of bits changed", ylim=(0, None))
    if axes.lines:
        name_lines(axes, "all masked weights; shaded: range over layers; dotted: new phase")
    else:
        axes.set_title("no run has masks")


def plot_norms(axes: Axes, runs: Sequence[MaskedRun], column: str) -> None:
    """Draws the median of a norm over layers, and the range of the middle half; the layers are the same for all runs.

    Args:
        axes: The axes to draw in.
        runs: The runs, with masks or without.
        column: The norm: `"grad_norm"`, `"grad_norm_kept"` or `"weight_norm"`.
    """
    compared = {name for run in runs for name in np.array(run.layers)[run.masked]}
    for number, run in enumerate(runs):
        chosen = np.array([name in compared or not compared for name in run.layers])
        norms = run.values[column][:, chosen]
        axes.plot(run.steps, np.nanmedian(norms, axis=1), color=f"C{number}", label=run.name)
        _fill_range(axes, run, norms, f"C{number}", quantiles=(0.25, 0.75))
    axes.set(xlabel="step", ylabel=_NORMS[column], yscale="linear" if column == "weight_norm" else "log")
    which = "layers that some run masks" if compared else "layers"
    name_lines(axes, f"median of the {which}; shaded: middle half; dotted: new phase")


def _fill_range(
    axes: Axes, run: MaskedRun, values: NDArray[np.float64], color: str, quantiles: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Shades a range over the layers of (S, M), and marks where the phase of the masks changes."""
    known = ~np.isnan(values).all(axis=1) if values.size else np.zeros(len(run.steps), dtype=np.bool_)
    if known.any():
        low, high = np.nanquantile(values[known], quantiles, axis=1)
        axes.fill_between(run.steps[known], low, high, color=color, alpha=0.15, linewidth=0)
    for step in run.steps[1:][np.array(run.phases[1:]) != np.array(run.phases[:-1])]:
        axes.axvline(step, color=color, linestyle=":", linewidth=1)


def num_layer_panels(run: MaskedRun) -> int:
    """Returns the number of panels of `plot_layers`: a run without masks has that of the gradient alone."""
    return 3 if run.masked.any() else 1


def plot_layers(panels: Sequence[Axes], run: MaskedRun) -> None:
    """Draws gradient, density and changed bits of each layer over the steps, as colours.

    Args:
        panels: The axes of `num_layer_panels` panels beside one another.
        run: The run.
    """
    gradients = run.values["grad_norm"]
    changed = run.values["changed"]
    shown = [
        ("log10 gradient norm", np.log10(np.where(gradients > 0.0, gradients, np.nan)), None, None),
        ("density", run.density, 0.0, 1.0),
        ("bits changed", changed, 0.0, max(0.01, np.nanmax(changed, initial=0.0))),
    ]
    edges = np.append(run.steps[0] - 1, run.steps)  # a measurement counts for the steps since the one before
    rows = np.arange(len(run.layers) + 1) - 0.5
    for axes, (title, values, low, high) in zip(panels, shown, strict=False):
        axes.grid(False)
        mesh = axes.pcolormesh(edges, rows, values.T, vmin=low, vmax=high, cmap="viridis")
        axes.figure.colorbar(mesh, ax=axes, location="top", label=title, aspect=15 * 3 / len(panels), pad=0.01)
        axes.set(xlabel="step", yticks=[], ylim=(len(run.layers) - 0.5, -0.5))
    names = [name.removesuffix(".weight") for name in run.layers]
    panels[0].set_yticks(range(len(names)), names, fontsize=5)


def plot_histograms(panels: Sequence[Axes], run: MaskedRun) -> None:
    """Draws histograms of the weights of some layers after some epochs.

    The epochs are the first, the one in which the masks left their first phase, and the last.

    Args:
        panels: One panel for each layer; the layers are taken evenly from the masked ones, or from all.
        run: The run.
    """
    candidates = np.flatnonzero(run.masked) if run.masked.any() else np.arange(len(run.layers))
    chosen = candidates[np.linspace(0, len(candidates) - 1, len(panels)).round().astype(int)]
    for axes, layer in zip(panels, chosen, strict=True):
        for epoch, what in _epochs_to_show(run).items():
            histogram = run.histograms[epoch]
            counts, limit = np.array(histogram["counts"][layer]), histogram["limit"][layer]
            zeros = histogram["zeros"][layer] / run.sizes[layer]
            edges = np.linspace(-limit, limit, len(counts) + 1)
            shares = counts / run.sizes[layer] / max(edges[1] - edges[0], 1e-12)
            axes.stairs(shares, edges, label=f"{epoch + 1}{what}: {zeros:.0%} zero")
        parts = run.layers[layer].removesuffix(".weight").split(".")
        axes.set_title("\n".join((".".join(parts[:-2]), ".".join(parts[-2:]))), fontsize=7)
        axes.set(xlabel="weight", yticks=[])
        axes.legend(title="epoch", fontsize=7, title_fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    panels[0].set_ylabel("share of the weights")


def _epochs_to_show(run: MaskedRun) -> dict[int, str]:
    """Epochs from 0, with words for the one in which the masks left their first phase."""
    phases = [histogram["phase"][0] for histogram in run.histograms]
    left = [epoch for epoch, phase in enumerate(phases) if phase != run.phases[0]][:1]
    epochs = sorted({0, *left, len(phases) - 1})
    return {epoch: " (exit)" if epoch in left else "" for epoch in epochs}
