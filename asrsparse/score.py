"""Error rates of decoded utterances: pooled, with bootstrap intervals, and two systems compared on the same utterances.

Legend of shapes: N = units that are resampled (utterances or speakers), K = columns of counts, R = resamples.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from asrsparse.config import build
from asrsparse.files import read_json, write_json, write_text
from asrsparse.normalisers import NONE, Normaliser, load_normaliser, normalised, recorded_normaliser
from asrsparse.sclite import (
    ErrorCounts,
    Utterance,
    align,
    count_errors,
    format_result,
    format_worst,
    listed,
    pooled,
    read_decoded,
)
from asrsparse.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

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


# ------------------------------------------------------------------------------------------------------- one decoding


def score(
    decode_dir: Path,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    normaliser: Normaliser = NONE,
    tokenizer: Tokenizer | None = None,
) -> dict[str, Any]:
    """Scores `ref.trn` and `hyp.trn` of a folder.

    Beside them come `result.txt` (sclite's form), `worst.txt` (the utterances with most errors, aligned) and
    `score.json`.

    Args:
        decode_dir: The folder.
        bootstrap: How intervals are made.
        normaliser: Of both texts, before words and characters are counted.
        tokenizer: Of the model, for the token rate; without it there is none.

    Returns:
        What stands in `score.json`, see `score_utterances` and `score_tokens`.

    Raises:
        ValueError: If a trn file is missing or damaged, or the two do not hold the same utterances.
    """
    decoded = read_decoded(decode_dir)
    utterances = normalised(decoded, normaliser)
    try:
        scores = score_utterances(utterances, bootstrap)
    except ValueError as error:
        raise ValueError(f"{decode_dir / 'ref.trn'}: {error}") from None
    scores |= _settings(bootstrap, normaliser, tokenizer) | score_tokens(decoded, tokenizer, bootstrap)
    title = f"{decode_dir.name}/hyp.trn" + ("" if normaliser == NONE else f", {normaliser.name}")
    write_text(decode_dir / "result.txt", format_result(utterances, title))
    write_text(decode_dir / "worst.txt", format_worst(utterances))
    write_json(decode_dir / "score.json", scores)
    rate = f"{100 * scores['wer']:.2f} % [{100 * scores['ci_low']:.2f}, {100 * scores['ci_high']:.2f}]"
    logger.info("%s: WER %s of %d words; worst.txt has the worst utterances", decode_dir, rate, scores["words"])
    return scores


def score_settings(config: DictConfig) -> tuple[Bootstrap, Normaliser, Tokenizer | None]:
    """How a configuration has its decodings scored; without a tokenizer where the corpus is not prepared."""
    cuts_dir = Path(config.data_dir) / "cuts"
    tokenizer = load_tokenizer(cuts_dir) if (cuts_dir / "tokens.txt").is_file() else None
    return build(config.score.bootstrap), load_normaliser(config.score.normaliser), tokenizer


def is_scored(decode_dir: Path, bootstrap: Bootstrap, normaliser: Normaliser, tokenizer: Tokenizer | None) -> bool:
    """Whether `score` has seen what was decoded, with these settings."""
    made = [decode_dir / name for name in ("score.json", "result.txt", "worst.txt")]
    sources = [path for path in (decode_dir / name for name in ("ref.trn", "hyp.trn", "utt2spk")) if path.is_file()]
    if not sources or not all(path.is_file() for path in made):
        return False
    if made[0].stat().st_mtime < max(path.stat().st_mtime for path in sources):
        return False
    recorded = read_json(made[0])
    return bool(_settings(bootstrap, normaliser, tokenizer).items() <= recorded.items())


def _settings(bootstrap: Bootstrap, normaliser: Normaliser, tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "unit": bootstrap.unit},
        "normaliser": normaliser.record,
        "tokenizer": None if tokenizer is None else _identity(tokenizer),
    }


def _identity(tokenizer: Tokenizer) -> dict[str, Any]:
    """What token rates depend on. Rates of different vocabularies are no more comparable than miles and kilometres."""
    tokens = "\n".join(tokenizer.tokens).encode()
    fingerprint = hashlib.blake2b(tokens, digest_size=8).hexdigest()
    return {"kind": type(tokenizer).__name__, "vocab_size": tokenizer.vocab_size, "fingerprint": fingerprint}


def read_scored(decode_dir: Path) -> tuple[dict[str, Any], list[Utterance]]:
    """Reads `score.json` of a folder, and its utterances as they were scored: normalised.

    Raises:
        ValueError: If it was not scored, or has changed since, or the normaliser has.
    """
    path = decode_dir / "score.json"
    if not path.is_file():
        raise ValueError(f"No {path}. Run `asrsparse score` for this system and split first.")
    scores: dict[str, Any] = read_json(path)
    missing = sorted({"wer", "ci_low", "ci_high", "bootstrap", "normaliser"} - scores.keys())
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: another version wrote it. Run `asrsparse score` again.")
    utterances = normalised(read_decoded(decode_dir), recorded_normaliser(scores["normaliser"]))
    if pooled(utterance.word_errors for utterance in utterances).rate != scores["wer"]:
        raise ValueError(
            f"{path} has WER {scores['wer']}, but not ref.trn and hyp.trn beside it, which have changed since. "
            "Run `asrsparse score` again."
        )
    return scores, utterances


def check_scored_alike(names: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> None:
    """Refuses systems whose numbers were not made alike.

    Raises:
        ValueError: If normalisers or bootstraps differ, with the two systems.
    """
    for name, other in zip(names[1:], scores[1:], strict=True):
        for key in ("normaliser", "bootstrap"):
            if other[key] != scores[0][key]:
                raise ValueError(
                    f"{name} was scored with {key} {other[key]}, {names[0]} with {scores[0][key]}: only numbers that "
                    "are made alike can be compared. Run `asrsparse score` for both again, with the same settings."
                )


def score_utterances(utterances: Sequence[Utterance], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> dict[str, Any]:
    """Word and character error rates and what they are made of. Rates and intervals are fractions in [0, inf).

    Raises:
        ValueError: If the references hold no word.
    """
    utterances = sorted(utterances, key=lambda u: u.id)  # equal draws whatever the order they come in
    words, characters = pooled(u.word_errors for u in utterances), pooled(u.character_errors for u in utterances)
    if not words.reference_length:
        raise ValueError(f"{len(utterances)} utterances without a word in the references: there is no error rate.")
    counts = np.array([(*_pair(u.word_errors), *_pair(u.character_errors)) for u in utterances])
    (wer_low, wer_high), (cer_low, cer_high) = rate_intervals(counts, utterances, bootstrap)
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
    }


def score_tokens(utterances: Sequence[Utterance], tokenizer: Tokenizer | None, bootstrap: Bootstrap) -> dict[str, Any]:
    """The token error rate, of the texts as they were decoded: both are cut into tokens anew, as ESPnet does.

    A normaliser would leave texts that the tokenizer never saw.

    Returns:
        The rate, its interval and the references' tokens; without a tokenizer, None for each.
    """
    if tokenizer is None:
        return dict.fromkeys(("ter", "ter_ci_low", "ter_ci_high", "tokens"))
    utterances = sorted(utterances, key=lambda u: u.id)
    errors = [_token_errors(u, tokenizer) for u in utterances]
    total = pooled(errors)
    ((low, high),) = rate_intervals(np.array([_pair(e) for e in errors]), utterances, bootstrap)
    return {"ter": total.rate, "ter_ci_low": low, "ter_ci_high": high, "tokens": total.reference_length}


def _token_errors(utterance: Utterance, tokenizer: Tokenizer) -> ErrorCounts:
    sides = (tokenizer.encode(text) for text in (utterance.reference, utterance.hypothesis))
    return count_errors(align(*([str(token) for token in side] for side in sides)))


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


def _pair(counts: ErrorCounts) -> tuple[int, int]:
    return counts.errors, counts.reference_length
