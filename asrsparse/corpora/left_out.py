"""Records the utterances that are left out of a data set: each is named and counted, and their hours are stated."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from asrsparse.files import write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOutUtterance:
    """One utterance that is left out.

    Attributes:
        utterance_id: The id of the utterance.
        reason: Why it is left out, as a short clause: `"audio does not decode: ..."`.
        duration: Its duration in seconds, 0.0 where that could not be read.
    """

    utterance_id: str
    reason: str
    duration: float


class LeftOut:
    """Collects the utterances that one stage leaves out, and stops the run if they are too many.

    Args:
        where: What the stage prepares, for the messages: `"train cuts"`.
        max_share: The largest share of utterances that may be left out before the run stops, in [0, 1].

    Raises:
        ValueError: If `max_share` is not in [0, 1].
    """

    def __init__(self, where: str, max_share: float = 0.05) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"corpus.max_left_out: got {max_share} for {where}, allowed are shares in [0, 1].")
        self.where = where
        self.max_share = max_share
        self.utterances: list[LeftOutUtterance] = []

    def add(self, utterance_id: str, reason: str, duration: float = 0.0) -> None:
        """Leaves one utterance out, and logs a warning.

        Args:
            utterance_id: The id of the utterance.
            reason: Why it is left out, as a short clause: `"audio does not decode: ..."`.
            duration: Its duration in seconds, where it is known.
        """
        self.utterances.append(LeftOutUtterance(utterance_id, reason, duration))
        logger.warning("%s: left out %s: %s", self.where, utterance_id, reason)

    @property
    def hours(self) -> float:
        """The hours of speech that are left out, as far as their durations are known."""
        return sum(u.duration for u in self.utterances) / 3600

    def summary(self) -> str:
        """Returns one line: the number of utterances, their hours, and how often there is each reason.

        The detail of a reason after its first `:` is not stated.
        """
        reasons = Counter(u.reason.split(":")[0] for u in self.utterances)
        listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        counted = f"{self.where}: left out {len(self.utterances)} utterances ({self.hours:.3f} h)"
        return f"{counted}: {listed}" if listed else counted

    def close(self, num_utterances: int, path: Path | None = None) -> None:
        """Logs and lists the utterances that were left out, and checks that they are not too many.

        Args:
            num_utterances: The number of all utterances, with those that were left out.
            path: The file of the list, with a line `id<TAB>reason<TAB>seconds` for each utterance left out.

        Raises:
            ValueError: If more than `max_share` of the utterances were left out, or all of them.
        """
        if path is not None:
            write_text(path, "".join(f"{u.utterance_id}\t{u.reason}\t{u.duration:.2f}\n" for u in self.utterances))
        if not self.utterances:
            return
        logger.warning(self.summary())
        if len(self.utterances) > self.max_share * num_utterances or len(self.utterances) == num_utterances:
            first = "; ".join(f"{u.utterance_id}: {u.reason}" for u in self.utterances[:5])
            raise ValueError(
                f"{self.summary()}. That is {len(self.utterances)} of {num_utterances}; allowed is a share of "
                f"{self.max_share:g}. First ones: {first}. Repair the corpus, or allow more with corpus.max_left_out."
            )
