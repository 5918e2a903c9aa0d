"""Utterance pruning: which utterances an epoch trains on.

Shape legend: N utterances of the corpus, B utterances of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrsparse.pruning.audit import Audit
from asrsparse.pruning.policies import Candidates, KeepAll, Policy, keep_ratio_at
from asrsparse.pruning.ranks import gather, rank
from asrsparse.pruning.scores import NEVER, Durations, ScoreTable


@dataclass(frozen=True)
class KeptSet:
    """The utterances that one epoch keeps; frozen, so that samplers may ask it ahead of training.

    Attributes:
        table: The score table, whose rows `kept` speaks of.
        kept: True for what is kept (N,).
        weights: What the losses of the kept are multiplied with (N,); None where all weigh 1.
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
        """Row numbers of the kept utterances, ascending: what a map-style data set is sampled by."""
        return np.flatnonzero(self.kept)

    @property
    def seconds(self) -> float:
        """Seconds of speech that are kept."""
        if self.kept.all():
            return self.table.total_seconds  # exact, so that schedules of a training on all data are
        return float(self.table.durations[self.kept].sum(dtype=np.float64))

    @property
    def share(self) -> float:
        """The share of the speech that is kept, in seconds, in [0, 1]."""
        return self.seconds / self.table.total_seconds


@dataclass(frozen=True)
class PruningPlan:
    """When and among what a policy chooses; the choice itself is the policy's.

    Args:
        num_epochs: Epochs of the training.
        warmup_epochs: First epochs on all data, so that scores exist (only for policies that need scores).
        final_epochs: Last epochs on all data (InfoBatch, arXiv 2303.04947, ends with 12.5 % of them).
        num_strata: Strata of duration in which the policy chooses apart, so that the length distribution stays; 1: off.
        max_age: Epochs after which an unseen utterance is kept whatever its score, when the next choice is made; None
            never forces one.
        cycle_epochs: Epochs for which a choice stands before the next is made.

    Raises:
        ValueError: If a number is out of range.
    """

    num_epochs: int
    warmup_epochs: int = 1
    final_epochs: int = 0
    num_strata: int = 10
    max_age: int | None = None
    cycle_epochs: int = 1

    def __post_init__(self) -> None:
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs: got {self.num_epochs}, allowed is at least 1.")
        if min(self.warmup_epochs, self.final_epochs) < 0:
            raise ValueError(
                f"pruning.warmup_epochs and final_epochs: got {self.warmup_epochs} and {self.final_epochs}, "
                "allowed is at least 0."
            )
        if self.num_strata < 1:
            raise ValueError(f"pruning.num_strata: got {self.num_strata}, allowed is at least 1 (1 is off).")
        if self.max_age is not None and self.max_age < 1:
            raise ValueError(f"pruning.max_age: got {self.max_age}, allowed is null or at least 1 epoch.")
        if self.cycle_epochs < 1:
            raise ValueError(f"pruning.cycle_epochs: got {self.cycle_epochs}, allowed is at least 1.")
        if self.max_age is not None and self.max_age < self.cycle_epochs:
            raise ValueError(
                f"pruning.max_age: got {self.max_age} with cycle_epochs={self.cycle_epochs}; allowed is at least as "
                "many epochs as a choice stands."
            )

    def first_pruned(self, policy: Policy) -> int:
        """The first epoch that is not on all data."""
        return self.warmup_epochs if policy.needs_scores else 0

    def prunes(self, policy: Policy, epoch: int) -> bool:
        """Whether `epoch` lies between the first and the final epochs on all data."""
        return self.first_pruned(policy) <= epoch < self.num_epochs - self.final_epochs

    def begins_cycle(self, policy: Policy, epoch: int) -> bool:
        """Whether a choice is made for `epoch`, rather than the last one kept."""
        return not self.prunes(policy, epoch) or (epoch - self.first_pruned(policy)) % self.cycle_epochs == 0

    def progress(self, policy: Policy, epoch: int) -> float:
        """How far the pruned epochs have come in `epoch`: 0 in the first, 1 in the last."""
        last = self.num_epochs - self.final_epochs - 1
        first = self.first_pruned(policy)
        return (epoch - first) / (last - first) if last > first else 1.0


