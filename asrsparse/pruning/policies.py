"""Policies, which choose the part of a group of utterances that an epoch keeps.

A policy is a small frozen object. Its `select` is a pure function of the candidates, which hold the scores, durations
and ages, the budget, the progress of the pruned epochs, and a generator of their own. So the choice is the same on
every rank and after a resume. Where a docstring says "we", the papers leave it open and it is our decision.

Shape legend: N utterances of one stratum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.draws import Draw
from asrsparse.pruning.windows import keep_window

Floats = NDArray[np.floating[Any]]
Kept = NDArray[np.bool_]
KeepRatio = float | Callable[[float], float]
"""The share of the speech to keep, in (0, 1]: a constant, or a function of the pruned epochs' progress in [0, 1]."""


@dataclass(frozen=True)
class Candidates:
    """The N utterances of one stratum, and how much of their speech to keep.

    Attributes:
        scores: Smoothed loss per token (N,). Only their order counts, since they are losses of different models.
        durations: Seconds (N,).
        ages: Epochs since each was last trained on (N,), at least 1.
        budget: Seconds of speech to keep, at most the sum of `durations`.
        progress: How far the pruned epochs have come, 0 in the first and 1 in the last.
        rng: The generator of this epoch.
        epoch: The number of this epoch, counted from 0.
        times_seen: The epochs before this one in which each was trained on (N,).
    """

    scores: Floats
    durations: Floats
    ages: NDArray[np.integer[Any]]
    budget: float
    progress: float
    rng: np.random.Generator
    epoch: int
    times_seen: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.durations)

    def window(self, order_by: Floats, start: float) -> Kept:
        """Keeps a window as wide as the budget in ascending order of `order_by`; see `keep_window` for `start`."""
        return keep_window(order_by, self.durations, start, self.budget)


@runtime_checkable
class Policy(Protocol):
    """The interface of a policy: two attributes and one method.

    Example:
        >>> class Newest:  # a policy of a user: keeps what was trained on most recently
        ...     keep_ratio = 0.5
        ...     needs_scores = True
        ...     def select(self, among):
        ...         return among.window(order_by=among.ages, start=0.0)
        >>> isinstance(Newest(), Policy)
        True
    """

    @property
    def keep_ratio(self) -> KeepRatio:
        """The share of the speech, in seconds, that a pruned epoch keeps, in (0, 1]."""

    @property
    def needs_scores(self) -> bool:
        """Whether the choice depends on scores; if so, warm-up epochs keep all data, and new utterances are kept."""

    def select(self, among: Candidates) -> Kept | Floats | Draw:
        """Chooses among N utterances.

        Args:
            among: The utterances, and the budget.

        Returns:
            True for each utterance that is kept (N,), or weights of the losses (N,): 0 drops an utterance, 1 keeps it
            with its loss, and more than 1 makes up for others that were dropped. Or a `Draw`: the probability of each
            utterance to be kept.
        """


def keep_ratio_at(policy: Policy, progress: float) -> float:
    """Returns the keep ratio of a policy at some progress.

    Args:
        policy: The policy, whose keep ratio may be a schedule.
        progress: How far the pruned epochs have come, in [0, 1].

    Raises:
        ValueError: If a schedule leaves (0, 1].
    """
    if not callable(policy.keep_ratio):
        return policy.keep_ratio
    ratio = policy.keep_ratio(progress)
    _check_keep_ratio(ratio, f" at progress {progress:.2f}")
    return ratio


def _check_keep_ratio(ratio: float, where: str = "") -> None:
    if not 0.0 < ratio <= 1.0:
        raise ValueError(
            f"keep_ratio: got {ratio}{where}, allowed is (0, 1]: the share of the speech that an epoch keeps. For no "
            "pruning use KeepAll (pruning=none)."
        )


@dataclass(frozen=True)
class _WithKeepRatio:
    """Holds and checks the keep ratio of the policies that prune.

    Args:
        keep_ratio: The share of the speech, in seconds, that a pruned epoch keeps, in (0, 1], or its schedule.

    Raises:
        ValueError: If a keep ratio that is a number is out of range.
    """

    keep_ratio: KeepRatio = 0.7

    def __post_init__(self) -> None:
        if not callable(self.keep_ratio):
            _check_keep_ratio(self.keep_ratio)


@dataclass(frozen=True)
class KeepAll:
    """`none`: the baseline, which keeps every utterance in every epoch."""

    keep_ratio = 1.0
    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps all N utterances."""
        return np.ones(len(among), dtype=np.bool_)


@dataclass(frozen=True)
class Random(_WithKeepRatio):
    """`random`: a new random subset in each epoch (RS2, arXiv 2305.18424)."""

    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps random utterances up to the budget."""
        return among.window(among.rng.random(len(among), dtype=np.float32), start=0.0)


@dataclass(frozen=True)
class Easy(_WithKeepRatio):
    """`easy`: the utterances of lowest loss, the window [0, k] of the score quantiles (DDP-ASR, arXiv 2406.18373)."""

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Keeps the lowest scores up to the budget."""
        return among.window(among.scores, start=0.0)


@dataclass(frozen=True)
class Hard(_WithKeepRatio):
    """`hard`: the utterances of highest loss, the window [1 - k, 1] of the score quantiles (DDP-ASR)."""

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Keeps the highest scores up to the budget."""
        return among.window(among.scores, start=1.0)


