"""Snapshots of the weights after each epoch, and the average of some of them: the finished model.

A snapshot is a safetensors file with the model's own names and with masks merged into the weights; its metadata holds
the epoch, the validation loss and the phase of the masks, so that no other file is needed.

**Which snapshots are averaged.** Those of one phase of the masks and of one size of the layers, the latest ones': an
average over an exit is neither the masked model nor the one after it. What the masks drop at the end of training is
zero in the average too, though earlier masks kept it, or soft masks did in part; of what they keep, the snapshots
count in which it was not zero. So the finished model has the density that the training ended with, and N:M stays N:M.
(It has less where `BestEpochs` leaves out the epochs in which weights were regrown.) This is our decision.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from asrsparse.models.weight_files import load_weights, save_weights

logger = logging.getLogger(__name__)

Shapes = frozenset[tuple[str, tuple[int, ...]]]
"""The names of weights, each with its shape."""


@dataclass(frozen=True)
class Snapshot:
    """The file of the weights after one epoch.

    Attributes:
        path: The file.
        epoch: The epoch, from 0.
        dev_loss: The loss on dev after it; not a number without validation.
        phase: The phase of the masks after the epoch. Earlier versions did not write it.
        joins: The phase whose snapshots may be averaged with this one: `phase`, or the one before it if the exit to
            fixed zeros came with the last update of the epoch.
        shapes: The shapes of the weights.
    """

    path: Path
    epoch: int
    dev_loss: float
    phase: str = "dense"
    joins: str = "dense"
    shapes: Shapes = field(default=frozenset(), repr=False)


class SnapshotChoice(Protocol):
    """The choice of the snapshots that are kept, and averaged at the end."""

    def choose(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Returns the chosen snapshots in ascending order of epoch."""


@dataclass(frozen=True)
class LastEpochs:
    """Chooses the last epochs.

    Args:
        num: The number of epochs, at least 1.

    Raises:
        ValueError: If `num` is below 1.
    """

    num: int

    def __post_init__(self) -> None:
        _check_num(self.num)

    def choose(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Returns the `num` latest snapshots in ascending order of epoch."""
        return sorted(snapshots, key=lambda s: s.epoch)[-self.num :]


@dataclass(frozen=True)
class BestEpochs:
    """Chooses the epochs of lowest validation loss; of equal ones the earlier.

    Args:
        num: The number of epochs, at least 1.

    Raises:
        ValueError: If `num` is below 1.
    """

    num: int

    def __post_init__(self) -> None:
        _check_num(self.num)

    def choose(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Returns the `num` snapshots of lowest loss, in ascending order of epoch."""
        best = sorted(snapshots, key=lambda s: (s.dev_loss, s.epoch))[: self.num]
        return sorted(best, key=lambda s: s.epoch)


@dataclass(frozen=True)
class AmongLast:
    """Makes another choice among the last epochs alone, because the epochs before them were trained on less time.

    Args:
        choice: The other choice.
        num: The number of the last epochs.
    """

    choice: SnapshotChoice
    num: int

    def choose(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Returns the snapshots that the other choice takes, in ascending order of epoch."""
        return self.choice.choose(LastEpochs(self.num).choose(snapshots))


def _check_num(num: int) -> None:
    if num < 1:
        raise ValueError(f"num: got {num}, allowed is at least 1 epoch.")


def save_snapshot(
    folder: Path,
    epoch: int,
    dev_loss: float,
    weights: Mapping[str, torch.Tensor],
    phase: str = "dense",
    joins: str | None = None,
) -> None:
    """Writes the weights after `epoch` to `folder/epoch_NNN.safetensors`; `Snapshot` explains the arguments."""
    phases = {"phase": phase, "joins": phase if joins is None else joins}
    metadata = {"epoch": str(epoch), "dev_loss": repr(dev_loss), **phases}
    save_weights(folder / f"epoch_{epoch:03d}.safetensors", weights, metadata)


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Returns the snapshots of a folder, in ascending order of epoch."""
    return sorted((_read_snapshot(path) for path in folder.glob("epoch_*.safetensors")), key=lambda s: s.epoch)


def _read_snapshot(path: Path) -> Snapshot:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            names = file.keys()
            shapes = frozenset((name, tuple(file.get_slice(name).get_shape())) for name in names)
        epoch, dev_loss = int(metadata["epoch"]), float(metadata["dev_loss"])
        phase, joins = (metadata.get(key, "dense") for key in ("phase", "joins"))
        return Snapshot(path, epoch, dev_loss, phase, joins, shapes)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a snapshot of asrsparse ({error!r}). Delete it and train again.") from None


def averageable(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Returns the snapshots that may be averaged with the latest one, in ascending order of epoch, and logs the others.

    They have the latest one's shapes, and their masks are in its phase. Where the masks left their phase with the last
    update to fixed zeros, as they do at the end of a training whose masks stay until then, the snapshots of the phase
    before it belong to it.
    """
    ordered = sorted(snapshots, key=lambda s: s.epoch)
    chosen = [
        s for s in ordered if s.shapes == ordered[-1].shapes and s.phase in (ordered[-1].phase, ordered[-1].joins)
    ]
    if left_out := [s.epoch + 1 for s in ordered if s not in chosen]:
        logger.info(
            "%s: left out of the average: the snapshots of epochs %s, from before the model changed its size or its "
            "masks their phase.",
            ordered[-1].path.parent,
            ", ".join(map(str, left_out)),
        )
    return chosen


def average(
    snapshots: Sequence[Snapshot], weight_masks: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Averages weights in float64; counters such as a batch norm's come from the latest snapshot.

    Args:
        snapshots: The snapshots; only those that are `averageable` count.
        weight_masks: The masks at the end of training by the names of their weights, bool; what they drop is zero in
            the average. Those of weights that have become smaller since are ignored: what they dropped has left.

    Returns:
        The weights by name, each in the type in which it was saved.

    Raises:
        ValueError: If there is no snapshot.
    """
    if not snapshots:
        raise ValueError("No snapshots to average: the run has not finished an epoch. Run `asrsparse train` first.")
    chosen = averageable(snapshots)
    latest = load_weights(chosen[-1].path)
    totals = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in latest.items()}
    last_masks = _dropping(weight_masks or {}, latest)
    counts = {name: torch.zeros(keep.shape, dtype=torch.float64) for name, keep in last_masks.items()}
    for snapshot in chosen:
        for name, value in load_weights(snapshot.path).items():
            totals[name] += value
            if name in counts:
                counts[name] += value != 0
    for name, count in counts.items():
        totals[name] *= len(chosen) / count.clamp(min=1)
        totals[name].masked_fill_(~last_masks[name], 0.0)
    return {
        name: (totals[name] / len(chosen)).to(value.dtype) if value.is_floating_point() else value
        for name, value in latest.items()
    }


def _dropping(weight_masks: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the masks that drop something, of weights that have the size of their mask."""
    fitting = {name: keep.cpu() for name, keep in weight_masks.items() if keep.shape == weights[name].shape}
    return {name: keep for name, keep in fitting.items() if not keep.all()}
