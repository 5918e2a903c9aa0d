"""Values that change over training: each is a function of progress, the share of training that is done, in [0, 1].

The keep ratio, the learning rate and the temperature of learned masks all take a `Schedule`. Any callable from float to
float is one; those here can be compared, printed and pickled. Progress outside [0, 1] is clamped.
"""

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A value as a function of progress."""

    def __call__(self, progress: float) -> float:
        """Returns the value at `progress`, the share of training that is done, in [0, 1]."""


@dataclass(frozen=True)
class Constant:
    """The same value at any progress.

    Args:
        value: The value.

    Example:
        >>> Constant(0.7)(0.3)
        0.7
    """

    value: float

    def __call__(self, progress: float) -> float:
        """Returns the value, whatever the progress is."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `end`.

    Args:
        start: The value at progress 0.
        end: The value at progress 1.

    Example:
        >>> [Linear(1.0, 0.5)(progress) for progress in (0.0, 0.5, 1.0, 2.0)]
        [1.0, 0.75, 0.5, 0.5]
    """

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """Returns the point of the line at `progress`."""
        return self.start + (self.end - self.start) * _clamp(progress)


@dataclass(frozen=True)
class Geometric:
    """A value that changes from `start` to `end` by a constant factor per unit of progress.

    Args:
        start: The value at progress 0, positive.
        end: The value at progress 1, positive.

    Raises:
        ValueError: If `start` or `end` is not positive.

    Example:
        >>> [round(Geometric(1.0, 100.0)(progress), 6) for progress in (0.0, 0.5, 1.0)]
        [1.0, 10.0, 100.0]
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise ValueError(
                f"start and end: got start={self.start} and end={self.end}, allowed are positive values. "
                "Use Linear for a value that reaches zero or changes its sign."
            )

    def __call__(self, progress: float) -> float:
        """Returns the value at `progress`."""
        return self.start * math.pow(self.end / self.start, _clamp(progress))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end`.

    Args:
        start: The value at progress 0.
        end: The value at progress 1.

    Example:
        >>> [round(Cosine(0.3, 0.0)(progress), 6) for progress in (0.0, 0.5, 1.0)]
        [0.3, 0.15, 0.0]
    """

    start: float
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        """Returns the value at `progress`."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * _clamp(progress)))


@dataclass(frozen=True)
class Cubic:
    """A value that changes from `start` to `end`, fast at first: its distance from `end` goes with (1 - progress)^3.

    This is Equation 1 of https://arxiv.org/abs/1710.01878 (gradual magnitude pruning), in densities.

    Args:
        start: The value at progress 0.
        end: The value at progress 1.

    Example:
        >>> [round(Cubic(1.0, 0.2)(progress), 6) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.3, 0.2]
    """

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """Returns the value at `progress`."""
        return self.end + (self.start - self.end) * (1.0 - _clamp(progress)) ** 3


@dataclass(frozen=True)
class WarmupCosine:
    """A factor for the learning rate: linearly from 0 to 1 over the share `warmup`, then half a cosine down to `final`.

    This is Equation 5 of https://arxiv.org/abs/1608.03983 (one cycle), after a linear warm-up.

    Args:
        warmup: The share of training that the warm-up takes, in [0, 1).
        final: The factor at the end of training, in [0, 1].

    Raises:
        ValueError: If `warmup` or `final` is outside its range.

    Example:
        >>> [round(WarmupCosine(warmup=0.2)(progress), 6) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warmup: float
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"warmup: got {self.warmup}, allowed is a share of training in [0, 1).")
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final: got {self.final}, allowed is a factor in [0, 1].")

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress`."""
        progress = _clamp(progress)
        if progress < self.warmup:
            return progress / self.warmup
        angle = math.pi * (progress - self.warmup) / (1.0 - self.warmup)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(angle))


def _clamp(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
