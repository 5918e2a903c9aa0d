"""The matched-pairs test of two systems on the same utterances, which sclite's `sc_stats` calls MAPSSWE.

L. Gillick, S. J. Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989. The
test set is cut where both systems have two words right in a row. The words between two cuts are a stretch if either
system has an error in them (the paper calls it a segment, which is a window of an utterance in this toolkit). Errors in
one stretch are taken to be independent of those in the next. The test measures how many standard errors the mean over
stretches of the difference of the two systems' errors is from zero.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asrsparse.scoring.alignment import GAP, Alignment, Utterance

BOUNDARY = 2
"""The number of words, right in both systems, that separate two stretches, as in the paper and in sc_stats."""


@dataclass(frozen=True)
class MatchedPairs:
    """The result of the matched-pairs test of a second system against a first.

    Attributes:
        stretches: The number of stretches with an error. The test takes the distribution of the mean to be normal:
            below about 50 stretches trust the bootstrap instead.
        mean: The mean over stretches of the second system's errors minus the first one's; negative is better.
        std: The standard deviation of these differences.
        z: The mean divided by its standard error.
        p: The two-sided probability that equally good systems differ by as much.
    """

    stretches: int
    mean: float
    std: float
    z: float
    p: float


def matched_pairs(first: Sequence[Utterance], second: Sequence[Utterance]) -> MatchedPairs:
    """Tests whether two systems make equally many errors.

    Args:
        first: The utterances as the baseline decoded them.
        second: The same utterances in the same order, as the other system decoded them.

    Example:
        >>> one = [Utterance("a", "s", "a b c d e f", "x b c d e y"), Utterance("b", "s", "a b", "a")]
        >>> two = [Utterance("a", "s", "a b c d e f", "a b c d e y"), Utterance("b", "s", "a b", "a b")]
        >>> matched_pairs(one, two).stretches, round(matched_pairs(one, two).z, 3)
        (3, -2.0)
    """
    pairs = zip(first, second, strict=True)
    found = [stretch for one, two in pairs for stretch in stretches(one.alignment, two.alignment)]
    differences = np.array([two - one for one, two in found], dtype=np.float64)
    if len(differences) < 2:
        return MatchedPairs(len(differences), float(differences.sum()), 0.0, 0.0, 1.0)
    mean, std = float(differences.mean()), float(differences.std(ddof=1))
    z = _ratio(mean, std / math.sqrt(len(differences)))
    return MatchedPairs(len(differences), mean, std, z, math.erfc(abs(z) / math.sqrt(2)))


def _ratio(mean: float, error: float) -> float:
    """The mean in standard errors; infinite if all differences are equal and not zero, and zero if all are zero."""
    return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0


def stretches(first: Alignment, second: Alignment) -> list[tuple[int, int]]:
    """Returns the errors of both systems in each stretch of one utterance.

    One detail differs from `sc_stats`, which does not count what the second system inserts behind the last word. It is
    counted here, so that the result does not depend on which system is the second one.

    Args:
        first: The alignment of one system's words with the reference.
        second: That of the other system's words with the same reference.

    Returns:
        For each stretch, the errors of the first and of the second system.

    Example:
        >>> first = [("a", "x"), ("b", "b"), ("c", "c"), ("d", "d"), ("", "y")]
        >>> second = [("a", "a"), ("b", "b"), ("c", "c"), ("d", "")]
        >>> stretches(first, second)
        [(1, 0), (1, 1)]
    """
    found: list[tuple[int, int]] = []
    one = two = right = 0
    for place, (of_one, of_two) in enumerate(zip(_errors(first), _errors(second), strict=True)):
        if of_one or of_two:
            one, two, right = one + of_one, two + of_two, 0
        elif place % 2:
            right += 1
        if right == BOUNDARY and (one or two):
            found.append((one, two))
            one = two = 0
    return [*found, (one, two)] if one or two else found


def _errors(alignment: Iterable[tuple[str, str]]) -> list[int]:
    """The errors at each place of a reference: insertions before its first word, the word (0 or 1), insertions, ..."""
    errors = [0]
    for reference, hypothesis in alignment:
        if reference == GAP:
            errors[-1] += 1
        else:
            errors += [int(reference != hypothesis), 0]
    return errors
