"""The matched-pairs test of two systems on the same utterances, which sclite's `sc_stats` calls MAPSSWE.

L. Gillick, S. J. Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989. The
test set is cut where both systems have two words right in a row. What lies between two such places, and has an error of
either system, is a stretch (their word is segment, which here is a window of an utterance): errors in one stretch are
taken to be independent of those in the next. The differences of the two systems' errors by stretch have a mean, whose
distance from zero is measured in standard errors.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asrsparse.scoring.alignment import GAP, Alignment, Utterance

BOUNDARY = 2  # words right in both systems that part two stretches, as in the paper and in sc_stats


@dataclass(frozen=True)
class MatchedPairs:
    """The outcome for a second system against a first.

    Attributes:
        stretches: How many had an error. The test takes the mean's distribution for normal: below some 50 trust the
            bootstrap instead.
        mean: Errors of the second system minus those of the first, by stretch; negative is better.
        std: Standard deviation of these differences.
        z: The mean over its standard error.
        p: Two-sided; how often equally good systems would differ by as much.
    """

    stretches: int
    mean: float
    std: float
    z: float
    p: float


def matched_pairs(first: Sequence[Utterance], second: Sequence[Utterance]) -> MatchedPairs:
    """Tests whether two systems make equally many errors.

    Args:
        first: The baseline's utterances.
        second: The same ones in the same order, decoded by the other system.

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
    """How many standard errors the mean is from zero. Of differences that are all alike, none is any number of them."""
    return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0


def stretches(first: Alignment, second: Alignment) -> list[tuple[int, int]]:
    """The errors of both systems in each stretch of one utterance.

    One detail differs from `sc_stats`, which overlooks what the second system inserts behind the last word: here the
    two systems can change places.

    Args:
        first: One system's words aligned with the reference.
        second: The other's, with the same reference.

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
    """Errors at each place of a reference: insertions before its first word, the word (0 or 1), insertions, ..."""
    errors = [0]
    for reference, hypothesis in alignment:
        if reference == GAP:
            errors[-1] += 1
        else:
            errors += [int(reference != hypothesis), 0]
    return errors
