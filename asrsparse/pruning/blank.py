"""A table of how sure the model was of CTC's blank in each stretch of an utterance when it last trained on it.

Shape legend: N utterances of the corpus, B utterances of a batch, S slots of 40 ms of the longest utterance, E encoder
frames of the longest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrsparse.pruning.ranks import gather, rank
from asrsparse.pruning.scores import ScoreTable
from asrsparse.rates import FRAMES_PER_SECOND

_STEPS_PER_NAT = 16
_MIDDLE = 128
_MOST_VISITS = 255


class BlankTable:
    """The log-odds of CTC's blank at the last visit, in a byte for each slot of 40 ms of each utterance.

    A visit is one training on an utterance. The bytes of all utterances lie behind one another, so that the table grows
    with the hours of the corpus (90 kB each) and not with its longest utterance. Log-odds from -8 to 8 are kept in
    steps of 1/16: a trained model is so sure of its blanks that probabilities would all be the same byte.

    What is recorded in an epoch counts after the end of the epoch, on all ranks.

    Args:
        utterances: The table of the pruner, which has a row for each utterance.
        warmup_visits: Visits of an utterance before its log-odds are used, at least 1.
        forgetting: Nats that the log-odds of a slot fall at each visit that left it out, so that it is kept again some
            day; at least 0.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> table = BlankTable(ScoreTable(["a", "b"], [0.08, 0.12]), warmup_visits=1)
        >>> table.log_odds(["b"], num_slots=3).tolist()
        [[-inf, -inf, -inf]]
        >>> slots, blank = torch.tensor([[0, 1, 2]]), torch.tensor([[0.5, 0.9, 0.1]])
        >>> table.record(["b"], slots, torch.tensor([3]), blank.log())
        >>> table.end_epoch()
        >>> table.log_odds(["b"], num_slots=3).tolist()
        [[0.0, 2.1875, -2.1875]]
    """

    def __init__(self, utterances: ScoreTable, warmup_visits: int = 2, forgetting: float = 0.5) -> None:
        if warmup_visits < 1:
            raise ValueError(f"warmup_visits: got {warmup_visits}, allowed is at least 1 visit.")
        if forgetting < 0.0:
            raise ValueError(f"forgetting: got {forgetting}, allowed is at least 0 nats a visit.")
        self.utterances = utterances
        self.warmup_visits = warmup_visits
        self.forgetting = forgetting
        num_slots = np.ceil(utterances.durations * FRAMES_PER_SECOND - 1e-3).astype(np.int64).clip(min=1)
        self._begins = np.concatenate([[0], np.cumsum(num_slots)])
        self._steps = np.full(self._begins[-1], _MIDDLE, dtype=np.uint8)
        self._visits = np.zeros(len(utterances), dtype=np.uint8)
        self._recorded: list[tuple[int, NDArray[np.uint8]]] = []

    def log_odds(self, ids: Sequence[str], num_slots: int) -> torch.Tensor:
        """Returns the log-odds of the first slots of some utterances at their last visits.

        Args:
            ids: B utterance ids.
            num_slots: The number of slots, S; behind the end of an utterance its last slot is repeated.

        Returns:
            Log-odds of a blank (B, S); minus infinity for utterances with fewer than `warmup_visits` visits.

        Raises:
            ValueError: If an id is unknown.
        """
        rows = self.utterances.positions(ids)
        slots = self._begins[rows][:, None] + np.arange(num_slots)
        known = self._steps[np.minimum(slots, self._begins[rows + 1][:, None] - 1)]
        log_odds = (known.astype(np.float32) - _MIDDLE) / _STEPS_PER_NAT
        log_odds[self._visits[rows] < self.warmup_visits] = -np.inf
        return torch.from_numpy(log_odds)

    def record(self, ids: Sequence[str], slots: torch.Tensor, lens: torch.Tensor, log_probs: torch.Tensor) -> None:
        """Records how sure the model was of blanks in the slots that it was trained on.

        Args:
            ids: B utterance ids.
            slots: Numbers of the slots that were kept, ascending (B, S).
            lens: How many slots of each utterance were kept (B,).
            log_probs: Log probability of the blank in each encoder frame (B, E); frame e is the e-th kept slot, and
                the last frame also stands for all kept slots behind it.

        Raises:
            ValueError: If an id is unknown.
        """
        slots, lens = slots.cpu(), lens.cpu()
        steps = _in_steps(log_probs.detach().float().cpu())
        for row, kept, num_kept, of_frames in zip(self.utterances.positions(ids), slots, lens, steps, strict=True):
            track = self._forget(self._steps[self._begins[row] : self._begins[row + 1]])
            kept = kept[:num_kept]
            frames = torch.arange(len(kept)).clamp(max=len(of_frames) - 1)
            inside = kept < len(track)
            track[kept[inside].numpy()] = of_frames[frames[inside]].numpy()
            self._recorded.append((int(row), track))

    def _forget(self, track: NDArray[np.uint8]) -> NDArray[np.uint8]:
        step = round(self.forgetting * _STEPS_PER_NAT)
        forgotten: NDArray[np.uint8] = np.maximum(track, step) - np.uint8(step)
        return forgotten

    def end_epoch(self) -> None:
        """Writes what all ranks recorded into the table. With several processes every rank calls it."""
        for row, track in self._recorded_by_all():
            self._steps[self._begins[row] : self._begins[row + 1]] = track
            self._visits[row] = min(int(self._visits[row]) + 1, _MOST_VISITS)
        self._recorded = []

    def _recorded_by_all(self) -> list[tuple[int, NDArray[np.uint8]]]:
        return [one for of_rank in gather(self._recorded) for one in of_rank]

    def state_dict(self) -> dict[str, Any]:
        """Returns the table, and what all ranks recorded since the epoch began.

        With several processes every rank calls it.
        """
        recorded = self._recorded_by_all()
        return {
            "fingerprint": self.utterances.fingerprint(),
            "steps": torch.from_numpy(self._steps.copy()),
            "visits": torch.from_numpy(self._visits.copy()),
            "recorded_rows": torch.tensor([row for row, _ in recorded], dtype=torch.int64),
            "recorded_steps": torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *(t for _, t in recorded)])),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a saved table.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: If the state is of another corpus.
        """
        if state["fingerprint"] != self.utterances.fingerprint():
            raise ValueError(
                f"The saved table of blanks is of another corpus: {len(state['visits'])} utterances with fingerprint "
                f"{state['fingerprint']}, here are {len(self.utterances)} with {self.utterances.fingerprint()}. Resume "
                "on the data set that the run began with, or start a new run."
            )
        self._steps = state["steps"].numpy().copy()
        self._visits = state["visits"].numpy().copy()
        rows = state["recorded_rows"].numpy()
        ends = np.cumsum(self._begins[rows + 1] - self._begins[rows])
        tracks = np.split(state["recorded_steps"].numpy(), ends[:-1]) if len(rows) else []
        # One rank takes what all had recorded, since the end of the epoch gathers it again.
        self._recorded = list(zip(rows.tolist(), tracks, strict=True)) if rank() == 0 else []


def _in_steps(log_probs: torch.Tensor) -> torch.Tensor:
    """Converts log probabilities to bytes of log-odds."""
    log_odds = log_probs - torch.log1p(-log_probs.exp().clamp(max=1 - 1e-6))
    return (_MIDDLE + torch.round(_STEPS_PER_NAT * log_odds)).clamp(0, 255).to(torch.uint8)
