"""Two systems that were trained with several seeds each: intervals over utterances and over seeds.

An interval over the utterances of one run says nothing about another run of the same training. Here utterances and
seeds are drawn with replacement, independently, since every seed is scored on the same utterances (the crossed, or
pigeonhole, bootstrap: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007).

Shape legend: S seeds, U utterances, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, Comparison, comparison_of, interval
from asrsparse.scoring.comparable import check_same_test_set
from asrsparse.scoring.comparison import DEFAULT_MARGIN, Margin, NonInferiority, non_inferiority_of

Runs = Sequence[Sequence[Utterance]]
"""The decoded utterances of the runs of one system, one run for each seed."""


@dataclass(frozen=True)
class SeedComparison:
    """A second system compared with a first one, over seeds and utterances.

    Attributes:
        num_seeds: The number of seeds S.
        wer: The word error rate of the second system, the mean over its seeds, as a fraction.
        ci_low: The lower end of its 95 % interval.
        ci_high: The upper end.
        comparison: The difference from the first system.
        non_inferiority: The test whether it is worse than the first system by less than a margin.
    """

    num_seeds: int
    wer: float
    ci_low: float
    ci_high: float
    comparison: Comparison
    non_inferiority: NonInferiority


def compare_seeds(
    first: Runs,
    second: Runs,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    margin: Margin = DEFAULT_MARGIN,
    names: tuple[str, str] = ("the first system", "the second system"),
) -> SeedComparison:
    """Compares two systems by all of their runs; runs with the same number are those of the same seed.

    A draw has S of the S seeds, for both systems the same ones, and U of the U utterances (or the speakers), in all
    runs the same ones. With S = 1 it is the paired bootstrap of one run. Few seeds are few: the spread of S drawn seeds
    is too small by sqrt((S - 1) / S), so three seeds give an interval that is a little narrow.

    Args:
        first: The runs of the first system, each on the same utterances.
        second: The runs of the second system, with the same seeds in the same order.
        bootstrap: The bootstrap that draws.
        margin: The margin of the test for non-inferiority.
        names: The names of the two systems, for messages.

    Raises:
        ValueError: If the systems have no run or different numbers of them, or runs are of different utterances.

    Example:
        >>> right, wrong = Utterance("a", "s1", "set red", "set red"), Utterance("a", "s1", "set red", "set white")
        >>> compared = compare_seeds([[right], [right]], [[right], [wrong]])
        >>> compared.wer, compared.comparison.delta_wer, compared.comparison.p_better
        (0.25, 0.25, 0.0)
    """
    errors, words = _errors(first, second, bootstrap, names)
    num_seeds = len(first)
    drawn = _draw(errors, words, bootstrap)
    rates = errors.sum(axis=(1, 2)) / max(num_seeds * int(words.sum()), 1)
    return SeedComparison(
        num_seeds,
        float(rates[1]),
        *interval(drawn[:, 1] / np.maximum(drawn[:, 2], 1)),
        comparison=comparison_of(drawn, float(rates[1] - rates[0])),
        non_inferiority=non_inferiority_of(drawn, margin),
    )


def _errors(
    first: Runs, second: Runs, bootstrap: Bootstrap, names: tuple[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The errors of both systems (2, S, units), and the words of each unit that is drawn (units)."""
    if len(first) == 0 or len(first) != len(second):
        raise ValueError(
            f"first and second: got {len(first)} runs of {names[0]} and {len(second)} of {names[1]}, allowed is the "
            "same number, at least 1. Train both with the same seeds."
        )
    runs = [sorted(run, key=lambda u: u.id) for run in (*first, *second)]
    for run in runs[1:]:
        check_same_test_set(runs[0], run, names)
    counts = [[u.word_errors.errors for u in run] for run in runs]
    counts.append([u.word_errors.reference_length for u in runs[0]])
    by_unit = bootstrap.by_unit(np.array(counts).T, runs[0]).T
    return by_unit[:-1].reshape(2, len(first), -1), by_unit[-1]


def _draw(errors: NDArray[np.int64], words: NDArray[np.int64], bootstrap: Bootstrap) -> NDArray[np.int64]:
    """The errors of both systems and the words on the same resamples of units and seeds (R, 3)."""
    num_seeds = errors.shape[1]
    of_units = bootstrap.draw(np.concatenate([errors.reshape(2 * num_seeds, -1), words[None]]).T)
    by_seed = of_units[:, :-1].reshape(-1, 2, num_seeds)
    seeds = np.random.default_rng([bootstrap.seed, 1]).integers(num_seeds, size=(bootstrap.resamples, 1, num_seeds))
    of_both = np.take_along_axis(by_seed, seeds, axis=2).sum(axis=2)
    return np.column_stack([of_both, num_seeds * of_units[:, -1]])
