"""The choice of the utterances that an epoch keeps: the plan, the choice itself, and its result.

Shape legend: N utterances of the corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.policies import Candidates, Policy, keep_ratio_at
from asrsparse.pruning.scores import NEVER, ScoreTable

NO_EPOCH_YET = (
    "kept: no epoch has begun, so that nothing is chosen yet. Call start_epoch(epoch) at the beginning of each epoch, "
    "on every rank, before a sampler or loader is made."
)
"""The error of a pruner whose kept set is read before any epoch has begun."""


@dataclass(frozen=True)
class KeptSet:
    """The utterances that one epoch keeps; it is frozen, so that samplers may read it before training does.

    Attributes:
        table: The score table, which has a row for each utterance.
        kept: True for each utterance that is kept (N,).
        weights: The factors on the losses of the kept utterances (N,); None if all are 1.
    """

    table: ScoreTable
    kept: NDArray[np.bool_]
    weights: NDArray[np.float32] | None = None

    def __contains__(self, utterance_id: str) -> bool:
        return bool(self.kept[self.table.positions([utterance_id])[0]])

    def __len__(self) -> int:
        return int(self.kept.sum())

    @property
    def positions(self) -> NDArray[np.int64]:
        """The row numbers of the kept utterances, ascending, with which a map-style data set is sampled."""
        return np.flatnonzero(self.kept)

    @property
    def seconds(self) -> float:
        """The kept speech in seconds."""
        if self.kept.all():
            return self._seconds_of_all  # exact, so that schedules of a training on all data are
        return self.table.seconds(self.positions)

    @property
    def share(self) -> float:
        """The share of the speech in seconds that is kept, in [0, 1]."""
        return self.seconds / self._seconds_of_all

    @property
    def _seconds_of_all(self) -> float:
        """The seconds of the N utterances; the table of a stream may have grown since they were chosen among."""
        if len(self.table) == len(self.kept):
            return self.table.total_seconds
        return float(self.table.durations[: len(self.kept)].sum(dtype=np.float64))


@dataclass(frozen=True)
class PruningPlan:
    """When and among what a policy chooses; the choice itself is the policy's.

    Args:
        num_epochs: Epochs of the training.
        warmup_epochs: First epochs on all data, so that scores exist; only policies that need scores have them.
        final_epochs: Last epochs on all data (InfoBatch, arXiv 2303.04947, ends with 12.5 % of them).
        num_strata: Strata of duration in which the policy chooses separately, so that the distribution of lengths
            stays; 1 makes no strata.
        max_age: Epochs without training on an utterance after which the next choice keeps it whatever its score; None
            never forces an utterance.
        cycle_epochs: Epochs for which a choice is used before the next is made.

    Raises:
        ValueError: If a number is out of range.
    """

    num_epochs: int
    warmup_epochs: int = 2
    final_epochs: int = 2
    num_strata: int = 10
    max_age: int | None = None
    cycle_epochs: int = 1

    def __post_init__(self) -> None:
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs: got {self.num_epochs}, allowed is at least 1.")
        if min(self.warmup_epochs, self.final_epochs) < 0:
            raise ValueError(
                f"warmup_epochs and final_epochs: got {self.warmup_epochs} and {self.final_epochs}, "
                "allowed is at least 0."
            )
        if self.num_strata < 1:
            raise ValueError(f"num_strata: got {self.num_strata}, allowed is at least 1 (1 is off).")
        if self.max_age is not None and self.max_age < 1:
            raise ValueError(f"max_age: got {self.max_age}, allowed is null (None) or at least 1 epoch.")
        if self.cycle_epochs < 1:
            raise ValueError(f"cycle_epochs: got {self.cycle_epochs}, allowed is at least 1.")
        if self.max_age is not None and self.max_age < self.cycle_epochs:
            raise ValueError(
                f"max_age: got {self.max_age} with cycle_epochs={self.cycle_epochs}; allowed is at least as "
                "many epochs as a choice stands."
            )

    def first_pruned(self, policy: Policy) -> int:
        """Returns the first epoch that is not on all data."""
        return self.warmup_epochs if policy.needs_scores else 0

    def prunes(self, policy: Policy, epoch: int) -> bool:
        """Returns whether `epoch` lies between the first and the final epochs on all data."""
        return self.first_pruned(policy) <= epoch < self.num_epochs - self.final_epochs

    def begins_cycle(self, policy: Policy, epoch: int) -> bool:
        """Returns whether a new choice is made for `epoch`, instead of using the last one again."""
        return not self.prunes(policy, epoch) or (epoch - self.first_pruned(policy)) % self.cycle_epochs == 0

    def progress(self, policy: Policy, epoch: int) -> float:
        """Returns how far the pruned epochs have come in `epoch`: 0 in the first, 1 in the last."""
        last = self.num_epochs - self.final_epochs - 1
        first = self.first_pruned(policy)
        return (epoch - first) / (last - first) if last > first else 1.0


def select(table: ScoreTable, policy: Policy, plan: PruningPlan, epoch: int, seed: int) -> KeptSet:
    """Chooses the utterances of an epoch; the choice is a pure function of the arguments.

    Utterances that were never trained on, and those older than `max_age`, are kept first. The policy chooses within
    what is left of the budget, separately in each stratum of duration. Utterances are whole, so that a stratum keeps a
    little more or less than its budget; the next stratum makes up for it.

    Args:
        table: The scores, durations and ages of the N utterances.
        policy: Which part to keep.
        plan: When and among what the policy chooses.
        epoch: The number of the epoch, counted from 0.
        seed: Seed of the generator, which also depends on the epoch.

    Returns:
        The kept set of the epoch.

    Raises:
        ValueError: If the policy keeps nothing, or its keep ratio leaves (0, 1].
    """
    if not plan.prunes(policy, epoch):
        return KeptSet(table, np.ones(len(table), dtype=np.bool_))
    progress = plan.progress(policy, epoch)
    keep_ratio = keep_ratio_at(policy, progress)
    rng = np.random.default_rng([seed, epoch])
    forced = _forced(table, policy, plan, epoch)
    weights = forced.astype(np.float32)
    carried = 0.0
    for stratum in strata_of_duration(table.durations, table.duration_edges(plan.num_strata)):
        free = stratum[~forced[stratum]]
        wanted = keep_ratio * table.seconds(stratum) - table.seconds(stratum[forced[stratum]]) + carried
        budget, carried = min(wanted, table.seconds(free)), 0.0
        if budget > 0.0:
            ages = epoch - table.last_seen[free]
            among = Candidates(table.scores[free], table.durations[free], ages, budget, progress, rng)
            weights[free] = policy.select(among)
            carried = wanted - table.seconds(free[weights[free] > 0.0])
    return _kept_set(table, weights, f"{type(policy).__name__}(keep_ratio={keep_ratio:g}) in epoch {epoch}")


def _kept_set(table: ScoreTable, weights: NDArray[np.float32], what: str) -> KeptSet:
    kept = weights > 0.0
    if not kept.any():
        raise ValueError(
            f"{what} keeps none of {len(table)} utterances ({table.total_seconds / 3600:.2f} h). An "
            "epoch needs at least one: raise the keep ratio, or use fewer strata (num_strata of the plan)."
        )
    return KeptSet(table, kept, weights if (kept != weights).any() else None)


def _forced(table: ScoreTable, policy: Policy, plan: PruningPlan, epoch: int) -> NDArray[np.bool_]:
    """Returns True for the utterances that this epoch must keep (N,)."""
    never_seen = (table.last_seen == NEVER) & policy.needs_scores
    oldest_allowed = NEVER if plan.max_age is None else epoch - plan.max_age
    forced: NDArray[np.bool_] = never_seen | (table.last_seen < oldest_allowed)
    return forced


def strata_of_duration(
    durations: NDArray[np.floating[Any]], edges: NDArray[np.floating[Any]]
) -> Iterator[NDArray[np.int64]]:
    """Divides utterances by duration: each is in exactly one stratum, and equally long ones are in the same.

    Args:
        durations: Seconds (N,).
        edges: The longest duration of each stratum, ascending; the last one is the longest of all.

    Yields:
        The row numbers of a stratum, ascending.

    Example:
        >>> [s.tolist() for s in strata_of_duration(np.array([5.0, 1.0, 3.0, 2.0]), np.array([2.0, 5.0]))]
        [[1, 3], [0, 2]]
    """
    shortest = -np.inf
    for longest in edges:
        yield np.flatnonzero((durations > shortest) & (durations <= longest))
        shortest = longest
