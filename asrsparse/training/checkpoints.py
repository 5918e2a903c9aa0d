"""Snapshots of the weights after each epoch, and the average of some of them: the finished model.

A snapshot is a safetensors file with the model's own names and with masks merged into the weights; its metadata holds
the epoch and the validation loss, so that no other file is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from asrsparse.models.weight_files import load_weights, save_weights


@dataclass(frozen=True)
class Snapshot:
    """The file of the weights after one epoch.

    Attributes:
        path: The file.
        epoch: The epoch, from 0.
        dev_loss: The loss on dev after it; not a number without validation.
    """

    path: Path
    epoch: int
    dev_loss: float


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


def save_snapshot(folder: Path, epoch: int, dev_loss: float, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes the weights after `epoch` to `folder/epoch_NNN.safetensors`."""
    metadata = {"epoch": str(epoch), "dev_loss": repr(dev_loss)}
    save_weights(folder / f"epoch_{epoch:03d}.safetensors", weights, metadata)


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Returns the snapshots of a folder, in ascending order of epoch."""
    return sorted((_read_snapshot(path) for path in folder.glob("epoch_*.safetensors")), key=lambda s: s.epoch)


def _read_snapshot(path: Path) -> Snapshot:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        return Snapshot(path, int(metadata["epoch"]), float(metadata["dev_loss"]))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a snapshot of asrsparse ({error!r}). Delete it and train again.") from None


def average(snapshots: Sequence[Snapshot]) -> dict[str, torch.Tensor]:
    """Averages weights in float64; counters such as a batch norm's come from the latest snapshot.

    Raises:
        ValueError: If there is none, or they are of different models.
    """
    if not snapshots:
        raise ValueError("No snapshots to average: the run has not finished an epoch. Run `asrsparse train` first.")
    totals = {name: value.double() for name, value in load_weights(snapshots[0].path).items()}
    latest = load_weights(snapshots[-1].path)
    for snapshot in snapshots[1:]:
        weights = load_weights(snapshot.path)
        if _shapes(weights) != _shapes(totals):
            raise ValueError(f"{snapshot.path} and {snapshots[0].path} are of different models; train in a new folder.")
        for name, value in weights.items():
            totals[name] += value
    return {
        name: (totals[name] / len(snapshots)).to(value.dtype) if value.is_floating_point() else value
        for name, value in latest.items()
    }


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
