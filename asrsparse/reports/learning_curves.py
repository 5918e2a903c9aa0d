"""What a training logged after each epoch, read from its TensorBoard files."""

import logging
from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

CURVES = ("dev_loss", "loss", "dev_wer")

Curve = dict[int, float]
"""Values by the number of the epoch, from 1."""


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """The curves that a run has of `CURVES`: older versions logged no dev_wer; of the loss, the mean of an epoch.

    A run that was stopped and resumed has several files; what was trained again counts once.
    """
    if not any((run_dir / "tensorboard").glob("events.*")):
        return {}
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each step that was trained again
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
