"""The audit of an epoch: whether each kept utterance was trained on once, by one rank, and no other utterance.

Shape legend: N utterances of the corpus, S utterances that were trained on, where repeats count.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.scores import ScoreTable


@dataclass(frozen=True)
class Audit:
    """A comparison of what all ranks together trained on in an epoch with what the epoch kept.

    Attributes:
        durations: Seconds of all utterances (N,).
        kept: True for each utterance that the epoch kept (N,).
        times_seen: How often each utterance was trained on (N,); 255 stands for more, too.

    Example:
        >>> table = ScoreTable(["a", "b", "c"], [3600.0, 3600.0, 3600.0])
        >>> kept = np.array([True, True, False])
        >>> print(Audit.of(table, kept, np.array([0, 1])))
        each of 2 kept utterances (2.00 h) was seen once
        >>> print(Audit.of(table, kept, np.array([1, 1, 2])))
        2 kept utterances (2.00 h): 1 (1.00 h) not seen, 1 (1.00 h) more than once, 1 (1.00 h) seen though not kept
    """

    durations: NDArray[np.float32]
    kept: NDArray[np.bool_]
    times_seen: NDArray[np.uint8]

    @classmethod
    def of(cls, table: ScoreTable, kept: NDArray[np.bool_], seen: NDArray[np.int64]) -> "Audit":
        """Counts how often each utterance was trained on.

        Args:
            table: The N utterances.
            kept: True for each utterance that the epoch kept (N,).
            seen: The row numbers of what was trained on (S,), in any order.

        Returns:
            The audit of the epoch.
        """
        times_seen = np.bincount(seen, minlength=len(table)).clip(max=255).astype(np.uint8)
        return cls(table.durations, kept, times_seen)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """True for each utterance that was kept and not trained on (N,)."""
        missing: NDArray[np.bool_] = self.kept & (self.times_seen == 0)
        return missing

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """True for each utterance that was kept and trained on more than once (N,)."""
        repeated: NDArray[np.bool_] = self.kept & (self.times_seen > 1)
        return repeated

    @property
    def unexpected(self) -> NDArray[np.bool_]:
        """True for each utterance that was trained on though it was not kept (N,)."""
        unexpected: NDArray[np.bool_] = ~self.kept & (self.times_seen > 0)
        return unexpected

    @property
    def is_clean(self) -> bool:
        """Whether every kept utterance was trained on once, and no other utterance."""
        return bool(np.array_equal(self.times_seen, self.kept))

    def __str__(self) -> str:
        kept = self._count(self.kept, "kept utterances ")
        if self.is_clean:
            return f"each of {kept} was seen once"
        faults = {
            "not seen": self.missing,
            "more than once": self.repeated,
            "seen though not kept": self.unexpected,
        }
        return f"{kept}: " + ", ".join(f"{self._count(rows)} {fault}" for fault, rows in faults.items() if rows.any())

    def _count(self, rows: NDArray[np.bool_], what: str = "") -> str:
        return f"{rows.sum()} {what}({self.durations[rows].sum(dtype=np.float64) / 3600:.2f} h)"
