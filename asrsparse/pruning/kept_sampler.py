"""The kept set as a sampler of a map-style data set."""

from collections.abc import Iterator

import numpy as np
import torch

from asrsparse.pruning.utterance import DynamicPruner


class KeptSampler(torch.utils.data.Sampler[int]):
    """Yields the row numbers of the utterances that the current epoch keeps, shuffled, each on one rank only.

    It takes the place of `RandomSampler` and `DistributedSampler`. The current epoch is the pruner's: it is begun by
    `pruner.start_epoch`, or by `set_epoch`, which Lightning and others call. All ranks get equally many utterances, so
    that no rank waits for another: where the size of the kept set is no multiple of the number of ranks, the rest at
    the end of the shuffled order is left out in this epoch.

    Args:
        pruner: Chooses the utterances; its rows are in the order of the data set.
        seed: Seed of the order, which also depends on the epoch.
        rank: The number of this process, from 0.
        num_ranks: The number of processes that train together.

    Raises:
        ValueError: If `rank` is out of range; on reading, if the epoch keeps fewer utterances than there are ranks.
        RuntimeError: On reading, if no epoch has begun.

    Example:
        >>> pruner = DynamicPruner(["a", "b", "c"], [1.0, 1.0, 1.0])
        >>> sampler = KeptSampler(pruner)
        >>> sampler.set_epoch(0)
        >>> sorted(sampler)
        [0, 1, 2]
    """

    def __init__(self, pruner: DynamicPruner, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank: got {rank}, allowed is [0, {num_ranks - 1}] with num_ranks={num_ranks}.")
        self.pruner = pruner
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch of the pruner, if it has not begun; with several processes every rank calls it."""
        self.pruner.start_epoch(epoch)

    def __len__(self) -> int:
        kept = len(self.pruner.kept)
        if kept < self.num_ranks:
            raise ValueError(
                f"Epoch {self.pruner.epoch} keeps {kept} utterances for {self.num_ranks} ranks; each needs one at "
                "least. Raise the keep ratio, or train with fewer processes."
            )
        return kept // self.num_ranks

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.pruner.epoch]).permutation(self.pruner.kept.positions)
        return iter(order[self.rank :: self.num_ranks][: KeptSampler.__len__(self)].tolist())
