"""Kept set -> the batches of an epoch: lists of row numbers, planned from durations alone.

The plan is a pure function of (kept set, seed, epoch) and does not depend on the number of ranks, so that a position in
it is a number of batches: a resumed run goes on there, on as many ranks as it has now, and reads nothing twice. The
dynamic samplers of lhotse replay the manifest up to the position instead, and make other batches for other ranks.

Shape legend: K kept utterances, N all of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asrsparse.pruning import KeptSet

Rows = NDArray[np.int64]


class EpochSampler(torch.utils.data.Sampler[list[int]]):
    """The batches of one epoch for one rank, from a position on: lists of row numbers.

    Utterances of similar length share a batch, in random order. Every kept utterance comes once, on one rank, and all
    ranks make equally many steps: where the batches are no multiple of the ranks, the last ones are parted among them.

    Args:
        kept: The utterances of the epoch.
        batch_seconds: Seconds of audio in a batch, padding counted; an utterance that is longer is a batch alone.
        duration_bins: Bounds of the buckets in seconds (see `duration_bins`).
        seed: Seed of the order.
        epoch: The epoch, which varies the order.
        first_batch: Batches of this epoch, over all ranks, that were trained already.
        rank: This process.
        num_ranks: How many there are.

    Raises:
        ValueError: If `batch_seconds` is not positive, or fewer utterances are left than there are ranks.
    """

    def __init__(
        self,
        kept: KeptSet,
        batch_seconds: float,
        duration_bins: Sequence[float],
        seed: int,
        epoch: int,
        first_batch: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if batch_seconds <= 0:
            raise ValueError(f"trainer.batch_seconds: got {batch_seconds}, allowed is more than 0 seconds of audio.")
        rng = np.random.default_rng([seed, epoch, 0])
        batches = plan_batches(kept.positions, kept.table.durations, duration_bins, batch_seconds, rng)
        self._batches = deal(batches[first_batch:], num_ranks, kept.table.durations)[rank::num_ranks]

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self._batches)

    @property
    def num_batches(self) -> int:
        """How many batches are left for this rank. There is no `len`: Lightning would take it for the whole epoch's."""
        return len(self._batches)


def plan_batches(
    rows: Rows,
    durations: NDArray[np.floating],
    duration_bins: Sequence[float],
    batch_seconds: float,
    rng: np.random.Generator,
) -> list[Rows]:
    """Shuffles utterances, puts those of similar length together, and shuffles the batches.

    Args:
        rows: Row numbers of the kept utterances (K,).
        durations: Seconds of all utterances (N,).
        duration_bins: Ascending bounds of the buckets in seconds.
        batch_seconds: Seconds of audio in a batch, padding counted.
        rng: Draws the order.

    Returns:
        Batches of row numbers; together they are `rows`.
    """
    order = rng.permutation(rows)
    buckets = np.searchsorted(np.asarray(duration_bins), durations[order])
    order = order[np.argsort(buckets, kind="stable")]
    buckets.sort()
    begins = _begins(durations[order].tolist(), buckets.tolist(), batch_seconds)
    batches = np.split(order, begins)[1:]  # the first piece lies before the first beginning: it is empty
    return [batches[number] for number in rng.permutation(len(batches))]


def _begins(durations: list[float], buckets: list[int], batch_seconds: float) -> list[int]:
    """Where batches begin in utterances that are sorted by bucket. Plain numbers: ten times as fast as numpy's."""
    begins: list[int] = []
    size, longest, bucket_before = 0, 0.0, -1
    for number, (seconds, bucket) in enumerate(zip(durations, buckets, strict=True)):
        longest = max(longest, seconds)
        if bucket != bucket_before or (size + 1) * longest > batch_seconds:
            begins.append(number)
            size, longest, bucket_before = 0, seconds, bucket
        size += 1
    return begins


def deal(batches: list[Rows], num_ranks: int, durations: NDArray[np.floating]) -> list[Rows]:
    """Makes the number of batches a multiple of the ranks, by changing the last round alone.

    Args:
        batches: Batches of row numbers.
        num_ranks: How many processes share them.
        durations: Seconds of all utterances (N,).

    Returns:
        Batches with the same utterances. Those that are over are parted into one for each rank; or, if they have too
        few utterances for that, each joins a batch of the round before.

    Raises:
        ValueError: If there are fewer utterances than ranks.
    """
    num_over = len(batches) % num_ranks
    if num_over == 0:
        return batches
    rounds, over = batches[: len(batches) - num_over], batches[len(batches) - num_over :]
    utterances = np.concatenate(over)
    if len(utterances) >= num_ranks:
        return rounds + _part(over, num_ranks)
    if not rounds:
        raise ValueError(
            f"{len(utterances)} utterances are left in this epoch for {num_ranks} ranks; each needs one at least. "
            "Raise the keep ratio (pruning.keep_ratio), or train with fewer processes."
        )
    last = sorted(rounds[-num_ranks:], key=lambda batch: float(durations[batch].sum()))
    joined = [np.append(batch, utterance) for batch, utterance in zip(last, utterances, strict=False)]
    return rounds[:-num_ranks] + joined + last[len(joined) :]


def _part(batches: list[Rows], number: int) -> list[Rows]:
    """Halves the largest batch until there are enough."""
    parts = list(batches)
    while len(parts) < number:
        largest = max(range(len(parts)), key=lambda i: len(parts[i]))
        parts.extend(np.array_split(parts.pop(largest), 2))
    return parts


def duration_bins(durations: NDArray[np.floating], num_buckets: int) -> list[float]:
    """Bounds in seconds that part utterances into buckets of equal speech.

    They are taken from all utterances, not from an epoch's kept set: a resumed run must find the same bounds.

    Args:
        durations: Seconds of all utterances (N,).
        num_buckets: How many buckets.

    Returns:
        At most `num_buckets - 1` ascending bounds; fewer where durations repeat or there are fewer utterances.

    Example:
        >>> duration_bins(np.array([1.0, 1.0, 2.0, 4.0]), num_buckets=2)
        [2.0]
    """
    ascending = np.sort(durations)
    seconds = np.cumsum(ascending, dtype=np.float64)
    wanted = seconds[-1] * np.arange(1, num_buckets) / num_buckets
    bounds = ascending[np.minimum(np.searchsorted(seconds, wanted), len(ascending) - 1)]
    return [float(bound) for bound in np.unique(bounds)]
