"""Intervals of error rates by the bootstrap, and two systems compared on the same resamples.

Shape legend: U utterances, N units that are drawn (utterances or speakers), K columns of counts, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.comparable import check_same_test_set

Counts = NDArray[np.int64]
"""Whole numbers, one row for each utterance or unit."""

UNITS = ("utterance", "speaker")
"""The units that `Bootstrap` can draw."""


@dataclass(frozen=True)
class Bootstrap:
    """Makes 95 % percentile intervals from `resamples` draws of the test set with replacement.

    M. Bisani, H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004:
    the errors and the words of what was drawn are summed, then divided. Equal settings draw equal test sets, so all
    systems are compared on the same resamples.

    Args:
        resamples: The number of draws R.
        seed: The seed of the draws.
        unit: What is drawn: `"utterance"`, or `"speaker"` with all utterances of a speaker. Speakers assume less (only
            speakers are taken to be independent), but need a test set of many speakers.

    Raises:
        ValueError: If an argument is outside its range.
    """

    resamples: int = 10_000
    seed: int = 0
    unit: str = "utterance"

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed are 1 and more (10000 is usual).")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}, allowed are 0 and more.")
        if self.unit not in UNITS:
            raise ValueError(f"unit: got {self.unit!r}, allowed are {' and '.join(map(repr, UNITS))}.")

    def draw(self, counts: Counts) -> NDArray[np.int64]:
        """Draws N of the N rows with replacement, R times, and sums what was drawn.

        kaldialign's `bootstrap_wer_ci` is not used: it gives the normal approximation (its lower end can be below
        zero), no interval for the difference of two systems, and knows no speakers.

        Args:
            counts: The counts of each unit (N, K).

        Returns:
            The sums of each draw (R, K).
        """
        rng = np.random.default_rng(self.seed)
        num_units = len(counts)
        rows_at_once = max(1, 2**20 // num_units)  # 8 MiB of indices at a time, however large the test set
        sums = []
        for start in range(0, self.resamples, rows_at_once):
            size = (min(rows_at_once, self.resamples - start), num_units)
            drawn = rng.integers(num_units, size=size)
            sums.append(np.stack([column[drawn].sum(axis=1) for column in counts.T], axis=1))
        return np.concatenate(sums)

    def by_unit(self, counts: Counts, utterances: Sequence[Utterance]) -> Counts:
        """Sums the counts of utterances to those of the units that are drawn.

        Args:
            counts: The counts of each utterance (U, K).
            utterances: The U utterances in the same order.

        Returns:
            The counts of each unit (N, K); speakers are in the order of their names.

        Raises:
            ValueError: If speakers are drawn and there is only one.
        """
        if self.unit == "utterance":
            return counts
        speakers, index = np.unique([utterance.speaker for utterance in utterances], return_inverse=True)
        if len(speakers) < 2:
            raise ValueError(
                f"score.bootstrap.unit=speaker: got 1 speaker ({speakers[0]}), allowed are 2 and more. "
                "Draw utterances instead: score.bootstrap.unit=utterance."
            )
        sums = np.zeros((len(speakers), counts.shape[1]), dtype=np.int64)
        np.add.at(sums, index, counts)
        return sums


DEFAULT_BOOTSTRAP = Bootstrap()
"""The bootstrap of functions that are called without one."""


@dataclass(frozen=True)
class Comparison:
    """The word error rate of a second system compared with that of a first.

    Attributes:
        delta_wer: The second rate minus the first, as a fraction: a negative difference is an improvement.
        delta_ci_low: The lower end of the 95 % interval of the difference.
        delta_ci_high: The upper end.
        p_better: The share of resamples in which the second system makes fewer errors (the probability of improvement
            of Bisani & Ney 2004; a tie is no improvement).
    """

    delta_wer: float
    delta_ci_low: float
    delta_ci_high: float
    p_better: float


def compare(
    first: Sequence[Utterance],
    second: Sequence[Utterance],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    names: tuple[str, str] = ("the first system", "the second system"),
) -> Comparison:
    """Compares two systems on the same utterances with a paired bootstrap.

    Both rates are taken on the same resamples, so what the systems share cancels.

    Args:
        first: The utterances as the baseline decoded them.
        second: The same utterances as the other system decoded them, in any order.
        bootstrap: The bootstrap that draws the resamples.
        names: The names of the two systems, for messages.

    Raises:
        ValueError: If the systems were not scored on the same utterances with the same references and speakers.

    Example:
        >>> one = [Utterance("a", "s1", "set white", "set red"), Utterance("b", "s1", "at now", "at now")]
        >>> two = [Utterance("a", "s1", "set white", "set white"), Utterance("b", "s1", "at now", "at now")]
        >>> compare(one, two).delta_wer
        -0.25
    """
    drawn = paired_draws(first, second, bootstrap, names)
    errors = [sum(u.word_errors.errors for u in system) for system in (first, second)]
    words = sum(u.word_errors.reference_length for u in first)
    return comparison_of(drawn, (errors[1] - errors[0]) / max(words, 1))


def comparison_of(drawn: NDArray[np.int64], delta_wer: float) -> Comparison:
    """Makes a comparison of the errors of two systems and the words on the same resamples (R, 3)."""
    differences = (drawn[:, 1] - drawn[:, 0]) / np.maximum(drawn[:, 2], 1)
    return Comparison(delta_wer, *interval(differences), p_better=float((differences < 0).mean()))


def paired_draws(
    first: Sequence[Utterance], second: Sequence[Utterance], bootstrap: Bootstrap, names: tuple[str, str]
) -> NDArray[np.int64]:
    """Returns the errors of both systems and the words of the reference on the same resamples (R, 3).

    Arguments and errors are those of `compare`.
    """
    first, second = sorted(first, key=lambda u: u.id), sorted(second, key=lambda u: u.id)
    check_same_test_set(first, second, names)
    pairs = [(one.word_errors, two.word_errors) for one, two in zip(first, second, strict=True)]
    counts = np.array([(one.errors, two.errors, one.reference_length) for one, two in pairs])
    return bootstrap.draw(bootstrap.by_unit(counts, first))


def interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the 2.5 % and 97.5 % quantiles of samples (R,)."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def rate_intervals(counts: Counts, utterances: Sequence[Utterance], bootstrap: Bootstrap) -> list[tuple[float, float]]:
    """Returns the ends of the 95 % interval of each of some rates, all from the same resamples.

    Args:
        counts: For each utterance and each of K / 2 rates, the errors and the length of the reference (U, K).
        utterances: The U utterances in the same order.
        bootstrap: The bootstrap that draws the resamples.

    Raises:
        ValueError: If speakers are drawn and there is only one.
    """
    drawn = bootstrap.draw(bootstrap.by_unit(counts, utterances))
    rates = drawn[:, ::2] / np.maximum(drawn[:, 1::2], 1)
    return [interval(column) for column in rates.T]
