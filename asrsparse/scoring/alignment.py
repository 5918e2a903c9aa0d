"""Decoded utterances, their alignment with the reference, and the errors counted in it.

Every error costs 1, and upper and lower case are different, as in Kaldi, icefall and jiwer.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import kaldialign

GAP = ""
"""What an alignment has where one side has nothing; no word and no character is empty."""

Alignment = list[tuple[str, str]]
"""Pairs of a word (or character, or token) of the reference and one of the hypothesis."""

_ID = re.compile(r"[^()\s]+")


@dataclass(frozen=True)
class ErrorCounts:
    """Errors against a reference. Counts of several utterances can be added: `pooled` sums them.

    Attributes:
        insertions: The number of words (characters, tokens) that only the hypothesis has.
        deletions: The number of those that only the reference has.
        substitutions: The number of those that differ.
        reference_length: The number of words (characters, tokens) of the reference.
    """

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    reference_length: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """The number of insertions, deletions and substitutions together."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def correct(self) -> int:
        """The number of words (characters, tokens) of the reference that the hypothesis has."""
        return self.reference_length - self.deletions - self.substitutions

    @property
    def rate(self) -> float:
        """The errors per word (character, token) of the reference, in [0, inf).

        An empty reference counts as one word, so that the rate is never NaN.

        Example:
            >>> ErrorCounts(insertions=1, substitutions=1, reference_length=4).rate
            0.5
            >>> ErrorCounts(insertions=3).rate
            3.0
        """
        return self.errors / max(self.reference_length, 1)


def pooled(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """Returns the sum of counts. Its rate is the one to report, and not the mean of the utterances' rates."""
    return sum(counts, ErrorCounts())


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Returns an alignment with the fewest errors (Levenshtein, every error costs 1).

    Args:
        reference: The words (characters, tokens) of the reference.
        hypothesis: Those of the hypothesis.

    Returns:
        The pairs in the order of the words, with `GAP` where one side has nothing.

    Example:
        >>> align("set white at".split(), "set at now".split())
        [('set', 'set'), ('white', ''), ('at', 'at'), ('', 'now')]
    """
    alignment: Alignment = kaldialign.align(reference, hypothesis, GAP)
    return alignment


def count_errors(alignment: Alignment) -> ErrorCounts:
    """Counts the errors of one alignment.

    Example:
        >>> count_errors([("set", "set"), ("white", ""), ("at", "by"), ("", "now")])
        ErrorCounts(insertions=1, deletions=1, substitutions=1, reference_length=3)
    """
    marks = [mark_of(*pair) for pair in alignment]
    insertions, deletions, substitutions = (marks.count(mark) for mark in "IDS")
    return ErrorCounts(insertions, deletions, substitutions, len(alignment) - insertions)


def mark_of(reference: str, hypothesis: str) -> str:
    """Returns the letter of sclite's `Eval:` line for one pair: I, D, S, or a space where both sides are equal."""
    if reference == hypothesis:
        return " "
    if reference == GAP:
        return "I"
    return "D" if hypothesis == GAP else "S"


@dataclass(frozen=True)
class Utterance:
    """One utterance with its reference and its hypothesis.

    Args:
        id: The name of the utterance.
        speaker: The name of its speaker.
        reference: What was said, words separated by white space.
        hypothesis: What was recognised, words separated by white space.
        duration: The duration in seconds; None if it is not known.

    Raises:
        ValueError: If the id or the speaker cannot be written to a trn file, or the duration is not above 0.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    duration: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("id", self.id), ("speaker", self.speaker)):
            if not _ID.fullmatch(value):
                raise ValueError(
                    f"{what}: got {value!r}, allowed are names without spaces and parentheses, since a line of a trn "
                    "file is `words (speaker-id)`. Rename it in the manifests."
                )
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ValueError(f"duration: got {self.duration} for {self.id}, allowed are seconds above 0.")

    @property
    def trn_id(self) -> str:
        """The name in a trn file, `speaker-id`, as ESPnet writes it, also where `id` begins with the speaker."""
        return f"{self.speaker}-{self.id}"

    @cached_property
    def alignment(self) -> Alignment:
        """The alignment of the words."""
        return align(self.reference.split(), self.hypothesis.split())

    @cached_property
    def word_errors(self) -> ErrorCounts:
        """The errors of the word error rate."""
        return count_errors(self.alignment)

    @cached_property
    def character_errors(self) -> ErrorCounts:
        """The errors of the character error rate, in which a space is a character, as in that of ESPnet."""
        return count_errors(align(one_spaced(self.reference), one_spaced(self.hypothesis)))


def one_spaced(text: str) -> str:
    """Returns the words with one space between them; line breaks are white space too."""
    return " ".join(text.split())


def listed(ids: Iterable[str], at_most: int = 3) -> str:
    """Returns the first few ids in alphabetical order, for a message.

    Example:
        >>> listed(["b", "a", "d", "c"])
        'a, b, c, ...'
    """
    ids = sorted(ids)
    return ", ".join(ids[:at_most]) + (", ..." if len(ids) > at_most else "")
