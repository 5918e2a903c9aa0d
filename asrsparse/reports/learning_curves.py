"""The learning curves of a run, read from its TensorBoard files."""

import logging
from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

CURVES = ("dev_loss", "loss", "dev_wer")
"""The names of the curves, as the training logs them."""

Curve = dict[int, float]
"""The values of a curve by the number of the epoch, from 1."""


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """Reads the curves of a run; the value of the loss is its mean over the epoch.

    A run that was stopped and resumed has several files; steps that were trained again count once.

    Args:
        run_dir: The folder of the run.

    Returns:
        Those of `CURVES` that the run logged, by name; older versions logged no `dev_wer`.
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
    return {name: _by_epoch(log, name, epochs) for name in CURVES if name in known}


def _by_epoch(log: EventAccumulator, name: str, epochs: dict[int, int]) -> Curve:
    values: dict[int, list[float]] = defaultdict(list)
    for event in log.Scalars(name):
        if event.step in epochs:
            values[epochs[event.step]].append(event.value)
    return {epoch: sum(found) / len(found) for epoch, found in sorted(values.items())}
