"""The kept set as a sampler of a map-style data set."""

from collections.abc import Iterator

import numpy as np
import torch

from asrsparse.pruning.utterance import DynamicPruner


class KeptSampler(torch.utils.data.Sampler[int]):
    """Row numbers of the utterances that the pruner keeps in an epoch, shuffled, each for one rank alone.

    Takes the place of `RandomSampler` and `DistributedSampler`; like the latter it wants `set_epoch` before each epoch
    (Lightning calls it). All ranks get equally many, so that none waits for another: where the kept set is no multiple
    of their number, the few that are over at the end of the shuffled order sit this epoch out.

    Args:
        pruner: Chooses; its rows are in the order of the data set.
        seed: Seed of the order, which also depends on the epoch.
        rank: This process.
        num_ranks: How many there are.

    Raises:
        ValueError: If the rank is out of range, or an epoch keeps fewer utterances than there are ranks.

    Example:
        >>> pruner = DynamicPruner(["a", "b", "c"], [1.0, 1.0, 1.0])
        >>> sorted(KeptSampler(pruner))
        [0, 1, 2]
    """

    def __init__(self, pruner: DynamicPruner, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank: got {rank}, allowed is [0, {num_ranks - 1}] with num_ranks={num_ranks}.")
        self.pruner = pruner
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is sampled next."""
        self.epoch = epoch

    def __len__(self) -> int:
        kept = len(self.pruner.start_epoch(self.epoch))
        if kept < self.num_ranks:
            raise ValueError(
                f"Epoch {self.epoch} keeps {kept} utterances for {self.num_ranks} ranks; each needs one at least. "
                "Raise the keep ratio, or train with fewer processes."
            )
        return kept // self.num_ranks

    def __iter__(self) -> Iterator[int]:
        rows = self.pruner.start_epoch(self.epoch).positions
        order = np.random.default_rng([self.seed, self.epoch]).permutation(rows)
        return iter(order[self.rank :: self.num_ranks][: len(self)].tolist())
