"""Lazy cuts | kept set -> batches of cuts, by lhotse's bucketing sampler.

The kept set filters the cuts *before* the sampler: a filter inside lhotse's dynamic samplers counts every dropped cut
as a batch and so breaks the position in an epoch. A sampler serves one epoch and is thrown away: its order is a pure
function of (cuts, kept set, seed, epoch), so that a position is a number of batches.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets

from asrsparse.pruning import KeptSet


class EpochSampler(torch.utils.data.Sampler[CutSet]):
    """The batches of one epoch, from the position `first_batch` on.

    Batches before that position are drawn from the manifest but not decoded.

    Args:
        cuts: All cuts of the split, lazily read.
        batch_seconds: Seconds of audio in a batch, padding counted.
        duration_bins: Bounds of the buckets in seconds (see `duration_bins`).
        kept: The utterances of the epoch.
        seed: Seed of the order.
        epoch: The epoch, which varies the order.
        first_batch: Batches of this epoch, on each rank, that were trained already.
    """

    def __init__(
        self,
        cuts: CutSet,
        batch_seconds: float,
        duration_bins: list[float],
        kept: KeptSet,
        seed: int,
        epoch: int,
        first_batch: int = 0,
    ) -> None:
        if batch_seconds <= 0:
            raise ValueError(f"trainer.batch_seconds: got {batch_seconds}, allowed is more than 0 seconds of audio.")
        self.first_batch = first_batch
        self._batches = DynamicBucketingSampler(
            cuts.filter(_IsKept(kept)),
            max_duration=batch_seconds,
            num_buckets=None,
            duration_bins=duration_bins,
            shuffle=True,
            seed=seed,
        )
        self._batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[CutSet]:
        return islice(iter(self._batches), self.first_batch, None)


class _IsKept:
    """The kept set as a predicate on cuts; a class, so that worker processes can receive it."""

    def __init__(self, kept: KeptSet) -> None:
        self.kept = kept

    def __call__(self, cut: Cut) -> bool:
        return cut.id in self.kept


def duration_bins(cuts: CutSet, num_buckets: int) -> list[float]:
    """Bounds in seconds that part the cuts into buckets of equal speech.

    They are taken from all cuts, not from an epoch's kept set: a resumed run must find the same bounds.

    Returns:
        At most `num_buckets - 1` ascending bounds; fewer where durations repeat or there are fewer cuts.
    """
    num_buckets = min(num_buckets, sum(1 for _ in cuts))
    if num_buckets < 2:
        return []
    return sorted(set(estimate_duration_buckets(cuts, num_buckets)))
