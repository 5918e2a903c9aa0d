"""The learning curves of a run, read from its TensorBoard files, and those of several runs over seconds of training."""

import html
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from asrsparse.reports.html_page import figure

CURVES = ("dev_loss", "loss", "dev_wer")
"""The names of the curves, as the training logs them."""

SECONDS = "train_seconds"
"""The name of the seconds of training until the end of each epoch, as the training logs them."""

LINES, NUM_COLORS = ("-", "--", ":", "-."), 10
"""The styles of lines, of which the next is taken once all colours are used."""

Curve = dict[int, float]
"""The values of a curve by the number of the epoch, from 1."""


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """Reads the curves of a run; the value of the loss is its mean over the epoch.

    A run that was stopped and resumed has several files; steps that were trained again count once.

    Args:
        run_dir: The folder of the run.

    Returns:
        Those of `CURVES` and `SECONDS` that the run logged, by name; older versions logged no `dev_wer`, or no seconds.
    """
    if not any((run_dir / "tensorboard").glob("events.*")):
        return {}
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of each step that was trained again
    log = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    log.Reload()
    known = set(log.Tags()["scalars"])
    if "epoch" not in known:
        return {}
    epochs = {event.step: int(event.value) + 1 for event in log.Scalars("epoch")}
    return {name: _by_epoch(log, name, epochs) for name in (*CURVES, SECONDS) if name in known}


def _by_epoch(log: EventAccumulator, name: str, epochs: dict[int, int]) -> Curve:
    values: dict[int, list[float]] = defaultdict(list)
    for event in log.Scalars(name):
        if event.step in epochs:
            values[epochs[event.step]].append(event.value)
    return {epoch: sum(found) / len(found) for epoch, found in sorted(values.items())}


def over_seconds(curves: Mapping[str, Mapping[str, Curve]], height: float = 4.2) -> list[str]:
    """Returns pieces of HTML that show error rate and loss on dev over the seconds of training, dense or masked alike.

    Args:
        curves: The curves of each run, by its name.
        height: The height of the panels in inches.
    """
    drawn = {name: of_run for name, of_run in curves.items() if SECONDS in of_run and "dev_wer" in of_run}
    without = [name for name in curves if name not in drawn]
    parts = []
    if drawn:
        title = "WER and loss on dev over seconds of training"
        parts.append(figure(title, lambda *axes: plot_over_seconds(axes, curves), panels=2, height=height))
    if without:
        names = html.escape(", ".join(without))
        parts.append(f"<p>Not over seconds: {names}. An older version trained them, and logged none in an epoch.</p>")
    return parts


def plot_over_seconds(panels: Sequence[Axes], curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draws the error rate and the loss on dev after each epoch over the seconds of training until then.

    Args:
        panels: The axes of two panels.
        curves: The curves of each run, by its name; a run without seconds keeps its colour for other plots.
    """
    for axes, (curve, title, factor) in zip(
        panels, (("dev_wer", "WER on dev, %", 100), ("dev_loss", "loss on dev", 1)), strict=True
    ):
        for number, (name, of_run) in enumerate(curves.items()):
            seconds = of_run.get(SECONDS, {})
            points = {seconds[e]: factor * value for e, value in of_run.get(curve, {}).items() if e in seconds}
            if points:
                color, style = f"C{number % NUM_COLORS}", LINES[number // NUM_COLORS % len(LINES)]
                axes.plot(list(points), list(points.values()), marker=".", color=color, linestyle=style, label=name)
        axes.set(xlabel="seconds of training", ylabel=title, xlim=(0, None))
    panels[0].set_ylim(0, None)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8)
