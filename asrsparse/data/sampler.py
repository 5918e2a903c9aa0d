"""The batches of an epoch, planned from the kept set: lists of row numbers, made from durations alone.

The plan is a pure function of (kept set, seed, epoch) and does not depend on the number of ranks. So a position in it
is a number of batches: a resumed run continues there, on as many ranks as it has now, and reads nothing twice. The
dynamic samplers of lhotse instead replay the manifest up to the position, and make other batches for other ranks.

Shape legend: N utterances of the corpus, K of them kept.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asrsparse.pruning import KeptSet

Rows = NDArray[np.int64]


class EpochSampler(torch.utils.data.Sampler[list[int]]):
    """Yields the batches of one epoch for one rank, from a position on, as lists of row numbers.

    Utterances of similar length share a batch, in random order. Every kept utterance comes once, on one rank, and all
    ranks make equally many steps: see `balance_over_ranks`.

    Args:
        kept: The utterances of the epoch.
        batch_seconds: Seconds of audio in a batch, where padding counts; a longer utterance is a batch alone.
        duration_bins: Bounds of the buckets in seconds (see `duration_bins`).
        seed: Seed of the order.
        epoch: The number of the epoch, on which the order depends, too.
        first_batch: Batches of this epoch, over all ranks, that were trained on already.
        rank: The number of this process, from 0.
        num_ranks: The number of processes that train together.

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
            raise ValueError(f"batch_seconds: got {batch_seconds}, allowed is more than 0 seconds of audio.")
        rng = np.random.default_rng([seed, epoch, 0])
        batches = plan_batches(kept.positions, kept.table.durations, duration_bins, batch_seconds, rng)
        self._batches = balance_over_ranks(batches[first_batch:], num_ranks, kept.table.durations)[rank::num_ranks]

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self._batches)

    @property
    def num_batches(self) -> int:
        """The number of batches that are left for this rank.

        There is no `len`, since Lightning would take it for the length of the whole epoch.
        """
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
        batch_seconds: Seconds of audio in a batch, where padding counts.
        rng: The generator that draws the order.

    Returns:
        Batches of row numbers, which together are `rows`.
    """
    order = rng.permutation(rows)
    buckets = np.searchsorted(np.asarray(duration_bins), durations[order])
    order = order[np.argsort(buckets, kind="stable")]
    buckets.sort()
    begins = _begins(durations[order].tolist(), buckets.tolist(), batch_seconds)
    batches = np.split(order, begins)[1:]  # the first piece lies before the first beginning: it is empty
    return [batches[number] for number in rng.permutation(len(batches))]


def _begins(durations: list[float], buckets: list[int], batch_seconds: float) -> list[int]:
    """Returns where batches begin among utterances that are sorted by bucket.

    Plain numbers are ten times as fast here as those of numpy.
    """
    begins: list[int] = []
    size, longest, bucket_before = 0, 0.0, -1
    for number, (seconds, bucket) in enumerate(zip(durations, buckets, strict=True)):
        longest = max(longest, seconds)
        if bucket != bucket_before or (size + 1) * longest > batch_seconds:
            begins.append(number)
            size, longest, bucket_before = 0, seconds, bucket
        size += 1
    return begins


def balance_over_ranks(batches: list[Rows], num_ranks: int, durations: NDArray[np.floating]) -> list[Rows]:
    """Makes the number of batches a multiple of the number of ranks, by changing the last batches only.

    Args:
        batches: Batches of row numbers.
        num_ranks: The number of processes that share them.
        durations: Seconds of all utterances (N,).

    Returns:
        Batches with the same utterances. The batches behind the last multiple are divided into one for each rank. If
        they have too few utterances for that, each of these joins one of the `num_ranks` batches before.

    Raises:
        ValueError: If there are fewer utterances than ranks.
    """
    num_over = len(batches) % num_ranks
    if num_over == 0:
        return batches
    rounds, over = batches[: len(batches) - num_over], batches[len(batches) - num_over :]
    utterances = np.concatenate(over)
    if len(utterances) >= num_ranks:
        return rounds + _divide(over, num_ranks)
    if not rounds:
        raise ValueError(
            f"{len(utterances)} utterances are left in this epoch for {num_ranks} ranks; each needs one at least. "
            "Raise the keep ratio (pruning.keep_ratio), or train with fewer processes."
        )
    last = sorted(rounds[-num_ranks:], key=lambda batch: float(durations[batch].sum()))
    joined = [np.append(batch, utterance) for batch, utterance in zip(last, utterances, strict=False)]
    return rounds[:-num_ranks] + joined + last[len(joined) :]


def _divide(batches: list[Rows], number: int) -> list[Rows]:
    """Halves the largest batch until there are `number` batches."""
    parts = list(batches)
    while len(parts) < number:
        largest = max(range(len(parts)), key=lambda i: len(parts[i]))
        parts.extend(np.array_split(parts.pop(largest), 2))
    return parts


def duration_bins(durations: NDArray[np.floating], num_buckets: int) -> list[float]:
    """Computes the bounds in seconds that divide utterances into buckets with equal amounts of speech.

    They are computed from all utterances, not from the kept set of an epoch, since a resumed run must find the same
    bounds.

    Args:
        durations: Seconds of all utterances (N,).
        num_buckets: The number of buckets.

    Returns:
        At most `num_buckets - 1` ascending bounds; fewer if durations repeat or there are fewer utterances.

    Example:
        >>> duration_bins(np.array([1.0, 1.0, 2.0, 4.0]), num_buckets=2)
        [2.0]
    """
    ascending = np.sort(durations)
    seconds = np.cumsum(ascending, dtype=np.float64)
    wanted = seconds[-1] * np.arange(1, num_buckets) / num_buckets
    bounds = ascending[np.minimum(np.searchsorted(seconds, wanted), len(ascending) - 1)]
    return [float(bound) for bound in np.unique(bounds)]
