"""Utterance pruning of a stream: data whose utterances are known only once they have come by.

Shape legend: N utterances seen so far, B utterances of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from asrsparse.pruning.policies import Policy
from asrsparse.pruning.ranks import gather, rank
from asrsparse.pruning.scores import ScoreTable
from asrsparse.pruning.utterance import KeptSet, PruningPlan, select

Seen = tuple[list[str], list[float], list[float]]
"""Ids, durations and losses of what was trained on."""


@dataclass(frozen=True)
class KeptStream:
    """What one epoch of a stream keeps: what the policy chose of the utterances that are known, and all others.

    Frozen and small, so that a loader's workers can filter by it while they read.

    Attributes:
        known: The choice among the known utterances; None where there are none yet.
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
        """The share of the known speech that is kept, in seconds, in [0, 1]."""
        return 1.0 if self.known is None else self.known.share


class StreamPruner:
    """Decides utterance by utterance, as a stream comes by, by the losses that training reported in epochs before.

    It needs no list of the corpus: an utterance that it does not know is kept, and known from the next epoch on. The
    choice among the known ones is that of `DynamicPruner`. What is dropped is neither decoded nor augmented if the
    filter comes first; but a stream (a lhotse Shar, say) has read its bytes by then, so that no I/O is saved.

    Args:
        policy: Which part to keep.
        plan: When and among what the policy chooses.
        seed: Seed of the policy's own generators.
        smoothing: Weight of the older score in the moving average, in [0, 1).

    Example:
        >>> from asrsparse.pruning import Easy
        >>> pruner = StreamPruner(Easy(keep_ratio=0.5), PruningPlan(num_epochs=2, num_strata=1))
        >>> kept = pruner.start_epoch(0)
        >>> "a" in kept, "b" in kept
        (True, True)
        >>> loss = pruner.observe(["a", "b"], torch.tensor([3.0, 1.0]), durations=[1.0, 1.0])
        >>> kept = pruner.start_epoch(1)
        >>> "a" in kept, "b" in kept, "new" in kept
        (False, True, True)
    """

    def __init__(self, policy: Policy, plan: PruningPlan, seed: int = 0, smoothing: float = 0.5) -> None:
        self.table = ScoreTable([], [], smoothing)
        self.policy = policy
        self.plan = plan
        self.seed = seed
        self._epoch = -1
        self._kept = KeptStream(None)
        self._seen: Seen = ([], [], [])

    def start_epoch(self, epoch: int) -> KeptStream:
        """Takes what was observed into the scores, then chooses; with several processes every rank calls it.

        Within the epoch, also after a resume, the choice stays as it is: calling again returns it.
        """
        if epoch != self._epoch:
            self.end_epoch()
            self._epoch = epoch
            self._kept = self._choose(epoch)
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
        """
        of_ids, of_durations, of_losses = self._seen
        of_ids.extend(ids)
        of_durations.extend(durations)
        of_losses.extend(losses.detach().float().tolist())
        known = self._kept.known
        if known is None or known.weights is None:
            return losses.mean()
        rows = known.table.find(ids)
        weights = torch.tensor([1.0 if row < 0 else float(known.weights[row]) for row in rows])
        return (losses * weights.to(losses)).mean()

    def end_epoch(self) -> None:
        """Takes what all ranks saw into the table. Called by `start_epoch`; harmless to repeat."""
        ids, durations, losses = self._seen_by_all()
        new = {i: seconds for i, seconds, row in zip(ids, durations, self.table.find(ids), strict=True) if row < 0}
        self.table.extend(list(new), list(new.values()))
        last = {i: loss for i, loss in zip(ids, losses, strict=True) if loss - loss == 0.0}  # finite
        self.table.update(self.table.positions(list(last)), torch.tensor(list(last.values())).numpy(), self._epoch)
        self._seen = ([], [], [])

    def _seen_by_all(self) -> Seen:
        parts = gather(self._seen)
        ids, durations, losses = ([value for part in parts for value in part[column]] for column in range(3))
        return ids, durations, losses  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        """All that was seen and is known: tensors, numbers and ids. With several processes every rank calls it."""
        known = self._kept.known
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "table": self.table.columns(),
            "kept": None if known is None else torch.from_numpy(known.kept),
            "weights": None if known is None or known.weights is None else torch.from_numpy(known.weights),
            "seen": self._seen_by_all(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was.

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
        weights = None if state["weights"] is None else state["weights"].numpy()
        self._kept = KeptStream(None if state["kept"] is None else KeptSet(self.table, state["kept"].numpy(), weights))
        # One rank takes what all had seen, since the end of the epoch gathers it again.
        self._seen = tuple(map(list, state["seen"])) if rank() == 0 else ([], [], [])  # type: ignore[assignment]
