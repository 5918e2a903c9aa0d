"""The choice of the utterances that an epoch keeps: the plan, the choice itself, and its result.

Shape legend: N utterances of the corpus.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrsparse.pruning.draws import Draw, decide_most, decide_rest
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
    little more or less than its budget; the next stratum makes up for it. So the budget is met to within the longest
    utterance, unless those that are kept first take more. The only utterance of a corpus is kept.

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
    if not plan.prunes(policy, epoch) or len(table) == 1:
        return KeptSet(table, np.ones(len(table), dtype=np.bool_))
    progress = plan.progress(policy, epoch)
    keep_ratio = keep_ratio_at(policy, progress)
    rng = np.random.default_rng([seed, epoch])
    forced = _forced(table, policy, plan, epoch)
    shares, weights = forced.astype(np.float64), forced.astype(np.float32)
    carried = 0.0
    strata = list(strata_of_duration(table.durations, table.duration_edges(plan.num_strata)))
    for stratum, left in zip(strata, _budgets(table, strata, forced, keep_ratio), strict=True):
        free = stratum[~forced[stratum]]
        wanted = left + carried
        budget, carried = min(wanted, table.seconds(free)), wanted
        if budget > 0.0:
            ages = epoch - table.last_seen[free]
            columns = (table.scores[free], table.durations[free], ages)
            chosen = policy.select(Candidates(*columns, budget, progress, rng, epoch, table.times_seen[free]))
            shares[free], weights[free] = _decide_most(chosen, table.durations[free], rng)
            carried = wanted - float(shares[free] @ table.durations[free])
    kept = _decided(shares, table.durations, rng)
    return _kept_set(table, kept, weights, f"{type(policy).__name__}(keep_ratio={keep_ratio:g}) in epoch {epoch}")


def _budgets(
    table: ScoreTable, strata: Sequence[NDArray[np.int64]], forced: NDArray[np.bool_], keep_ratio: float
) -> NDArray[np.float64]:
    """Returns the seconds that are left for the policy in each stratum.

    Where the forced utterances of a stratum take more than its budget, the other strata make up for it.
    """
    left = np.array([keep_ratio * table.seconds(rows) - table.seconds(rows[forced[rows]]) for rows in strata])
    positive: NDArray[np.float64] = np.maximum(left, 0.0)
    if (left < 0.0).any() and positive.any():
        positive *= max(0.0, float(left.sum())) / float(positive.sum())
    return positive


def _decide_most(
    chosen: NDArray[Any] | Draw, durations: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the shares with which a policy's choice keeps utterances, most of them 0 or 1, and their weights."""
    if isinstance(chosen, Draw):
        return decide_most(chosen.probabilities, durations, rng), chosen.loss_weights
    return chosen > 0.0, chosen


def _decided(
    shares: NDArray[np.float64], durations: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Returns True for what is kept (N,), with the few utterances that a draw left undecided."""
    kept: NDArray[np.bool_] = shares == 1.0
    undecided = np.flatnonzero((shares > 0.0) & ~kept)
    kept[undecided] = decide_rest(shares[undecided], durations[undecided], rng)
    return kept


def _kept_set(table: ScoreTable, kept: NDArray[np.bool_], weights: NDArray[np.float32], what: str) -> KeptSet:
    if not kept.any():
        raise ValueError(
            f"{what} keeps none of {len(table)} utterances ({table.total_seconds / 3600:.2f} h). An "
            "epoch needs at least one: raise the keep ratio, or use fewer strata (num_strata of the plan)."
        )
    weights[~kept] = 0.0
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
