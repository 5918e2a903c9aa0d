"""Whether an epoch did what was planned: every kept utterance once, by one rank.

Shape legend: N utterances of the corpus, S utterances that were seen, repeats counted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.scores import ScoreTable


@dataclass(frozen=True)
class Audit:
    """What all ranks together trained on in an epoch, against what the epoch kept.

    Attributes:
        durations: Seconds of all utterances (N,).
        kept: True for what the epoch kept (N,).
        times_seen: How often each utterance was trained on (N,).

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
        """Counts the rows of what was seen (S,)."""
        times_seen = np.bincount(seen, minlength=len(table)).clip(max=255).astype(np.uint8)
        return cls(table.durations, kept, times_seen)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """True for what was kept and not seen (N,)."""
        missing: NDArray[np.bool_] = self.kept & (self.times_seen == 0)
        return missing

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """True for what was kept and seen more than once (N,)."""
        repeated: NDArray[np.bool_] = self.kept & (self.times_seen > 1)
        return repeated

    @property
    def strangers(self) -> NDArray[np.bool_]:
        """True for what was seen though it was not kept (N,)."""
        strangers: NDArray[np.bool_] = ~self.kept & (self.times_seen > 0)
        return strangers

    @property
    def is_clean(self) -> bool:
        """Whether every kept utterance was seen once, and no other."""
        return bool(np.array_equal(self.times_seen, self.kept))

    def __str__(self) -> str:
        kept = self._count(self.kept, "kept utterances ")
        if self.is_clean:
            return f"each of {kept} was seen once"
        faults = {
            "not seen": self.missing,
            "more than once": self.repeated,
            "seen though not kept": self.strangers,
        }
        return f"{kept}: " + ", ".join(f"{self._count(rows)} {fault}" for fault, rows in faults.items() if rows.any())

    def _count(self, rows: NDArray[np.bool_], what: str = "") -> str:
        return f"{rows.sum()} {what}({self.durations[rows].sum(dtype=np.float64) / 3600:.2f} h)"
