"""Decoded utterances, their alignment with the reference, and the errors counted in it.

Every error costs 1, upper and lower case are different: a number means what Kaldi, icefall and jiwer mean by it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import kaldialign

GAP = ""  # stands in an alignment where one side has nothing; no word and no character is empty


Alignment = list[tuple[str, str]]  # (reference, hypothesis) pairs


_ID = re.compile(r"[^()\s]+")


@dataclass(frozen=True)
class ErrorCounts:
    """Errors against a reference of `reference_length` words or characters. Counts add up: `pooled` sums them."""

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
        """Insertions, deletions and substitutions together."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def correct(self) -> int:
        """Reference words (characters) that the hypothesis has."""
        return self.reference_length - self.deletions - self.substitutions

    @property
    def rate(self) -> float:
        """Errors per reference word (character), in [0, inf). An empty reference counts as one word: never NaN.

        Example:
            >>> ErrorCounts(insertions=1, substitutions=1, reference_length=4).rate
            0.5
            >>> ErrorCounts(insertions=3).rate
            3.0
        """
        return self.errors / max(self.reference_length, 1)


def pooled(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum over utterances. Its rate is the one to report, not the mean of the utterances' rates."""
    return sum(counts, ErrorCounts())


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """An alignment with the fewest errors (Levenshtein, every error costs 1); `GAP` stands for a missing side.

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
    """The letter of sclite's `Eval:` line for one pair: I, D, S, or a space where both agree."""
    if reference == hypothesis:
        return " "
    if reference == GAP:
        return "I"
    return "D" if hypothesis == GAP else "S"


@dataclass(frozen=True)
class Utterance:
    """One decoded utterance: what was said and what was recognised, words separated by white space.

    Raises:
        ValueError: If the id or the speaker cannot stand in a trn file, or the duration (seconds) is none.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    duration: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("Utterance id", self.id), ("Speaker", self.speaker)):
            if not _ID.fullmatch(value):
                raise ValueError(
                    f"{what} {value!r}: allowed are names without spaces and parentheses, since a trn file writes "
                    "`words (speaker-id)`. Rename it in the manifests."
                )
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ValueError(f"Duration of {self.id}: got {self.duration}, allowed are seconds above 0.")

    @property
    def trn_id(self) -> str:
        """The name in a trn file, `speaker-id`, as ESPnet writes it: the speaker stands first even if `id` has it."""
        return f"{self.speaker}-{self.id}"

    @cached_property
    def alignment(self) -> Alignment:
        """The words of both sides, aligned."""
        return align(self.reference.split(), self.hypothesis.split())

    @cached_property
    def word_errors(self) -> ErrorCounts:
        """For the word error rate."""
        return count_errors(self.alignment)

    @cached_property
    def character_errors(self) -> ErrorCounts:
        """For the character error rate. The space between two words counts as a character, as in ESPnet's CER."""
        return count_errors(align(one_spaced(self.reference), one_spaced(self.hypothesis)))


def one_spaced(text: str) -> str:
    """The words with one space between them. Takes out every line break too: all of them are white space."""
    return " ".join(text.split())


def listed(ids: Iterable[str], at_most: int = 3) -> str:
    """A few ids for a message.

    Example:
        >>> listed(["b", "a", "d", "c"])
        'a, b, c, ...'
    """
    ids = sorted(ids)
    return ", ".join(ids[:at_most]) + (", ..." if len(ids) > at_most else "")
