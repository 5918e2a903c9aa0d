"""Policies: which part of a group of utterances an epoch keeps.

A policy is a small frozen object. Its `select` is a pure function of the candidates, which carry their scores,
durations and ages, the budget, how far the pruned epochs have come, and a generator of their own: the same on every
rank and after a resume. Where the text says "we", the papers leave it open and it is our decision.

Shape legend: N utterances of one stratum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.windows import keep_window

Floats = NDArray[np.floating[Any]]
Kept = NDArray[np.bool_]
KeepRatio = float | Callable[[float], float]
"""The share of the speech to keep, in (0, 1]: a constant, or a function of the pruned epochs' progress in [0, 1]."""


@dataclass(frozen=True)
class Candidates:
    """The N utterances of one stratum, and how much of them may be kept.

    Attributes:
        scores: Smoothed loss per token (N,). Only their order means something: the models behind them differ.
        durations: Seconds (N,).
        ages: Epochs since each was last trained on (N,), at least 1.
        budget: Seconds of speech to keep, at most the sum of `durations`.
        progress: How far the pruned epochs have come, 0 in the first and 1 in the last.
        rng: The generator of this epoch.
    """

    scores: Floats
    durations: Floats
    ages: NDArray[np.integer[Any]]
    budget: float
    progress: float
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.durations)

    def window(self, order_by: Floats, start: float) -> Kept:
        """Keeps the window of the budget's width at `start` in ascending order of `order_by`; see `keep_window`."""
        return keep_window(order_by, self.durations, start, self.budget)


@runtime_checkable
class Policy(Protocol):
    """What the pruner asks of a policy; a user's own needs these two attributes and one method.

    Example:
        >>> class Newest:  # a policy of one's own: what was trained on most recently
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
        """Whether the choice depends on scores: if so, the first epochs see all data and new utterances go first."""

    def select(self, among: Candidates) -> Kept | Floats:
        """Chooses among N utterances.

        Returns:
            True for what is kept, or weights of the losses (N,): 0 drops an utterance, 1 keeps it as it is, and more
            makes up for others that were dropped.
        """


def keep_ratio_at(policy: Policy, progress: float) -> float:
    """The keep ratio of a policy when its pruned epochs have come as far as `progress`.

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
            f"pruning.keep_ratio: got {ratio}{where}, allowed is (0, 1]: the share of the speech that an epoch "
            "keeps. For no pruning use pruning=none."
        )


def _check_share(name: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"pruning.policy.{name}: got {share}, allowed is [0, 1].")


@dataclass(frozen=True)
class _WithKeepRatio:
    """Holds and checks the keep ratio of the policies that prune."""

    keep_ratio: KeepRatio = 0.7

    def __post_init__(self) -> None:
        if not callable(self.keep_ratio):
            _check_keep_ratio(self.keep_ratio)


@dataclass(frozen=True)
class KeepAll:
    """`none`: the baseline, every utterance in every epoch."""

    keep_ratio = 1.0
    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps all N."""
        return np.ones(len(among), dtype=np.bool_)


@dataclass(frozen=True)
class Random(_WithKeepRatio):
    """`random`: a fresh random subset in each epoch (RS2, arXiv 2305.18424)."""

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
    """`easy2hard`: a window of width k that walks from the easiest quantiles to the hardest (DDP-ASR).

    It walks linearly in the epochs, which is our decision.
    """

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Keeps the window that stands at the share `progress` of its way."""
        return among.window(among.scores, start=among.progress)


@dataclass(frozen=True)
class Middle(_WithKeepRatio):
    """`middle`: the window of width k in the middle of the score quantiles (perplexity pruning, arXiv 2309.04564)."""

    needs_scores = True

    def select(self, among: Candidates) -> Kept:
        """Leaves the same share of the speech out at both ends."""
        return among.window(among.scores, start=0.5)


@dataclass(frozen=True)
class Window(_WithKeepRatio):
    """`window`: the window [low, low + k] of the score quantiles (perplexity pruning, arXiv 2309.04564).

    Args:
        keep_ratio: The width of the window, in shares of the speech.
        low: Where it begins, in [0, 1]; at most 1 - keep_ratio.
    """

    low: float = 0.1
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        highest = 1.0 if callable(self.keep_ratio) else 1.0 - self.keep_ratio
        if not 0.0 <= self.low <= highest + 1e-9:
            raise ValueError(
                f"pruning.policy.low: got {self.low}, allowed is [0, {highest:g}]: the quantile of the score, in "
                "shares of the speech, from which on utterances are kept."
            )

    def select(self, among: Candidates) -> Kept:
        """Keeps what lies between both quantiles."""
        left_out = 1.0 - among.budget / float(among.durations.sum(dtype=np.float64))
        return among.window(among.scores, start=min(1.0, self.low / left_out) if left_out > 0.0 else 0.0)


