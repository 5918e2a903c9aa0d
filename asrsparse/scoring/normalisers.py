"""Normalisers of the texts that are scored. Each has a name and a version, which `score.json` records.

The choice of the normaliser alone changes word error rates by whole points, so rates of two normalisers are never
compared. The files `ref.trn` and `hyp.trn` hold the texts as they were decoded.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from asrsparse.scoring.alignment import Utterance


@dataclass(frozen=True)
class Normaliser:
    """A rule that is applied to reference and hypothesis before they are compared.

    Attributes:
        name: The name, as in `score.normaliser`.
        version: A number that grows when the rule changes, or the name and version of the library that has the rule.
        apply: The function that normalises a text.
    """

    name: str
    version: int | str
    apply: Callable[[str], str] = field(compare=False, repr=False)

    @property
    def record(self) -> dict[str, int | str]:
        """The name and the version, as `score.json` has them."""
        return {"name": self.name, "version": self.version}


NONE = Normaliser("none", 1, str)
"""The normaliser that changes nothing."""


def lower_no_punctuation(text: str) -> str:
    """Makes letters lower case and punctuation marks and symbols spaces, except for apostrophes inside words.

    Marks and symbols are the characters of Unicode's categories P and S in the compatibility form NFKC. So letters and
    accents of every script stay, and a hyphen separates two words.

    Example:
        >>> lower_no_punctuation("“Don’t,” he said: ‘twas a WELL-known Æsir tale…")
        "don't he said twas a well known æsir tale"
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    spaced = "".join(" " if _is_mark(character) else character for character in text)
    words = (word.strip("'") for word in spaced.split())
    return " ".join(word for word in words if word)


def _is_mark(character: str) -> bool:
    return character != "'" and unicodedata.category(character)[0] in "PS"


def _whisper_english() -> Normaliser:
    """Whisper's for English (Radford et al. 2022, appendix C): numbers, contractions, spellings, fillers."""
    try:
        from whisper_normalizer.english import EnglishTextNormalizer

        installed = version("whisper-normalizer")
    except (ImportError, PackageNotFoundError):
        raise ValueError(
            "score.normaliser: whisper_english needs the library whisper-normalizer, which is not installed. "
            "Install asrsparse with the extra [recipes], or choose another normaliser."
        ) from None
    return Normaliser("whisper_english", f"whisper-normalizer {installed}", EnglishTextNormalizer())


_NORMALISERS: dict[str, Callable[[], Normaliser]] = {
    "none": lambda: NONE,
    "lower_no_punctuation": lambda: Normaliser("lower_no_punctuation", 1, lower_no_punctuation),
    "whisper_english": _whisper_english,
}


def load_normaliser(name: str) -> Normaliser:
    """Returns the normaliser of a name: `"none"`, `"lower_no_punctuation"` or `"whisper_english"`.

    Raises:
        ValueError: If there is none of that name, or its library is not installed.
    """
    if name not in _NORMALISERS:
        raise ValueError(f"score.normaliser: got {name!r}, allowed are {', '.join(_NORMALISERS)}.")
    return _NORMALISERS[name]()


def recorded_normaliser(record: Mapping[str, Any]) -> Normaliser:
    """Returns the normaliser that a `score.json` records.

    Args:
        record: The name and the version, as `Normaliser.record` has them.

    Raises:
        ValueError: If there is no normaliser of that name, or its version is another one now.
    """
    normaliser = load_normaliser(record["name"])
    if normaliser.record != record:
        raise ValueError(
            f"The normaliser {normaliser.name} was of version {record['version']} when this was scored, here it is "
            f"{normaliser.version}. Run `asrsparse score` again."
        )
    return normaliser


def normalised(utterances: Iterable[Utterance], normaliser: Normaliser) -> list[Utterance]:
    """Returns the utterances with both texts normalised."""
    utterances = list(utterances)
    if normaliser == NONE:
        return utterances
    texts = {text for utterance in utterances for text in (utterance.reference, utterance.hypothesis)}
    done = {text: normaliser.apply(text) for text in texts}  # most hypotheses are their reference: once is enough
    return [replace(u, reference=done[u.reference], hypothesis=done[u.hypothesis]) for u in utterances]
