"""Utterance pruning of a stream: data whose utterances are unknown until they have been read.

Shape legend: N utterances known so far, B utterances of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from asrsparse.pruning.batch_means import BatchMeans
from asrsparse.pruning.losses import check_finite, check_losses, refuse_weights
from asrsparse.pruning.policies import Policy
from asrsparse.pruning.ranks import gather, rank
from asrsparse.pruning.scores import NEVER, SMOOTHING, ScoreTable, not_positive_and_finite, utterance_keys
from asrsparse.pruning.selection import NO_EPOCH_YET, KeptSet, PruningPlan, select

Observations = tuple[list[str], list[float], list[float]]
"""Ids, durations in seconds and losses of what was trained on, in three lists of equal length."""


@dataclass(frozen=True)
class KeptStream:
    """The utterances that one epoch of a stream keeps: the chosen ones of those that are known, and all others.

    It is frozen and small, so that the workers of a loader can filter by it while they read.

    Attributes:
        known: The choice among the known utterances; None if none is known yet.
    """

    known: KeptSet | None

    def __contains__(self, utterance_id: str) -> bool:
        if self.known is None:
            return True
        row = int(self.known.table.find([utterance_id])[0])
        unknown = row < 0 or row >= len(self.known.kept)  # the table may have grown since
        return unknown or bool(self.known.kept[row])

    @property
    def share(self) -> float:
        """The share of the known speech in seconds that is kept, in [0, 1]."""
        return 1.0 if self.known is None else self.known.share

    def weights_of(self, ids: Sequence[str]) -> torch.Tensor | None:
        """Returns the factors on the losses of utterances (B,), 1 for those that are new; None if all are 1."""
        if self.known is None or self.known.weights is None:
            return None
        rows, weights = self.known.table.find(ids), self.known.weights
        return torch.tensor([float(weights[row]) if 0 <= row < len(weights) else 1.0 for row in rows])


class StreamPruner:
    """Decides before each epoch which utterances of a stream to train on, by the losses of the epochs before.

    It needs no list of the corpus: an utterance that it does not know is kept, and is known from the next epoch on. The
    choice among the known ones is that of `DynamicPruner`. What is dropped is neither decoded nor augmented if the
    filter comes first. A stream (a lhotse Shar, for example) has read the bytes by then, so that no input/output is
    saved.

    Args:
        policy: Which part to keep.
        plan: When and among what the policy chooses.
        seed: Seed of the policy's own generators.
        smoothing: Weight of the older score in the moving average, in [0, 1).
        max_not_finite: The share of an epoch's losses that may be NaN or infinite before the run is stopped.

    Attributes:
        num_not_finite: How many losses were NaN or infinite so far.

    Raises:
        ValueError: If `smoothing` is out of range.

    Example:
        >>> from asrsparse.pruning import Easy
        >>> plan = PruningPlan(num_epochs=2, warmup_epochs=1, final_epochs=0, num_strata=1)
        >>> pruner = StreamPruner(Easy(keep_ratio=0.5), plan)
        >>> kept = pruner.start_epoch(0)
        >>> "a" in kept, "b" in kept
        (True, True)
        >>> loss = pruner.observe(["a", "b"], torch.tensor([3.0, 1.0]), durations=[1.0, 1.0])
        >>> kept = pruner.start_epoch(1)
        >>> "a" in kept, "b" in kept, "new" in kept
        (False, True, True)
    """

    def __init__(
        self,
        policy: Policy,
        plan: PruningPlan,
        seed: int = 0,
        smoothing: float = SMOOTHING,
        max_not_finite: float = 0.05,
    ) -> None:
        self.table = ScoreTable([], [], smoothing)
        self.policy = policy
        self.plan = plan
        self.seed = seed
        self.max_not_finite = max_not_finite
        self.num_not_finite = 0
        self._batch_means = BatchMeans()
        self._epoch = NEVER
        self._kept: KeptStream | None = None
        self._observed: Observations = ([], [], [])

    @property
    def kept(self) -> KeptStream:
        """What the epoch that began last keeps.

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

    def start_epoch(self, epoch: int) -> KeptStream:
        """Begins an epoch: ends the one before, if `end_epoch` did not, and chooses among the known utterances.

        Within a cycle of the plan the last choice stands, and utterances that are new since then are kept.
        With several processes every rank calls it. To begin an epoch again that has begun, also in a resumed run,
        changes nothing.

        Args:
            epoch: The number of the epoch, counted from 0.

        Returns:
            What the epoch keeps; `kept` returns it, too, until the next epoch begins.

        Raises:
            ValueError: As for `select`.
        """
        if self._kept is None or epoch != self._epoch:
            self.end_epoch()
            self._epoch = epoch
            nothing_chosen = self._kept is None or self._kept.known is None
            if nothing_chosen or self.plan.begins_cycle(self.policy, epoch):
                self._kept = self._choose(epoch)
        assert self._kept is not None
        return self._kept

    def _choose(self, epoch: int) -> KeptStream:
        if len(self.table) == 0:
            return KeptStream(None)
        return KeptStream(select(self.table, self.policy, self.plan, epoch, self.seed))

    def observe(self, ids: Sequence[str], losses: torch.Tensor, durations: Sequence[float]) -> torch.Tensor:
        """Records the losses of a batch as scores and returns their weighted mean, to call `backward` on.

        Args:
            ids: B ids of the batch.
            losses: Loss per token of each utterance (B,), with its graph.
            durations: Seconds of each utterance (B,).

        Returns:
            The mean of the losses, each times its weight, as a tensor without dimensions; new utterances weigh 1.

        Raises:
            ValueError: If there is not one loss and one positive, finite duration for each id, or an id is no string.
        """
        check_losses(ids, losses)
        _check_utterances(ids, durations)
        weights = None if self._kept is None else self._kept.weights_of(ids)
        self._record(ids, losses.detach().float().tolist(), durations)
        return losses.mean() if weights is None else (losses * weights.to(losses)).mean()

    def observe_batch(self, ids: Sequence[str], mean_loss: torch.Tensor | float, durations: Sequence[float]) -> None:
        """Records the mean loss of a batch, for loops that have no loss of each utterance; scores are less exact.

        Args:
            ids: B ids of the batch.
            mean_loss: The mean of their losses per token. It is compared with that of batches of like duration.
            durations: Seconds of each utterance (B,).

        Raises:
            ValueError: If there is more than one loss or not one duration for each id, or the policy weights losses.
        """
        _check_utterances(ids, durations)
        refuse_weights(self.policy, None if self._kept is None else self._kept.weights_of(ids))
        self._record(ids, [self._batch_means.excess(durations, mean_loss)] * len(ids), durations)

    def _record(self, ids: Sequence[str], losses: Sequence[float], durations: Sequence[float]) -> None:
        of_ids, of_durations, of_losses = self._observed
        of_ids.extend(ids)
        of_durations.extend(durations)
        of_losses.extend(losses)

    def end_epoch(self) -> None:
        """Ends the epoch: adds new utterances and the losses of all ranks to the table.

        With several processes every rank calls it. To end an epoch twice changes nothing. Losses that are NaN or
        infinite do not become scores.

        Raises:
            ValueError: If more than `max_not_finite` of the losses are NaN or infinite.
        """
        ids, durations, losses = self._observed_by_all()
        self.num_not_finite += check_finite(
            np.array(losses), lambda place: repr(ids[place]), self._epoch, self.max_not_finite
        )
        new = {i: seconds for i, seconds, row in zip(ids, durations, self.table.find(ids), strict=True) if row < 0}
        self.table.extend(list(new), list(new.values()))
        last = {i: loss for i, loss in zip(ids, losses, strict=True) if loss - loss == 0.0}  # finite
        self.table.update(self.table.positions(list(last)), torch.tensor(list(last.values())).numpy(), self._epoch)
        self._observed = ([], [], [])

    def _observed_by_all(self) -> Observations:
        parts = gather(self._observed)
        ids, durations, losses = ([value for part in parts for value in part[column]] for column in range(3))
        return ids, durations, losses  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        """Returns the table, the choice, and what all ranks observed since the epoch began.

        These are tensors, plain numbers and ids only. With several processes every rank calls it.
        """
        known = None if self._kept is None else self._kept.known
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "num_not_finite": self.num_not_finite,
            "table": self.table.columns(),
            "kept": None if known is None else torch.from_numpy(known.kept),
            "weights": None if known is None or known.weights is None else torch.from_numpy(known.weights),
            "seen": self._observed_by_all(),
            "batch_means": self._batch_means.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where a saved run was: the choice of the saved epoch is `kept`.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: If the state is of another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"The saved pruner has seed {state['seed']}, this one {self.seed}: its kept sets would differ. Resume "
                "with the seed that the run began with."
            )
        self.table = ScoreTable.of_columns(state["table"], self.table.smoothing)
        self._epoch = state["epoch"]
        self.num_not_finite = state.get("num_not_finite", 0)  # older checkpoints lack it
        if "batch_means" in state:  # older checkpoints lack it
            self._batch_means.load_state_dict(state["batch_means"])
        weights = None if state["weights"] is None else state["weights"].numpy()
        known = None if state["kept"] is None else KeptSet(self.table, state["kept"].numpy(), weights)
        self._kept = None if self._epoch == NEVER else KeptStream(known)
        # One rank takes what all had observed, since the end of the epoch gathers it again.
        self._observed = tuple(map(list, state["seen"])) if rank() == 0 else ([], [], [])  # type: ignore[assignment]


def _check_utterances(ids: Sequence[str], durations: Sequence[float]) -> None:
    """Checks what a batch says of its utterances when it is observed, since they are added only when an epoch ends."""
    utterance_keys(ids)  # refuses what is no string
    if len(durations) != len(ids):
        raise ValueError(f"durations: got {len(durations)} for {len(ids)} ids, allowed is one for each id, in seconds.")
    wrong = not_positive_and_finite(durations)
    if len(wrong):
        raise ValueError(
            f"durations: got {durations[wrong[0]]} s of {ids[int(wrong[0])]!r}, allowed are positive and finite "
            "numbers. Leave utterances without audio out."
        )
