"""Policies: which part of a group of utterances an epoch keeps.

A policy is a small frozen object. Its `select` is a pure function of the scores, the durations, the budget, how far the
pruned epochs have come, and a generator of its own: the same on every rank and after a resume.

Sources: methods.md of the design, section 1. The criteria easy, hard and easy2hard are those of "Dynamic Data Pruning
for Automatic Speech Recognition" (arXiv 2406.18373); the linear walk of the easy2hard window is our decision.

Shape legend: N utterances of one stratum.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Kept = NDArray[np.bool_]


@runtime_checkable
class Policy(Protocol):
    """What the pruner asks of a policy; a user's own needs these two attributes and one method."""

    @property
    def keep_ratio(self) -> float:
        """The share of the speech, in seconds, that a pruned epoch keeps, in (0, 1]."""

    @property
    def needs_scores(self) -> bool:
        """Whether the choice depends on scores: if so, the first epochs see all data and new utterances go first."""

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Chooses among N utterances.

        Args:
            scores: Smoothed loss per token (N,).
            durations: Seconds (N,).
            budget: Seconds of speech to keep, at most the sum of `durations`.
            progress: How far the pruned epochs have come, 0 in the first and 1 in the last.
            rng: The generator of this epoch.

        Returns:
            True for what is kept (N,).
        """


@dataclass(frozen=True)
class _WithKeepRatio:
    """Holds and checks the keep ratio of the policies that prune."""

    keep_ratio: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 < self.keep_ratio <= 1.0:
            raise ValueError(
                f"pruning.keep_ratio: got {self.keep_ratio}, allowed is (0, 1]: the share of the speech that an epoch "
                "keeps. For no pruning use pruning=none."
            )


@dataclass(frozen=True)
class KeepAll:
    """`none`: the baseline, every utterance in every epoch."""

    keep_ratio = 1.0
    needs_scores = False

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Keeps all N."""
        return np.ones(len(durations), dtype=np.bool_)


@dataclass(frozen=True)
class Random(_WithKeepRatio):
    """`random`: a fresh random subset in each epoch (RS2, arXiv 2305.18424)."""

    needs_scores = False

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Keeps random utterances up to the budget."""
        return keep_window(rng.random(len(durations)), durations, start=0.0, budget=budget)


@dataclass(frozen=True)
class Easy(_WithKeepRatio):
    """`easy`: the utterances of lowest loss, the window [0, k] of the score quantiles."""

    needs_scores = True

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Keeps the lowest scores up to the budget."""
        return keep_window(scores, durations, start=0.0, budget=budget)


@dataclass(frozen=True)
class Hard(_WithKeepRatio):
    """`hard`: the utterances of highest loss, the window [1 - k, 1] of the score quantiles."""

    needs_scores = True

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Keeps the highest scores up to the budget."""
        return keep_window(scores, durations, start=1.0, budget=budget)


@dataclass(frozen=True)
class EasyToHard(_WithKeepRatio):
    """`easy2hard`: a window of width k that walks from the easiest quantiles to the hardest, linearly in the epochs."""

    needs_scores = True

    def select(
        self, scores: Floats, durations: Floats, budget: float, progress: float, rng: np.random.Generator
    ) -> Kept:
        """Keeps the window that stands at the share `progress` of its way."""
        return keep_window(scores, durations, start=progress, budget=budget)


def keep_window(order_by: Floats, durations: Floats, start: float, budget: float) -> Kept:
    """Keeps a window of the utterances in ascending order of `order_by`, measured in seconds of speech.

    The window is `budget` seconds wide and stands at the share `start` of its way: 0 keeps the lowest values, 1 the
    highest. An utterance belongs to it when its middle does, so that the seconds kept are off by one utterance at most.

    Args:
        order_by: Values to order by (N,); ties keep their order.
        durations: Seconds (N,).
        start: Place of the window on its way, in [0, 1].
        budget: Width of the window in seconds.

    Returns:
        True for what is kept (N,).

    Example:
        >>> keep_window(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), start=0.0, budget=2.0).tolist()
        [False, True, True, False]
        >>> keep_window(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), start=1.0, budget=2.0).tolist()
        [True, False, False, True]
    """
    order = np.argsort(order_by, kind="stable")
    ends = np.cumsum(durations[order], dtype=np.float64)
    middles = ends - durations[order] / 2
    first = start * max(0.0, float(ends[-1]) - budget) if len(ends) else 0.0
    kept = np.empty(len(order), dtype=np.bool_)
    kept[order] = (middles >= first) & (middles < first + budget)
    return kept