@dataclass(frozen=True)
class InfoBatch(_WithKeepRatio):
    """`infobatch`: all of the harder utterances, and a random share of the easier ones, whose losses weigh 1 / share.

    So the sum of the gradients over an epoch keeps its expectation (InfoBatch, arXiv 2303.04947). The paper's border
    between easier and harder is the mean score, and its share is given; here the share follows from the budget, and
    where what lies above the mean leaves less than `min_share` to the rest, we move the border up: a small share would
    mean large weights.

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        min_share: The least share of the easier utterances, in (0, 1].
    """

    min_share: float = 0.25
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.min_share <= 1.0:
            raise ValueError(f"pruning.policy.min_share: got {self.min_share}, allowed is (0, 1].")

    def select(self, among: Candidates) -> Floats:
        """Weighs the harder ones 1, those drawn from the easier ones by what makes up for the others."""
        weights = np.ones(len(among), dtype=np.float32)
        easier = np.flatnonzero(self._easier(among))
        total = float(among.durations[easier].sum(dtype=np.float64))
        if total == 0.0:
            return weights
        spare = among.budget - (float(among.durations.sum(dtype=np.float64)) - total)
        count = min(len(easier), max(1, round(len(easier) * spare / total)))
        weights[easier] = 0.0
        weights[among.rng.choice(easier, count, replace=False)] = len(easier) / count
        return weights

    def _easier(self, among: Candidates) -> Kept:
        below_mean: Kept = among.scores < among.scores.mean(dtype=np.float64)
        total = float(among.durations.sum(dtype=np.float64))
        # The most that the harder ones may take if min_share of the others is to fit into the budget too.
        most = (among.budget - self.min_share * total) / (1.0 - self.min_share) if self.min_share < 1.0 else 0.0
        return below_mean | ~keep_window(among.scores, among.durations, start=1.0, budget=max(0.0, most))


@dataclass(frozen=True)
class EpsilonGreedy(_WithKeepRatio):
    """`epsilon_greedy`: the highest scores, and a share of the budget drawn from the rest (arXiv 2111.12621).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        epsilon: The share of the budget that is drawn at random, in [0, 1].
    """

    epsilon: float = 0.2
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("epsilon", self.epsilon)

    def select(self, among: Candidates) -> Kept:
        """Exploits, then explores."""
        kept = keep_window(among.scores, among.durations, start=1.0, budget=(1.0 - self.epsilon) * among.budget)
        rest = np.flatnonzero(~kept)
        left = among.budget - float(among.durations[kept].sum(dtype=np.float64))
        kept[rest] = keep_window(among.rng.random(len(rest)), among.durations[rest], start=0.0, budget=max(0.0, left))
        return kept


@dataclass(frozen=True)
class UpperConfidence(_WithKeepRatio):
    """`ucb`: the highest scores, where not having been seen for long counts as score (after arXiv 2111.12621).

    The paper adds to the score what it may be wrong by. We add to the *quantile* of the score, since scores of
    different epochs are of different models, and let the age stand for it: quantile + exploration * log(age).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        exploration: How much of the quantiles' range one more factor e of age is worth, at least 0.
    """

    exploration: float = 0.3
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.exploration >= 0.0:
            raise ValueError(f"pruning.policy.exploration: got {self.exploration}, allowed is at least 0.")

    def select(self, among: Candidates) -> Kept:
        """Keeps the highest bounds up to the budget."""
        return among.window(_quantiles(among.scores) + self.exploration * np.log(among.ages), start=1.0)


@dataclass(frozen=True)
class Coverage(_WithKeepRatio):
    """`coverage`: the same share from every stratum of the score (COWERAGE, arXiv 2203.09829).

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        num_strata: Strata of the score, of equal counts; at least 1.
    """

    num_strata: int = 10
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_strata < 1:
            raise ValueError(f"pruning.policy.num_strata: got {self.num_strata}, allowed is at least 1.")

    def select(self, among: Candidates) -> Kept:
        """Keeps a random share of each stratum of the score."""
        kept = np.zeros(len(among), dtype=np.bool_)
        ratio = among.budget / float(among.durations.sum(dtype=np.float64))
        for stratum in np.array_split(np.argsort(among.scores, kind="stable"), self.num_strata):
            durations = among.durations[stratum]
            budget = ratio * float(durations.sum(dtype=np.float64))
            kept[stratum] = keep_window(among.rng.random(len(stratum)), durations, start=0.0, budget=budget)
        return kept


@dataclass(frozen=True)
class Longest(_WithKeepRatio):
    """`longest`: by duration alone, a baseline that any criterion must beat (arXiv 2601.20896). Wants one stratum."""

    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps the longest up to the budget."""
        return among.window(among.durations, start=1.0)


@dataclass(frozen=True)
class Shortest(_WithKeepRatio):
    """`shortest`: by duration alone, a baseline that any criterion must beat (arXiv 2601.20896). Wants one stratum."""

    needs_scores = False

    def select(self, among: Candidates) -> Kept:
        """Keeps the shortest up to the budget."""
        return among.window(among.durations, start=0.0)


def _quantiles(scores: Floats) -> Floats:
    """The place of each score among all, in [0, 1); ties keep their order (N,)."""
    places = np.empty(len(scores), dtype=np.float64)
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores)) / max(1, len(scores))
    return places
