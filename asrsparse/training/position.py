"""The position of a training run, by which schedules are set, and which a checkpoint holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_ROUNDING = 1e-7
"""The score table rounds durations to float32, by 6e-8 at most, so that trained and kept seconds differ by as much."""


@dataclass
class Position:
    """The position of a run, counted in trained batches (not in the batches that a prefetching loader has drawn).

    Attributes:
        epoch: The current epoch, from 0.
        batches: The batches trained in this epoch, over all ranks.
        steps: The optimiser updates of all epochs.
        epoch_seconds: The speech of the utterances trained in this epoch, in seconds, over all ranks.
        earlier_seconds: The speech of the utterances trained in the epochs before, in seconds.
        heard_seconds: The speech that the model processed in all epochs, in seconds: without segments that were pruned.
        train_seconds: The seconds of training until the current batch began, by the clock of the first rank.
        planned_epochs: The epochs that a budget is expected to pay; None without a budget.

    Example:
        >>> position = Position()
        >>> position.advance(seconds=30.0)
        >>> position.progress(kept_seconds=60.0, planned_seconds=60.0)
        0.25
        >>> position.next_epoch()
        >>> position.progress(kept_seconds=30.0, planned_seconds=0.0)
        0.5
    """

    epoch: int = 0
    batches: int = 0
    steps: int = 0
    epoch_seconds: float = 0.0
    earlier_seconds: float = 0.0
    heard_seconds: float = 0.0
    train_seconds: float = 0.0
    planned_epochs: int | None = None

    def advance(self, seconds: float, kept_share: float = 1.0, batches: int = 1) -> None:
        """Counts the batches of one step as trained.

        Args:
            seconds: The speech of the utterances of the step, over all ranks.
            kept_share: The share of it that segment pruning kept, in (0, 1].
            batches: The batches of the step, one for each rank.
        """
        self.batches += batches
        self.epoch_seconds += seconds
        self.heard_seconds += kept_share * seconds

    def next_epoch(self) -> None:
        """Begins the next epoch."""
        self.earlier_seconds += self.epoch_seconds
        self.epoch += 1
        self.batches = 0
        self.epoch_seconds = 0.0

    @property
    def hours_heard(self) -> float:
        """The hours of speech that the model processed so far."""
        return self.heard_seconds / 3600

    def progress(self, kept_seconds: float, planned_seconds: float) -> float:
        """The share of the whole training that is done, in [0, 1]; exactly 1 at its end, also under pruning.

        Args:
            kept_seconds: The speech that this epoch keeps, in seconds.
            planned_seconds: The speech that the epochs after it are expected to keep, in seconds.
        """
        done = self.earlier_seconds + self.epoch_seconds
        total = self.earlier_seconds + max(kept_seconds, self.epoch_seconds) + planned_seconds
        return 1.0 if done > (1 - _ROUNDING) * total else done / total

    def state_dict(self) -> dict[str, Any]:
        """Returns the attributes as plain numbers."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets the attributes to those of a saved position."""
        for name, value in state.items():
            setattr(self, name, value)
