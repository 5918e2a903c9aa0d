"""How far a training run has come: what is scheduled by, saved and resumed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_ROUNDING = 1e-7
"""The score table rounds durations to float32, by 6e-8 at most: what was heard misses what was kept by as much."""


@dataclass
class Position:
    """Where a run stands, counted in what was trained (never in what a prefetching loader has drawn).

    Attributes:
        epoch: The current epoch, from 0.
        batches: Batches trained in this epoch, over all ranks.
        steps: Optimiser updates in all.
        epoch_seconds: Speech of the utterances of this epoch, in seconds, over all ranks.
        earlier_seconds: Speech of the utterances of the epochs before.
        heard_seconds: Speech that the model heard of them in all; less, where training skips segments.

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

    def advance(self, seconds: float, heard_share: float = 1.0, batches: int = 1) -> None:
        """Counts a batch on each rank, with `seconds` of speech over all of them, of which the model heard a share."""
        self.batches += batches
        self.epoch_seconds += seconds
        self.heard_seconds += heard_share * seconds

    def next_epoch(self) -> None:
        """Begins the next epoch."""
        self.earlier_seconds += self.epoch_seconds
        self.epoch += 1
        self.batches = 0
        self.epoch_seconds = 0.0

    @property
    def hours_heard(self) -> float:
        """Hours of speech trained on so far."""
        return self.heard_seconds / 3600

    def progress(self, kept_seconds: float, planned_seconds: float) -> float:
        """The share of the whole training that is done, in [0, 1]; exactly 1 at its end, also under pruning.

        Args:
            kept_seconds: Speech that this epoch keeps.
            planned_seconds: Speech that the epochs after it are expected to keep.
        """
        done = self.earlier_seconds + self.epoch_seconds
        total = self.earlier_seconds + max(kept_seconds, self.epoch_seconds) + planned_seconds
        return 1.0 if done > (1 - _ROUNDING) * total else done / total

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved position."""
        for name, value in state.items():
            setattr(self, name, value)
