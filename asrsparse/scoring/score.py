"""Error rates of decoded utterances: pooled, with bootstrap intervals, and two systems compared on the same utterances.

Legend of shapes: N = units that are resampled (utterances or speakers), K = columns of counts, R = resamples.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
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
from asrsparse.scoring.trn_files import read_decoded

logger = logging.getLogger(__name__)


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


def _pair(counts: ErrorCounts) -> tuple[int, int]:
    return counts.errors, counts.reference_length
