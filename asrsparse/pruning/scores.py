"""The score table: one row for each utterance, found by its id, in the order in which the caller named them.

Shape legend: N utterances of the corpus, B utterances of a batch.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Durations = Sequence[float] | NDArray[np.floating[Any]]

NEVER = -1
"""The value of `last_seen` for an utterance that was not trained on yet."""

SMOOTHING = 0.5
"""The default weight of the older score in the moving average."""

_STATE_VERSION = 1


def utterance_keys(ids: Sequence[str]) -> NDArray[np.int64]:
    """Hashes ids to keys of 64 bits, the same in every process, which are compared, sorted and sent between ranks.

    Args:
        ids: N utterance ids.

    Returns:
        Keys (N,). Two of 10 million ids collide with a probability of 3e-6; the table would notice.

    Raises:
        ValueError: If an id is no string.
    """
    if isinstance(ids, str):
        raise ValueError(f"ids: got the string {ids!r}, allowed is a list of strings. Write [{ids!r}] for one id.")
    try:
        # Python reads file names that are no UTF-8 with lone surrogates, which only "surrogatepass" encodes.
        encoded = (utterance_id.encode("utf-8", "surrogatepass") for utterance_id in ids)
        digests = b"".join(blake2b(name, digest_size=8).digest() for name in encoded)
    except AttributeError:
        wrong = next(utterance_id for utterance_id in ids if not isinstance(utterance_id, str))
        raise ValueError(
            f"ids: got {wrong!r} of type {type(wrong).__name__}, allowed are strings. Name utterances by str, "
            "everywhere in the same way: str(7) for number 7."
        ) from None
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def not_positive_and_finite(durations: Durations) -> NDArray[np.intp]:
    """Returns the places of the durations that are not positive and finite numbers, also as float32, the table's."""
    with np.errstate(over="ignore"):
        seconds = np.asarray(durations).astype(np.float32)
    return np.flatnonzero(~((seconds > 0) & np.isfinite(seconds)))