@dataclass(frozen=True)
class EasyToHard(_WithKeepRatio):
    """`easy2hard`: a window of width k that moves from the lowest quantiles of the scores to the highest (DDP-ASR).

    It moves linearly with the epochs, which is our decision: in pruned epoch e of E it is [s, s + k] with
    s = (1 - k) e / (E - 1).
    """

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Keeps the window that has moved by the share `progress` of its way."""
        return among.window(among.scores, start=among.progress)


@dataclass(frozen=True)
class Middle(_WithKeepRatio):
    """`middle`: the window of width k in the middle of the score quantiles (perplexity pruning, arXiv 2309.04564)."""

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Drops the same share of the speech at both ends of the scores."""
        return among.window(among.scores, start=0.5)


@dataclass(frozen=True)
class Window(_WithKeepRatio):
    """`window`: the window [low, low + k] of the score quantiles (perplexity pruning, arXiv 2309.04564).

    Args:
        keep_ratio: The width k of the window, as a share of the speech.
        low: The quantile at which the window begins, in [0, 1 - keep_ratio].

    Raises:
        ValueError: If a number is out of range.
    """

    low: float = 0.1
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        highest = 1.0 if callable(self.keep_ratio) else 1.0 - self.keep_ratio
        if not 0.0 <= self.low <= highest + 1e-9:
            raise ValueError(
                f"low: got {self.low}, allowed is [0, {highest:g}]: the quantile of the score, as a "
                "share of the speech, from which on utterances are kept."
            )

    def select(self, among: Candidates) -> Kept:
        """Keeps the utterances between both quantiles."""
        left_out = 1.0 - among.budget / float(among.durations.sum(dtype=np.float64))
        return among.window(among.scores, start=min(1.0, self.low / left_out) if left_out > 0.0 else 0.0)


@dataclass(frozen=True)
class EpsilonGreedy(_WithKeepRatio):
    """`epsilon_greedy`: the highest scores, and a share of the budget drawn from the rest (arXiv 2111.12621).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        epsilon: The share of the budget that is drawn at random, in [0, 1].

    Raises:
        ValueError: If a number is out of range.
    """

    epsilon: float = 0.2
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon: got {self.epsilon}, allowed is [0, 1].")

    def select(self, among: Candidates) -> Kept:
        """Keeps the highest scores, then draws from the other utterances up to the budget."""
        kept = keep_window(among.scores, among.durations, start=1.0, budget=(1.0 - self.epsilon) * among.budget)
        rest = np.flatnonzero(~kept)
        left = among.budget - float(among.durations[kept].sum(dtype=np.float64))
        kept[rest] = keep_window(among.rng.random(len(rest)), among.durations[rest], start=0.0, budget=max(0.0, left))
        return kept


@dataclass(frozen=True)
class UpperConfidence(_WithKeepRatio):
    """`ucb`: the highest upper confidence bounds: the score, and a bonus for a high age (after arXiv 2111.12621).

    The paper adds a confidence width to the score. We add it to the *quantile* of the score, since scores of different
    epochs are of different models, and compute it from the age in epochs: quantile + exploration * ln(age).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        exploration: What is added to the quantile, which is in [0, 1), when the age is e times as high; at least 0.

    Raises:
        ValueError: If a number is out of range.
    """

    exploration: float = 0.3
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.exploration >= 0.0:
            raise ValueError(f"exploration: got {self.exploration}, allowed is at least 0.")

    def select(self, among: Candidates) -> Kept:
        """Keeps the highest upper confidence bounds up to the budget."""
        return among.window(_quantiles(among.scores) + self.exploration * np.log(among.ages), start=1.0)


@dataclass(frozen=True)
class Coverage(_WithKeepRatio):
    """`coverage`: the same share from every stratum of the score (COWERAGE, arXiv 2203.09829).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        num_strata: Strata of the score, of equal counts; at least 1.

    Raises:
        ValueError: If a number is out of range.
    """

    num_strata: int = 10
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_strata < 1:
            raise ValueError(f"num_strata: got {self.num_strata}, allowed is at least 1.")

    def select(self, among: Candidates) -> Kept:
        """Keeps a random share of each stratum of the score; each makes up for the rounding of the one before."""
        kept = np.zeros(len(among), dtype=np.bool_)
        ratio = among.budget / float(among.durations.sum(dtype=np.float64))
        strata = np.array_split(np.argsort(among.scores, kind="stable"), self.num_strata)
        budget = 0.0
        for number in among.rng.permutation(len(strata)):  # else rounding would favour some strata in every epoch
            stratum = strata[number]
            durations = among.durations[stratum]
            budget += ratio * float(durations.sum(dtype=np.float64))
            kept[stratum] = keep_window(among.rng.random(len(stratum)), durations, start=0.0, budget=max(0.0, budget))
            budget -= float(durations[kept[stratum]].sum(dtype=np.float64))
        return kept


@dataclass(frozen=True)
class Longest(_WithKeepRatio):
    """`longest`: the longest utterances, a baseline that any criterion must beat (arXiv 2601.20896).

    The plan needs one stratum of duration, or durations would hardly differ.
    """

    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps the longest utterances up to the budget."""
        return among.window(among.durations, start=1.0)


@dataclass(frozen=True)
class Shortest(_WithKeepRatio):
    """`shortest`: the shortest utterances, a baseline that any criterion must beat (arXiv 2601.20896).

    The plan needs one stratum of duration, or durations would hardly differ.
    """

    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps the shortest utterances up to the budget."""
        return among.window(among.durations, start=0.0)


def _quantiles(scores: Floats) -> Floats:
    """Returns the quantile of each score, in [0, 1); ties keep their order (N,)."""
    places = np.empty(len(scores), dtype=np.float64)
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores)) / max(1, len(scores))
    return places
