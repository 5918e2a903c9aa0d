"""Error rates of decoded utterances: pooled, with bootstrap intervals, and two systems compared on the same utterances.

Legend of shapes: N = units that are resampled (utterances or speakers), K = columns of counts, R = resamples.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrsparse.files import write_json, write_text
from asrsparse.sclite import ErrorCounts, Utterance, format_result, listed, pooled, read_decoded

logger = logging.getLogger(__name__)

Counts = NDArray[np.int64]

NORMALISER = {"name": "none", "version": 1}  # texts are scored as they are; whoever adds a rule adds a name
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
    first, second = sorted(first, key=lambda u: u.id), sorted(second, key=lambda u: u.id)
    _check_same_test_set(first, second, names)
    pairs = [(one.word_errors, two.word_errors) for one, two in zip(first, second, strict=True)]
    counts = np.array([(one.errors, two.errors, one.reference_length) for one, two in pairs])
    total = counts.sum(axis=0)
    drawn = bootstrap.draw(bootstrap.by_unit(counts, first))
    differences = (drawn[:, 1] - drawn[:, 0]) / np.maximum(drawn[:, 2], 1)
    delta = float((total[1] - total[0]) / max(total[2], 1))
    return Comparison(delta, *_interval(differences), p_better=float((differences < 0).mean()))


def _check_same_test_set(first: Sequence[Utterance], second: Sequence[Utterance], names: tuple[str, str]) -> None:
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


def _interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of samples (R,)."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def score_utterances(utterances: Sequence[Utterance], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> dict[str, Any]:
    """The numbers of `score.json`. Rates and intervals are fractions in [0, inf), not per cent.

    Raises:
        ValueError: If the references hold no word.
    """
    utterances = sorted(utterances, key=lambda u: u.id)  # equal draws whatever the order they come in
    words, characters = pooled(u.word_errors for u in utterances), pooled(u.character_errors for u in utterances)
    if not words.reference_length:
        raise ValueError(f"{len(utterances)} utterances without a word in the references: there is no error rate.")
    wer_low, wer_high, cer_low, cer_high = _rate_intervals(utterances, bootstrap)
    return {
        "wer": words.rate,
        "ci_low": wer_low,
        "ci_high": wer_high,
        "cer": characters.rate,
        "cer_ci_low": cer_low,
        "cer_ci_high": cer_high,
        "utterances": len(utterances),
        "speakers": len({u.speaker for u in utterances}),
        "words": words.reference_length,
        "characters": characters.reference_length,
        "insertions": words.insertions,
        "deletions": words.deletions,
        "substitutions": words.substitutions,
        "sentence_error_rate": sum(u.word_errors.errors > 0 for u in utterances) / len(utterances),
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "unit": bootstrap.unit},
        "normaliser": NORMALISER,
    }


def _rate_intervals(utterances: Sequence[Utterance], bootstrap: Bootstrap) -> tuple[float, float, float, float]:
    """The ends of the intervals of WER and CER, from the same resamples."""
    counts = np.array([(*_pair(u.word_errors), *_pair(u.character_errors)) for u in utterances])
    drawn = bootstrap.draw(bootstrap.by_unit(counts, utterances))
    rates = drawn[:, ::2] / np.maximum(drawn[:, 1::2], 1)
    return *_interval(rates[:, 0]), *_interval(rates[:, 1])


def _pair(counts: ErrorCounts) -> tuple[int, int]:
    return counts.errors, counts.reference_length


def score(decode_dir: Path, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> dict[str, Any]:
    """Scores `ref.trn` and `hyp.trn` of a folder; writes `result.txt` (sclite's form) and `score.json` beside them.

    Returns:
        What stands in `score.json`, see `score_utterances`.

    Raises:
        ValueError: If a trn file is missing or damaged, or the two do not hold the same utterances.
    """
    utterances = read_decoded(decode_dir)
    try:
        scores = score_utterances(utterances, bootstrap)
    except ValueError as error:
        raise ValueError(f"{decode_dir / 'ref.trn'}: {error}") from None
    write_text(decode_dir / "result.txt", format_result(utterances, title=f"{decode_dir.name}/hyp.trn"))
    write_json(decode_dir / "score.json", scores)
    logger.info("%s: WER %.2f %% of %d words", decode_dir, 100 * scores["wer"], scores["words"])
    return scores