def select(table: ScoreTable, policy: Policy, plan: PruningPlan, epoch: int, seed: int) -> KeptSet:
    """Chooses the utterances of an epoch: a pure function of its arguments.

    Utterances that the model never saw, and those older than `max_age`, come first; the policy shares out what is left
    of the budget, in each stratum of duration apart. What a stratum keeps too much or too little, since utterances are
    whole, the next one makes up for.

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
            "epoch needs at least one: raise the keep ratio, or use fewer strata (pruning.plan.num_strata)."
        )
    return KeptSet(table, kept, weights if (kept != weights).any() else None)


def _forced(table: ScoreTable, policy: Policy, plan: PruningPlan, epoch: int) -> NDArray[np.bool_]:
    """True for the utterances that this epoch must keep (N,)."""
    never_seen = (table.last_seen == NEVER) & policy.needs_scores
    oldest_allowed = NEVER if plan.max_age is None else epoch - plan.max_age
    forced: NDArray[np.bool_] = never_seen | (table.last_seen < oldest_allowed)
    return forced


def strata_of_duration(
    durations: NDArray[np.floating[Any]], edges: NDArray[np.floating[Any]]
) -> Iterator[NDArray[np.int64]]:
    """Parts utterances by duration; every utterance is in exactly one stratum, the equally long in the same.

    Args:
        durations: Seconds (N,).
        edges: The longest duration of each stratum, ascending; the last one is the longest of all.

    Yields:
        Row numbers of a stratum, ascending.

    Example:
        >>> [s.tolist() for s in strata_of_duration(np.array([5.0, 1.0, 3.0, 2.0]), np.array([2.0, 5.0]))]
        [[1, 3], [0, 2]]
    """
    shortest = -np.inf
    for longest in edges:
        yield np.flatnonzero((durations > shortest) & (durations <= longest))
        shortest = longest


class DynamicPruner:
    """Decides before each epoch which utterances to train on, by the losses that training itself reports.

    Args:
        ids: N different utterance ids.
        durations: Durations (N,) in seconds.
        policy: Which part to keep; `KeepAll()` is the baseline.
        plan: When and among what the policy chooses.
        seed: Seed of the policy's own generators.
        smoothing: Weight of the older score in the moving average, in [0, 1).
        max_not_finite: The share of an epoch's losses that may be NaN or infinite before the run is stopped.

    Attributes:
        num_not_finite: How many losses were NaN or infinite so far.
        audit: Whether the last epoch that ended saw each kept utterance once; None before.

    Example:
        >>> from asrsparse.pruning import EasyToHard
        >>> plan = PruningPlan(num_epochs=3, num_strata=1)
        >>> pruner = DynamicPruner(["a", "b", "c"], [1.0, 1.0, 1.0], EasyToHard(keep_ratio=0.67), plan)
        >>> kept = pruner.start_epoch(0)
        >>> len(kept)
        3
        >>> loss = pruner.observe(["a", "b", "c"], torch.tensor([3.0, 1.0, 2.0]))
        >>> round(loss.item(), 6)
        2.0
        >>> kept = pruner.start_epoch(1)
        >>> [i for i in "abc" if i in kept]
        ['b', 'c']
    """

    def __init__(
        self,
        ids: Sequence[str],
        durations: Durations,
        policy: Policy | None = None,
        plan: PruningPlan | None = None,
        seed: int = 0,
        smoothing: float = 0.5,
        max_not_finite: float = 0.05,
    ) -> None:
        if len(ids) == 0:
            raise ValueError("Got no utterances to choose among; a pruner needs at least one id.")
        self.table = ScoreTable(ids, durations, smoothing)
        self.policy = policy if policy is not None else KeepAll()
        self.plan = plan if plan is not None else PruningPlan(num_epochs=1)
        self.seed = seed
        self.max_not_finite = max_not_finite
        self.num_not_finite = 0
        self.audit: Audit | None = None
        self._epoch = NEVER
        self._kept: KeptSet | None = None
        self._observed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def start_epoch(self, epoch: int) -> KeptSet:
        """Takes the observed losses into the scores, then chooses the utterances of `epoch`.

        With several processes every rank calls it, since the losses are gathered here; all get the same set. Within the
        epoch, also after a resume, the set stays as it is: calling again returns it.
        """
        if self._kept is None or epoch != self._epoch:
            self.end_epoch()
            self._epoch = epoch
            if self._kept is None or self.plan.begins_cycle(self.policy, epoch):
                self._kept = select(self.table, self.policy, self.plan, epoch, self.seed)
        return self._kept

    def observe(self, ids: Sequence[str], losses: torch.Tensor) -> torch.Tensor:
        """Records the losses of a batch as scores and returns their weighted mean, to call `backward` on.

        Args:
            ids: B ids of the batch.
            losses: Loss per token of each utterance (B,), in any float type, with its graph.

        Returns:
            The mean of the losses, each times its weight, 0-d.
        """
        rows = self.table.positions(ids)
        self._observed.append((torch.from_numpy(rows), losses.detach().float().cpu()))
        if self._kept is None or self._kept.weights is None:
            return losses.mean()
        return (losses * torch.from_numpy(self._kept.weights[rows]).to(losses)).mean()

    def end_epoch(self) -> None:
        """Moves the observed losses of all ranks into the score table. Called by `start_epoch`; harmless to repeat.

        Losses that are NaN or infinite do not become scores: their utterances keep what they had.

        Raises:
            ValueError: If more than `max_not_finite` of them are.
        """
        positions, losses = self._observed_by_all()
        if len(positions) == 0:
            return
        kept = np.ones(len(self.table), dtype=np.bool_) if self._kept is None else self._kept.kept
        self.audit = Audit.of(self.table, kept, positions.numpy())
        finite = torch.isfinite(losses)
        self._count_not_finite(positions[~finite].numpy(), len(losses))
        # A rank that had to borrow an utterance to fill its last batch repeats it: the last loss counts.
        self.table.update(positions[finite].numpy(), losses[finite].numpy(), self._epoch)
        self._observed = []

    def _count_not_finite(self, positions: NDArray[np.int64], num_losses: int) -> None:
        self.num_not_finite += len(positions)
        if len(positions) > self.max_not_finite * num_losses:
            raise ValueError(
                f"{len(positions)} of {num_losses} losses in epoch {self._epoch} are NaN or infinite, first that of "
                f"utterance number {positions[0]}; allowed are {self.max_not_finite:.0%}. The model diverges or its "
                "input is damaged: lower the learning rate, or look at those utterances."
            )

    def _observed_by_all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What all ranks observed since the epoch began, in the order of ranks: row numbers and losses."""
        observed = [pair for of_rank in gather(self._observed) for pair in of_rank]
        positions = torch.cat([torch.empty(0, dtype=torch.int64), *(p for p, _ in observed)])
        losses = torch.cat([torch.empty(0), *(v for _, v in observed)])
        return positions, losses

    def planned_seconds(self, after_epoch: int) -> float:
        """Seconds of speech that the epochs after `after_epoch` are expected to keep, for schedules."""
        epochs = range(after_epoch + 1, self.plan.num_epochs)
        return sum(self.table.total_seconds * self._planned_share(epoch) for epoch in epochs)

    def _planned_share(self, epoch: int) -> float:
        if not self.plan.prunes(self.policy, epoch):
            return 1.0
        # Within a cycle the choice of its first epoch stands.
        first = self.plan.first_pruned(self.policy)
        chosen_in = epoch - (epoch - first) % self.plan.cycle_epochs
        return keep_ratio_at(self.policy, self.plan.progress(self.policy, chosen_in))

    def state_dict(self) -> dict[str, Any]:
        """Scores, the kept set, and what all ranks observed since the epoch began: tensors and plain numbers only.

        With several processes every rank calls it.
        """
        kept = self._kept.kept if self._kept is not None else np.empty(0, dtype=np.bool_)
        weights = None if self._kept is None else self._kept.weights
        positions, losses = self._observed_by_all()
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "table": self.table.state_dict(),
            "kept": torch.from_numpy(np.packbits(kept)),
            "weights": None if weights is None else torch.from_numpy(weights),
            "num_not_finite": self.num_not_finite,
            "observed_positions": positions,
            "observed_losses": losses,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was.

        Raises:
            ValueError: If the state is of another corpus or another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"The saved pruner has seed {state['seed']}, this one {self.seed}: its kept sets would differ. Resume "
                "with the seed that the run began with."
            )
        self.table.load_state_dict(state["table"])
        self._epoch = state["epoch"]
        self.num_not_finite = state["num_not_finite"]
        # One rank takes what all had observed, since the end of the epoch gathers it again.
        self._observed = [(state["observed_positions"], state["observed_losses"])] if rank() == 0 else []
        if len(state["kept"]):
            kept = np.unpackbits(state["kept"].numpy(), count=len(self.table)).astype(np.bool_)
            self._kept = KeptSet(self.table, kept, None if state["weights"] is None else state["weights"].numpy())