class ScoreTable:
    """The training losses of utterances, smoothed over the epochs in which each was trained on, and their ages.

    The columns are numpy arrays of 26 bytes per utterance together, so that 10 million utterances fit in 260 MB.

    Args:
        ids: N different utterance ids; more can come later.
        durations: Durations (N,) in seconds, all positive and finite.
        smoothing: Weight in [0, 1) of the older score in the moving average; 0 keeps the last loss alone.

    Attributes:
        durations: Seconds of each utterance (N,).
        scores: Smoothed loss per token of each utterance (N,); 0 before the first.
        last_seen: The epoch in which each utterance was last trained on (N,), or `NEVER`.
        times_seen: The number of epochs in which each utterance was trained on (N,), with a finite loss.
        total_seconds: The sum of the durations, before they are rounded to float32 for the table.

    Raises:
        ValueError: If ids repeat or are no strings, lengths differ, a duration is not positive and finite, or
            `smoothing` is out of range.

    Example:
        >>> table = ScoreTable(["a", "b"], [1.0, 2.0], smoothing=0.5)
        >>> table.update(table.positions(["b"]), np.array([4.0]), epoch=0)
        >>> table.update(table.positions(["b"]), np.array([2.0]), epoch=1)
        >>> table.scores.tolist(), table.last_seen.tolist()
        ([0.0, 3.0], [-1, 1])
    """

    def __init__(self, ids: Sequence[str], durations: Durations, smoothing: float = SMOOTHING) -> None:
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing: got {smoothing}, allowed is [0, 1).")
        self.smoothing = smoothing
        self.total_seconds = 0.0
        self._ascending_keys = np.empty(0, dtype=np.int64)
        self._rows_of_keys = np.empty(0, dtype=np.int32)
        self.durations = np.empty(0, dtype=np.float32)
        self.scores = np.empty(0, dtype=np.float32)
        self.last_seen = np.empty(0, dtype=np.int32)
        self.times_seen = np.empty(0, dtype=np.int16)
        self.extend(ids, durations)

    def extend(self, ids: Sequence[str], durations: Durations) -> None:
        """Adds utterances, which were never trained on, behind the others.

        Args:
            ids: Ids that are not in the table yet, all different.
            durations: Their durations in seconds, all positive and finite.

        Raises:
            ValueError: If ids repeat or are no strings, lengths differ, or a duration is not positive and finite.
        """
        if len(ids) != len(durations):
            raise ValueError(
                f"ids and durations: got {len(ids)} ids and {len(durations)} durations; each utterance needs both."
            )
        wrong = not_positive_and_finite(durations)
        if len(wrong):
            raise ValueError(
                f"durations: got {len(wrong)} that are not positive and finite; the first is {durations[wrong[0]]} s "
                f"of {ids[int(wrong[0])]!r}. Leave utterances without audio out before scoring."
            )
        keys = np.concatenate([self.keys, utterance_keys(ids)])
        rows = np.argsort(keys, kind="stable").astype(np.int32)
        ascending = keys[rows]
        repeated = np.flatnonzero(ascending[1:] == ascending[:-1])
        if len(repeated):
            later = int(rows[repeated[0] + 1])  # the sort is stable: the later of the two is a new one
            raise ValueError(
                f"ids: got {len(repeated)} that repeat; the first is {ids[later - len(self)]!r}. An id names one "
                "utterance."
            )
        self._ascending_keys, self._rows_of_keys = ascending, rows
        self.durations = np.concatenate([self.durations, np.asarray(durations, dtype=np.float32)])
        self.total_seconds += float(np.asarray(durations, dtype=np.float64).sum())
        self.scores = np.concatenate([self.scores, np.zeros(len(ids), dtype=np.float32)])
        self.last_seen = np.concatenate([self.last_seen, np.full(len(ids), NEVER, dtype=np.int32)])
        self.times_seen = np.concatenate([self.times_seen, np.zeros(len(ids), dtype=np.int16)])
        self._duration_edges: dict[int, NDArray[np.floating[Any]]] = {}

    def __len__(self) -> int:
        return len(self._ascending_keys)

    @property
    def keys(self) -> NDArray[np.int64]:
        """The 64-bit keys of the utterances in the order of the rows (N,)."""
        keys = np.empty_like(self._ascending_keys)
        keys[self._rows_of_keys] = self._ascending_keys
        return keys

    def positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Finds the rows of utterances.

        Args:
            ids: B utterance ids, each one of the table's.

        Returns:
            Row numbers (B,).

        Raises:
            ValueError: If an id is not in the table, or no string.
        """
        rows = self.find(ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise ValueError(
                f"{len(unknown)} of {len(ids)} ids are not in the score table of {len(self)} utterances; the first is "
                f"{ids[int(unknown[0])]!r}. Build the pruner from the ids of the data set that you train on."
            )
        return rows

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Returns the row numbers of utterances (B,); -1 for each that is not in the table."""
        keys = utterance_keys(ids)
        if len(self) == 0:
            return np.full(len(keys), -1, dtype=np.int64)
        # In ascending keys: with a `sorter` of 32 bits numpy would copy all of it for each call.
        slots = np.minimum(np.searchsorted(self._ascending_keys, keys), len(self) - 1)
        found = self._ascending_keys[slots] == keys
        return np.where(found, self._rows_of_keys[slots], -1).astype(np.int64)

    def seconds(self, rows: NDArray[np.int64]) -> float:
        """Returns the seconds of speech in some rows."""
        return float(self.durations[rows].sum(dtype=np.float64))

    def duration_edges(self, num_strata: int) -> NDArray[np.floating[Any]]:
        """Returns the longest duration of each of `num_strata` strata of about equal counts, ascending.

        There are fewer strata where many utterances are equally long, since these stay together.
        """
        if num_strata not in self._duration_edges:
            ranks = np.ceil(np.arange(1, num_strata + 1) * len(self) / num_strata).astype(np.int64) - 1
            self._duration_edges[num_strata] = np.unique(np.partition(self.durations, ranks)[ranks])
        return self._duration_edges[num_strata]

    def update(self, positions: NDArray[np.int64], losses: NDArray[np.floating[Any]], epoch: int) -> None:
        """Moves the scores of utterances towards their losses in `epoch`.

        Args:
            positions: Row numbers (B,), each at most once.
            losses: Finite losses per token (B,).
            epoch: The epoch in which the utterances were trained on.
        """
        keep_old = np.where(self.last_seen[positions] == NEVER, 0.0, self.smoothing)
        self.scores[positions] = keep_old * self.scores[positions] + (1.0 - keep_old) * losses
        self.last_seen[positions] = epoch
        self.times_seen[positions] += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs; a fingerprint stands for the ids, which the corpus has."""
        return {
            "version": _STATE_VERSION,
            "fingerprint": self.fingerprint(),
            "scores": torch.from_numpy(self.scores.copy()),
            "last_seen": torch.from_numpy(self.last_seen.copy()),
            "times_seen": torch.from_numpy(self.times_seen.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the scores of an earlier run on the same corpus.

        Raises:
            ValueError: If the state is of another version, or of other utterances.
        """
        if state["version"] != _STATE_VERSION:
            raise ValueError(f"Score table of version {state['version']}; this asrsparse reads {_STATE_VERSION}.")
        if state["fingerprint"] != self.fingerprint():
            raise ValueError(
                f"The saved scores are of another corpus: {len(state['scores'])} utterances with fingerprint "
                f"{state['fingerprint']}, here are {len(self)} with {self.fingerprint()}. Resume on the data set that "
                "the run began with, or start a new run."
            )
        self.scores = state["scores"].numpy().copy()
        self.last_seen = state["last_seen"].numpy().copy()
        if "times_seen" in state:  # older checkpoints lack it, and none of their policies reads it
            self.times_seen = state["times_seen"].numpy().copy()

    def columns(self) -> dict[str, torch.Tensor]:
        """Returns all columns of the table, for a run that has no list of its utterances."""
        names = ("keys", "durations", "scores", "last_seen", "times_seen")
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in names}

    @classmethod
    def of_columns(cls, columns: Mapping[str, torch.Tensor], smoothing: float) -> "ScoreTable":
        """Makes the table that `columns` was called on."""
        table = cls([], [], smoothing)
        for name in ("durations", "scores", "last_seen"):
            setattr(table, name, columns[name].numpy().copy())
        older = torch.zeros(len(table.scores), dtype=torch.int16)
        table.times_seen = columns.get("times_seen", older).numpy().copy()
        table.total_seconds = float(table.durations.sum(dtype=np.float64))
        table._rows_of_keys = np.argsort(columns["keys"].numpy(), kind="stable").astype(np.int32)
        table._ascending_keys = columns["keys"].numpy()[table._rows_of_keys]
        return table

    def fingerprint(self) -> str:
        """Returns a hash of the utterances and their order."""
        return blake2b(self.keys.tobytes(), digest_size=8).hexdigest()
