"""The account of utterances that are kept out of a data set: each is named, counted, and stated in hours."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from asrsparse.files import write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOutUtterance:
    """One utterance that is kept out. `duration` is in seconds, 0.0 where it could not be read."""

    utterance_id: str
    reason: str
    duration: float


class LeftOut:
    """Collects the utterances that one stage keeps out, and stops the run when they are too many.

    Args:
        where: What is being made, for the messages: `"train cuts"`.
        max_share: The largest share of utterances that may be left out before the run stops, in [0, 1].
    """

    def __init__(self, where: str, max_share: float = 0.05) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max_share of {where}: got {max_share}, allowed are shares in [0, 1].")
        self.where = where
        self.max_share = max_share
        self.utterances: list[LeftOutUtterance] = []

    def add(self, utterance_id: str, reason: str, duration: float = 0.0) -> None:
        """Leaves one utterance out; `reason` is a short clause: `"audio does not decode: ..."`."""
        self.utterances.append(LeftOutUtterance(utterance_id, reason, duration))
        logger.warning("%s: left out %s: %s", self.where, utterance_id, reason)

    @property
    def hours(self) -> float:
        """Hours of speech that are left out, as far as their durations are known."""
        return sum(u.duration for u in self.utterances) / 3600

    def summary(self) -> str:
        """One line: how many, how many hours, and the reasons by number (a reason's detail after `:` is dropped)."""
        reasons = Counter(u.reason.split(":")[0] for u in self.utterances)
        listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        counted = f"{self.where}: left out {len(self.utterances)} utterances ({self.hours:.3f} h)"
        return f"{counted}: {listed}" if listed else counted

    def close(self, num_utterances: int, path: Path | None = None) -> None:
        """Says what was left out of `num_utterances`, and lists it in `path` (tab-separated: id, reason, seconds).

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
