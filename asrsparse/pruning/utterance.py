"""Utterance pruning of a corpus whose utterances are known: `DynamicPruner` begins and ends the epochs of a training.

Shape legend: N utterances of the corpus, B utterances of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from asrsparse.pruning.audit import Audit
from asrsparse.pruning.batch_means import BatchMeans
from asrsparse.pruning.losses import check_finite, check_losses, refuse_weights
from asrsparse.pruning.policies import KeepAll, Policy, keep_ratio_at
from asrsparse.pruning.ranks import gather, rank
from asrsparse.pruning.scores import NEVER, SMOOTHING, Durations, ScoreTable
from asrsparse.pruning.selection import NO_EPOCH_YET, KeptSet, PruningPlan, select


class DynamicPruner:
    """Decides before each epoch which utterances to train on, by the losses that training itself reports.

    Args:
        ids: N different utterance ids.
        durations: Durations (N,) in seconds.
        policy: Which part to keep; `KeepAll()`, the default, is the baseline.
        plan: When and among what the policy chooses; by default a plan of one epoch.
        seed: Seed of the policy's own generators.
        smoothing: Weight of the older score in the moving average, in [0, 1).
        max_not_finite: The share of an epoch's losses that may be NaN or infinite before the run is stopped.

    Attributes:
        num_not_finite: How many losses were NaN or infinite so far.
        audit: Whether each kept utterance was trained on once in the last epoch that ended; None before.

    Raises:
        ValueError: If there is no utterance, ids repeat, or `smoothing` is out of range.

    Example:
        >>> from asrsparse.pruning import EasyToHard
        >>> plan = PruningPlan(num_epochs=3, warmup_epochs=1, final_epochs=0, num_strata=1)
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
        >>> pruner.kept is kept, pruner.epoch
        (True, 1)
    """

    def __init__(
        self,
        ids: Sequence[str],
        durations: Durations,
        policy: Policy | None = None,
        plan: PruningPlan | None = None,
        seed: int = 0,
        smoothing: float = SMOOTHING,
        max_not_finite: float = 0.05,
    ) -> None:
        if len(ids) == 0:
            raise ValueError("ids: got none, allowed is at least one utterance to choose among.")
        self.table = ScoreTable(ids, durations, smoothing)
        self.policy = policy if policy is not None else KeepAll()
        self.plan = plan if plan is not None else PruningPlan(num_epochs=1, final_epochs=0)
        self.seed = seed
        self.max_not_finite = max_not_finite
        self.num_not_finite = 0
        self.audit: Audit | None = None
        self._batch_means = BatchMeans()
        self._epoch = NEVER
        self._kept: KeptSet | None = None
        self._observed: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def kept(self) -> KeptSet:
        """The kept set of the epoch that began last.

        Raises:
            RuntimeError: If no epoch has begun.
        """
        if self._kept is None:
            raise RuntimeError(NO_EPOCH_YET)
        return self._kept

    @property
    def epoch(self) -> int:
        """The number of the epoch that began last, counted from 0; -1 if none has begun."""
        return self._epoch

    def start_epoch(self, epoch: int) -> KeptSet:
        """Begins an epoch: ends the one before, if `end_epoch` did not, and chooses the utterances of `epoch`.

        With several processes every rank calls it, since the losses of all ranks are gathered here; all get the same
        set. To begin an epoch again that has begun, also in a resumed run, changes nothing.

        Args:
            epoch: The number of the epoch, counted from 0.

        Returns:
            What the epoch keeps; `kept` returns it, too, until the next epoch begins.

        Raises:
            ValueError: As for `end_epoch` and `select`.
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
            The mean of the losses, each times its weight, as a tensor without dimensions.

        Raises:
            ValueError: If an id is unknown, or there is not one loss for each id.
        """
        check_losses(ids, losses)
        rows = self.table.positions(ids)
        self._observed.append((torch.from_numpy(rows), losses.detach().float().cpu()))
        if self._kept is None or self._kept.weights is None:
            return losses.mean()
        return (losses * torch.from_numpy(self._kept.weights[rows]).to(losses)).mean()

    def observe_batch(self, ids: Sequence[str], mean_loss: torch.Tensor | float) -> None:
        """Records the mean loss of a batch, for loops that have no loss of each utterance; scores are less exact.

        Args:
            ids: B ids of the batch.
            mean_loss: The mean of their losses per token. It is compared with that of batches of like duration.

        Raises:
            ValueError: If an id is unknown, there is more than one loss, or the policy weights losses.
        """
        rows = self.table.positions(ids)
        refuse_weights(self.policy, None if self._kept is None else self._kept.weights)
        excess = self._batch_means.excess(self.table.durations[rows].tolist(), mean_loss)
        self._observed.append((torch.from_numpy(rows), torch.full((len(rows),), excess)))

    def end_epoch(self) -> None:
        """Ends the epoch: moves the observed losses of all ranks into the score table, and counts for `audit`.

        With several processes every rank calls it. To end an epoch twice changes nothing. Losses that are NaN or
        infinite do not become scores: their utterances keep the scores that they had.

        Raises:
            ValueError: If more than `max_not_finite` of the losses are NaN or infinite.
        """
        positions, losses = self._observed_by_all()
        if len(positions) == 0:
            return
        kept = np.ones(len(self.table), dtype=np.bool_) if self._kept is None else self._kept.kept
        self.audit = Audit.of(self.table, kept, positions.numpy())
        finite = torch.isfinite(losses)
        self.num_not_finite += check_finite(
            losses.numpy(), lambda place: f"number {positions[place]}", self._epoch, self.max_not_finite
        )
        # A rank that had to borrow an utterance to fill its last batch repeats it: the last loss counts.
        self.table.update(positions[finite].numpy(), losses[finite].numpy(), self._epoch)
        self._observed = []

    def _observed_by_all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the row numbers and losses that all ranks observed since the epoch began, in the order of ranks."""
        observed = [pair for of_rank in gather(self._observed) for pair in of_rank]
        positions = torch.cat([torch.empty(0, dtype=torch.int64), *(p for p, _ in observed)])
        losses = torch.cat([torch.empty(0), *(v for _, v in observed)])
        return positions, losses

    def planned_seconds(self, after_epoch: int) -> float:
        """Returns the seconds of speech that the epochs after `after_epoch` are expected to keep, for schedules."""
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
        """Returns the scores, the kept set, and what all ranks observed since the epoch began.

        These are tensors and plain numbers only. With several processes every rank calls it.
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
            "batch_means": self._batch_means.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where a saved run was: the kept set of the saved epoch is `kept`.

        Args:
            state: What `state_dict` returned.

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
        if "batch_means" in state:  # older checkpoints lack it
            self._batch_means.load_state_dict(state["batch_means"])
        # One rank takes what all had observed, since the end of the epoch gathers it again.
        self._observed = [(state["observed_positions"], state["observed_losses"])] if rank() == 0 else []
        self._kept = None
        if len(state["kept"]):
            kept = np.unpackbits(state["kept"].numpy(), count=len(self.table)).astype(np.bool_)
            self._kept = KeptSet(self.table, kept, None if state["weights"] is None else state["weights"].numpy())
