"""Error rates of decoded utterances, pooled over a test set and with bootstrap intervals."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from asrsparse.config import build
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.files import read_json, write_json, write_text
from asrsparse.scoring.alignment import ErrorCounts, Utterance, align, count_errors, pooled
from asrsparse.scoring.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, rate_intervals
from asrsparse.scoring.normalisers import NONE, Normaliser, load_normaliser, normalised, recorded_normaliser
from asrsparse.scoring.sclite import format_result, format_worst
from asrsparse.scoring.stage_files import read_stage, remedy
from asrsparse.scoring.trn_files import read_decoded

logger = logging.getLogger(__name__)


def score(
    decode_dir: Path,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    normaliser: Normaliser = NONE,
    tokenizer: Tokenizer | None = None,
) -> dict[str, Any]:
    """Scores `ref.trn` and `hyp.trn` of a folder.

    Writes three files beside them: `result.txt` (in the form of sclite), `worst.txt` (the utterances with most errors,
    aligned) and `score.json`.

    Args:
        decode_dir: The folder of the decoding.
        bootstrap: The bootstrap that makes the intervals.
        normaliser: What is done to both texts before words and characters are counted.
        tokenizer: The tokenizer of the model, for the token error rate; without it there is no such rate.

    Returns:
        The contents of `score.json`, see `score_utterances` and `score_tokens`.

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
    """Returns bootstrap, normaliser and tokenizer of a configuration; None where the corpus has no tokenizer yet."""
    cuts_dir = Path(config.data_dir) / "cuts"
    tokenizer = load_tokenizer(cuts_dir) if (cuts_dir / "tokens.txt").is_file() else None
    return build(config.score.bootstrap), load_normaliser(config.score.normaliser), tokenizer


def is_scored(decode_dir: Path, bootstrap: Bootstrap, normaliser: Normaliser, tokenizer: Tokenizer | None) -> bool:
    """Returns whether the files of `score` are newer than those of the decoding, and were made with these settings."""
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
        "bootstrap": asdict(bootstrap),
        "normaliser": normaliser.record,
        "tokenizer": None if tokenizer is None else _identity(tokenizer),
    }


def _identity(tokenizer: Tokenizer) -> dict[str, Any]:
    """What token rates depend on; rates of different vocabularies cannot be compared."""
    tokens = "\n".join(tokenizer.tokens).encode()
    fingerprint = hashlib.blake2b(tokens, digest_size=8).hexdigest()
    return {"kind": type(tokenizer).__name__, "vocab_size": tokenizer.vocab_size, "fingerprint": fingerprint}


@dataclass(frozen=True)
class ScoredDecoding:
    """A decoding that was scored.

    Attributes:
        folder: The folder of the decoding.
        scores: What its `score.json` holds.
        utterances: The utterances as they were scored: normalised, in the order of their ids.
    """

    folder: Path
    scores: dict[str, Any]
    utterances: list[Utterance]

    @property
    def bootstrap(self) -> Bootstrap:
        """The bootstrap that made its intervals."""
        return Bootstrap(**self.scores["bootstrap"])


def read_scored(decode_dir: Path) -> ScoredDecoding:
    """Reads `score.json` of a decoding, and the utterances that were scored.

    Raises:
        ValueError: If it was not scored, or its trn files or the normaliser have changed since.
    """
    path = decode_dir / "score.json"
    scores = read_stage(path, "score")
    utterances = normalised(read_decoded(decode_dir), recorded_normaliser(scores["normaliser"]))
    if pooled(utterance.word_errors for utterance in utterances).rate != scores["wer"]:
        raise ValueError(
            f"{path} has WER {scores['wer']}, but not its ref.trn and hyp.trn, which have changed since. "
            f"{remedy(decode_dir, 'score')}"
        )
    return ScoredDecoding(decode_dir, scores, utterances)


def score_utterances(utterances: Sequence[Utterance], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> dict[str, Any]:
    """Computes word and character error rates, their intervals, and the counts that they are made of.

    Args:
        utterances: The decoded utterances; their order does not matter.
        bootstrap: The bootstrap that makes the intervals.

    Returns:
        The values by their names in `score.json`; rates and intervals are fractions in [0, inf).

    Raises:
        ValueError: If the references hold no word.
    """
    utterances = sorted(utterances, key=lambda u: u.id)  # so that draws do not depend on the order
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
    """Computes the token error rate of the texts as they were decoded.

    Both texts are cut into tokens again, as ESPnet does. They are not normalised: the tokenizer was not trained on
    normalised texts.

    Args:
        utterances: The decoded utterances; their order does not matter.
        tokenizer: The tokenizer of the model, or None.
        bootstrap: The bootstrap that makes the interval.

    Returns:
        The rate, its interval and the number of tokens of the references; without a tokenizer, None for each.
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


def _pair(counts: ErrorCounts) -> tuple[int, int]:
    return counts.errors, counts.reference_length
