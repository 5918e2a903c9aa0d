"""What is done to both texts before they are scored. Every normaliser has a name and a version, which are recorded.

The choice alone changes word error rates by whole points, so rates of two normalisers are never compared. The files
`ref.trn` and `hyp.trn` stay as they were decoded.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from asrsparse.scoring.alignment import Utterance


@dataclass(frozen=True)
class Normaliser:
    """A rule for texts.

    Attributes:
        name: As in `score.normaliser`.
        version: Grows when the rule changes; of a library's rule, the library and its version.
        apply: Text to text.
    """

    name: str
    version: int | str
    apply: Callable[[str], str] = field(compare=False, repr=False)

    @property
    def record(self) -> dict[str, int | str]:
        """What stands in `score.json`."""
        return {"name": self.name, "version": self.version}


NONE = Normaliser("none", 1, str)
"""Texts are scored as they are."""


def lower_no_punctuation(text: str) -> str:
    """Lower case; each punctuation mark and symbol becomes a space, but for apostrophes inside words.

    Which characters these are is Unicode's to say (categories P and S of the compatibility form NFKC), so letters and
    accents of every script stay, and a hyphen parts two words.

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
    """The normaliser of that name: `"none"`, `"lower_no_punctuation"` or `"whisper_english"`.

    Raises:
        ValueError: If there is none of that name, or its library is not installed.
    """
    if name not in _NORMALISERS:
        raise ValueError(f"score.normaliser: got {name!r}, allowed are {', '.join(_NORMALISERS)}.")
    return _NORMALISERS[name]()


def recorded_normaliser(record: Mapping[str, Any]) -> Normaliser:
    """The normaliser that a `score.json` names.

    Raises:
        ValueError: If there is none of that name, or it has another version here.
    """
    normaliser = load_normaliser(record["name"])
    if normaliser.record != record:
        raise ValueError(
            f"The normaliser {normaliser.name} was of version {record['version']} when this was scored, here it is "
            f"{normaliser.version}. Run `asrsparse score` again."
        )
    return normaliser


def normalised(utterances: Iterable[Utterance], normaliser: Normaliser) -> list[Utterance]:
    """The utterances with both texts as the normaliser leaves them."""
    utterances = list(utterances)
    if normaliser == NONE:
        return utterances
    texts = {text for utterance in utterances for text in (utterance.reference, utterance.hypothesis)}
    done = {text: normaliser.apply(text) for text in texts}  # most hypotheses are their reference: once is enough
    return [replace(u, reference=done[u.reference], hypothesis=done[u.hypothesis]) for u in utterances]
