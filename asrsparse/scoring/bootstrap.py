"""Intervals of error rates by the bootstrap, and two systems compared on the same resamples.

Legend of shapes: N = units that are resampled (utterances or speakers), K = columns of counts, R = resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrsparse.scoring.alignment import Utterance, listed

Counts = NDArray[np.int64]


UNITS = ("utterance", "speaker")


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: 95 % percentile intervals from `resamples` draws of the test set with replacement.

    M. Bisani, H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004:
    the errors and the words of what was drawn are summed, then divided. Equal settings draw equal test sets, so all
    systems are seen on the same resamples.

    Args:
        resamples: Number of draws R.
        seed: Of the draws.
        unit: What is drawn: `"utterance"`, or `"speaker"` with all of a speaker's utterances, which claims less (only
            speakers are independent) but wants many of them.

    Raises:
        ValueError: If a setting is not one of these.
    """

    resamples: int = 10_000
    seed: int = 0
    unit: str = "utterance"

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"Bootstrap resamples: got {self.resamples}, allowed are 1 and more (10000 is usual).")
        if self.seed < 0:
            raise ValueError(f"Bootstrap seed: got {self.seed}, allowed are 0 and more.")
        if self.unit not in UNITS:
            raise ValueError(f"Bootstrap unit: got {self.unit!r}, allowed are {' and '.join(map(repr, UNITS))}.")

    def draw(self, counts: Counts) -> NDArray[np.int64]:
        """Draws N of the N rows with replacement, R times, and sums what was drawn.

        kaldialign's `bootstrap_wer_ci` is not used: it gives the normal approximation (its lower end can be below
        zero), no interval for the difference of two systems, and knows no speakers.

        Args:
            counts: Of each unit (N, K).

        Returns:
            The sums (R, K).
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
        """Counts of each utterance (utterances, K) -> counts of each unit (N, K).

        Raises:
            ValueError: If speakers are drawn and there is only one.
        """
        if self.unit == "utterance":
            return counts
        speakers, index = np.unique([utterance.speaker for utterance in utterances], return_inverse=True)
        if len(speakers) < 2:
            raise ValueError(
                f"Bootstrap over speakers: got 1 speaker ({speakers[0]}), allowed are 2 and more. "
                "Draw utterances instead."
            )
        sums = np.zeros((len(speakers), counts.shape[1]), dtype=np.int64)
        np.add.at(sums, index, counts)
        return sums


DEFAULT_BOOTSTRAP = Bootstrap()


@dataclass(frozen=True)
class Comparison:
    """Of a second system with a first: `delta_wer` is second minus first, so a negative one is an improvement.

    `p_better` is the share of resamples in which the second system makes fewer errors (the probability of
    improvement of Bisani & Ney 2004; a tie is no improvement).
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
    """Compares two systems on the same utterances, paired: both see the same resamples, so what they share cancels.

    Args:
        first: The baseline's utterances.
        second: The same utterances, decoded by the other system.
        bootstrap: How the interval is made.
        names: Of the two systems, for messages.

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
    differences = (drawn[:, 1] - drawn[:, 0]) / np.maximum(drawn[:, 2], 1)
    delta = (errors[1] - errors[0]) / max(words, 1)
    return Comparison(delta, *interval(differences), p_better=float((differences < 0).mean()))


def paired_draws(
    first: Sequence[Utterance], second: Sequence[Utterance], bootstrap: Bootstrap, names: tuple[str, str]
) -> NDArray[np.int64]:
    """Errors of both systems and words of the reference (R, 3), of the same resamples. As for `compare`."""
    first, second = sorted(first, key=lambda u: u.id), sorted(second, key=lambda u: u.id)
    check_same_test_set(first, second, names)
    pairs = [(one.word_errors, two.word_errors) for one, two in zip(first, second, strict=True)]
    counts = np.array([(one.errors, two.errors, one.reference_length) for one, two in pairs])
    return bootstrap.draw(bootstrap.by_unit(counts, first))


def check_same_test_set(first: Sequence[Utterance], second: Sequence[Utterance], names: tuple[str, str]) -> None:
    """Refuses systems that cannot be compared.

    Raises:
        ValueError: If utterances, references or speakers differ; `names` are those of the systems.
    """
    known = {utterance.id: utterance for utterance in first}, {utterance.id: utterance for utterance in second}
    only = known[0].keys() - known[1].keys(), known[1].keys() - known[0].keys()
    if any(only):
        sides = [f"{len(o)} only in {name} ({listed(o)})" for o, name in zip(only, names, strict=True) if o]
        raise ValueError(
            f"{names[0]} and {names[1]} cannot be compared: their utterances differ, {' and '.join(sides)}. "
            "Decode both on the same test set."
        )
    changed = [
        key
        for key, one in known[0].items()
        if (one.speaker, one.reference.split()) != (known[1][key].speaker, known[1][key].reference.split())
    ]
    if changed:
        raise ValueError(
            f"{names[0]} and {names[1]} cannot be compared: the reference or the speaker of {len(changed)} utterances "
            f"differs ({listed(changed)}). Decode both on the same test set."
        )


def interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of samples (R,)."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def rate_intervals(counts: Counts, utterances: Sequence[Utterance], bootstrap: Bootstrap) -> list[tuple[float, float]]:
    """The ends of the interval of each rate, from the same resamples.

    Args:
        counts: Errors and length of the reference, for each rate, of each utterance (utterances, 2 x rates).
        utterances: In the same order.
        bootstrap: Draws them.
    """
    drawn = bootstrap.draw(bootstrap.by_unit(counts, utterances))
    rates = drawn[:, ::2] / np.maximum(drawn[:, 1::2], 1)
    return [interval(column) for column in rates.T]
