"""Policies that draw a part of an epoch at random, by the last losses: InfoBatch, RePB, OrderDP.

Where a docstring says "we", the papers leave it open, or decide batch by batch, and it is our decision.

Shape legend: N utterances of one stratum.
"""

from dataclasses import dataclass

import numpy as np

from asrsparse.pruning.draws import Draw
from asrsparse.pruning.policies import Candidates, Floats, Kept, _WithKeepRatio
from asrsparse.pruning.windows import keep_window


@dataclass(frozen=True)
class _WithLeastShare(_WithKeepRatio):
    """Holds and checks the least share of policies that keep some utterances for sure, and draw among the others.

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        min_share: The least share of the others that is kept, in (0, 1].

    Raises:
        ValueError: If a number is out of range.
    """

    min_share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.min_share <= 1.0:
            raise ValueError(f"min_share: got {self.min_share}, allowed is (0, 1].")

    def _probabilities(self, among: Candidates, sure: Kept, order_by: Floats) -> Floats:
        """Returns 1 for what is sure, and for the others the share that the budget leaves (N,).

        Where the sure ones leave less than `min_share`, those that are lowest in `order_by` are not sure any more.
        """
        total = float(among.durations.sum(dtype=np.float64))
        most = (among.budget - self.min_share * total) / (1.0 - self.min_share) if self.min_share < 1.0 else 0.0
        # A window can be too long by half an utterance, which here would be taken from the others.
        most -= float(among.durations.max()) / 2
        if among.budget < total:
            sure = sure & keep_window(order_by, among.durations, start=1.0, budget=max(0.0, most))
        seconds = float(among.durations[sure].sum(dtype=np.float64))
        share = (among.budget - seconds) / (total - seconds) if seconds < total else 1.0
        return np.where(sure, 1.0, min(1.0, share))


@dataclass(frozen=True)
class InfoBatch(_WithLeastShare):
    """`infobatch`: all of the harder utterances, and a random share r of the easier ones, whose losses weigh 1 / r.

    So the sum of the gradients over an epoch keeps its expectation (InfoBatch, arXiv 2303.04947), in strata of any
    size. In the paper, the border between easier and harder is the mean score, and r is given. Here, r follows from the
    budget. Where the utterances above the mean leave less than `min_share` for the others, we move the border up, since
    a small share would mean large weights.

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        min_share: The least share of the easier utterances that is kept, in (0, 1], if `keep_ratio` is not lower; its
            inverse bounds the weights.

    Raises:
        ValueError: If a number is out of range.
    """

    needs_scores = True

    def select(self, among: Candidates) -> Draw:
        """Keeps the harder utterances, and each of the easier ones with the probability r."""
        harder = among.scores >= among.scores.mean(dtype=np.float64)
        return Draw(self._probabilities(among, harder, among.scores))


@dataclass(frozen=True)
class RePB(_WithLeastShare):
    """`repb`: what is hard among its like in the last epoch, and a random share of all others (RePB, ICLR 2026).

    Losses of different epochs are of different models, so the paper compares them only inside a window of batches. An
    utterance with a loss of at least the mean of its window is kept; others are kept with the probability 1 - rho, and
    so is what the last epoch did not use. In epoch E, the loss of an utterance that was used in N epochs weighs E / N.

    The paper decides while it trains. Here an epoch is chosen before it begins, so that we compare the scores of
    utterances of the last epoch alone, in windows of neighbours in duration; rho follows from the budget, and weights
    are clipped.

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        min_share: The least value of 1 - rho, in (0, 1], if `keep_ratio` is not lower.
        window: Utterances in a window; at least 1.
        max_weight: The largest weight of a loss; at least 1.

    Raises:
        ValueError: If a number is out of range.
    """

    window: int = 256
    max_weight: float = 4.0
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ValueError(f"window: got {self.window}, allowed is at least 1 utterance.")
        if not self.max_weight >= 1.0:
            raise ValueError(f"max_weight: got {self.max_weight}, allowed is at least 1 (1 is no weights).")

    def select(self, among: Candidates) -> Draw:
        """Keeps the harder ones of the last epoch, and each other utterance with the probability 1 - rho."""
        excess = self._above_mean_of_window(among)
        probabilities = self._probabilities(among, excess >= 0.0, excess)
        # This epoch counts on both sides, for those that it keeps.
        weights = (among.epoch + 1) / (among.times_seen + 1)
        return Draw(probabilities, np.clip(weights, 1.0, self.max_weight))

    def _above_mean_of_window(self, among: Candidates) -> Floats:
        """Returns how far scores of the last epoch are above the mean of their window; -inf for older ones (N,)."""
        excess = np.full(len(among), -np.inf)
        fresh = np.flatnonzero(among.ages == 1)
        fresh = fresh[np.argsort(among.durations[fresh], kind="stable")]
        for rows in np.array_split(fresh, max(1, round(len(fresh) / self.window))):
            if len(rows):
                excess[rows] = among.scores[rows] - among.scores[rows].mean(dtype=np.float64)
        return excess


@dataclass(frozen=True)
class OrderDP(_WithKeepRatio):
    """`orderdp`: a random share of the utterances, and of these the ones with the highest last known loss (OrderDP).

    The expectation over the draw is a loss that weighs utterances by their rank, so that the losses need no weights
    (OrderDP, ICLR 2026, OpenReview e77QyyRQPz). The paper counts examples; we count seconds, which meets the budget.

    Args:
        keep_ratio: The share of the speech that an epoch keeps.
        drawn: The share of the speech that is drawn, in [keep_ratio, 1]: `keep_ratio` is a random choice, 1 is that of
            `Hard`. None is halfway between, our decision: 0.85 for a keep ratio of 0.7. Where the keep ratio is a
            schedule that is higher, it counts.

    Raises:
        ValueError: If a number is out of range.
    """

    drawn: float | None = None
    needs_scores = True

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 0.0 if callable(self.keep_ratio) else self.keep_ratio
        if self.drawn is not None and not (least <= self.drawn <= 1.0 and self.drawn > 0.0):
            raise ValueError(
                f"drawn: got {self.drawn}, allowed is null (None) or [{least:g}, 1]: the share of the speech that is "
                "drawn at random, of which the hardest are kept."
            )

    def select(self, among: Candidates) -> Kept:
        """Draws utterances, and keeps the highest scores among these up to the budget."""
        total = float(among.durations.sum(dtype=np.float64))
        drawn = (among.budget + total) / 2 if self.drawn is None else max(among.budget, self.drawn * total)
        kept = keep_window(among.rng.random(len(among), dtype=np.float32), among.durations, 0.0, drawn)
        rows = np.flatnonzero(kept)
        kept[rows] = keep_window(among.scores[rows], among.durations[rows], start=1.0, budget=among.budget)
        return kept
