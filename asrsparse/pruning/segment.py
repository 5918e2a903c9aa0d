"""Segment and frame pruning: which chunks of an utterance a training step is trained on.

The time of an utterance is divided into chunks of equal length; some are kept, and joined in their order. All that
belongs to an utterance (audio samples, feature rows, video frames, times of words) loses the same chunks. Segments are
chunks of some tenths of a second, frames are chunks of one row (DDP-ASR, arXiv 2406.18373).

Shape legend: B utterances, R rows of the longest (audio samples, feature rows, or video frames of H x W), C chunks of
the longest, E encoder frames of the longest, K times.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from asrsparse.pruning.blank import BlankTable
from asrsparse.pruning.chunk_policies import ChunkPolicy, Chunks, LoudestChunks
from asrsparse.pruning.scores import utterance_keys
from asrsparse.rates import FRAMES_PER_SECOND


class SegmentPruner:
    """Keeps a share of the time of each utterance.

    Random choices are a function of the seed, the epoch and the utterance's id: the same on any rank, in any batch and
    after a resume. They need `start_epoch` and the ids. Without these, they depend on the number of earlier choices,
    which `state_dict` holds.

    Args:
        keep_ratio: The share of the chunks to keep, in (0, 1]; an utterance keeps more where its labels need it, or the
            policy says so.
        chunk_seconds: The length of a chunk in seconds. With a multiple of 0.04 s, video of 25 Hz and subsampled audio
            stay in step.
        policy: Which chunks to keep first; by default the loudest.
        blanks: The model's log-odds of blanks, for policies that need them.
        num_epochs: Epochs of the training; needed if there are `final_epochs`.
        final_epochs: Last epochs that train on all time, since decoding is of all time. They need `start_epoch`.
        seed: Seed of random choices.

    Raises:
        ValueError: If a number is out of range, or `blanks` or `num_epochs` is missing.

    Example:
        >>> pruner = SegmentPruner(keep_ratio=0.5, chunk_seconds=0.02)
        >>> features, lens = torch.tensor([[1.0, 2.0, 7.0, 8.0, 9.0, 9.0, 0.0, 0.0]]).unsqueeze(-1), torch.tensor([6])
        >>> kept = pruner.choose(features, lens, rows_per_second=100)
        >>> kept.tolist()
        [[False, True, True, False]]
        >>> shorter, shorter_lens = pruner.apply(kept, features, lens, rows_per_second=100)
        >>> shorter.flatten().tolist(), shorter_lens.tolist()
        ([7.0, 8.0, 9.0, 9.0], [4])
    """

    def __init__(
        self,
        keep_ratio: float = 0.7,
        chunk_seconds: float = 0.2,
        policy: ChunkPolicy | None = None,
        blanks: BlankTable | None = None,
        num_epochs: int | None = None,
        final_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0.0 < keep_ratio <= 1.0:
            raise ValueError(
                f"keep_ratio: got {keep_ratio}, allowed is (0, 1]: the share of an utterance's time that a step is "
                "trained on. For all of it use KeepAllTime (segments=none)."
            )
        if not chunk_seconds > 0.0:
            raise ValueError(f"chunk_seconds: got {chunk_seconds}, allowed is above 0.")
        if final_epochs < 0 or (final_epochs > 0 and num_epochs is None):
            raise ValueError(
                f"final_epochs: got {final_epochs} of {num_epochs} epochs, allowed are 0, and numbers above 0 "
                "with num_epochs."
            )
        self.keep_ratio = keep_ratio
        self.final_epochs = final_epochs
        self.num_epochs = num_epochs
        self.seed = seed
        self._epoch: int | None = None
        self._num_draws = 0
        self.chunk_seconds = chunk_seconds
        self.policy = policy if policy is not None else LoudestChunks()
        if self.policy.needs_blank:
            if blanks is None:
                raise ValueError(
                    f"blanks: got None, and {type(self.policy).__name__} needs a table of blanks: give "
                    "blanks=BlankTable(...)."
                )
            self._rows_of_a_chunk(FRAMES_PER_SECOND)
        self.blanks = blanks if self.policy.needs_blank else None

    def start_epoch(self, epoch: int) -> None:
        """Begins an epoch; to begin one again that has begun changes nothing.

        Args:
            epoch: The number of the epoch, counted from 0.
        """
        self._epoch = epoch

    @property
    def _prunes(self) -> bool:
        """Whether the current epoch, if one has begun, is before the final epochs on all time."""
        return self._epoch is None or self.num_epochs is None or self._epoch < self.num_epochs - self.final_epochs

    def check_rate(self, rows_per_second: int) -> None:
        """Checks that a chunk is a whole number of rows.

        Args:
            rows_per_second: Rows per second of what is to be cut.

        Raises:
            ValueError: If it is not.
        """
        self._rows_of_a_chunk(rows_per_second)

    def choose(
        self,
        values: Tensor,
        lens: Tensor,
        rows_per_second: int,
        min_seconds: Tensor | float = 0.0,
        ids: Sequence[str] = (),
    ) -> Tensor:
        """Chooses the chunks to keep.

        Args:
            values: The values by which the policy chooses, zero behind `lens`: waveforms (B, R), feature rows
                (B, R, features) or video (B, R, H, W).
            lens: Rows of each utterance (B,).
            rows_per_second: Rows of `values` per second.
            min_seconds: The least time in seconds that each utterance keeps, one number for all or (B,); a shorter
                utterance is kept whole.
            ids: B utterance ids, for policies that need blanks or draw at random.

        Returns:
            True for the chunks to keep (B, C); False behind the end of an utterance.

        Raises:
            ValueError: If a chunk is no whole number of rows, or an id is unknown.
        """
        rows = self._rows_of_a_chunk(rows_per_second)
        chunks, chunk_lens = _in_chunks(values, lens, rows)
        blank = None
        if self.blanks is not None:
            num_slots = chunks.size(1) * self._rows_of_a_chunk(FRAMES_PER_SECOND)
            blank = self.blanks.log_odds(ids, num_slots).to(lens.device)
        seeds = self._seeds(len(lens), ids)
        priorities = self.policy.priorities(Chunks(chunks, chunk_lens, blank, seeds, rows_per_second))
        priorities = priorities.masked_fill(chunk_lens == 0, -torch.inf)
        num_chunks = (chunk_lens > 0).sum(dim=1)
        # One more chunk than the least, since the last one of an utterance may have few rows.
        least = torch.ceil(torch.as_tensor(min_seconds, device=lens.device) * rows_per_second / rows) + 1
        keep_ratio = self.keep_ratio if self._prunes else 1.0
        wanted = torch.maximum(torch.round(keep_ratio * num_chunks), least)
        wanted = torch.maximum(wanted, torch.isposinf(priorities).sum(dim=1))
        places = priorities.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        kept: Tensor = (places < wanted[:, None]) & (chunk_lens > 0)
        return kept

    def _seeds(self, num_utterances: int, ids: Sequence[str]) -> NDArray[np.uint64]:
        """Returns a seed for each utterance: by epoch and id, or by the number of earlier draws without these (B,)."""
        if self._epoch is not None and len(ids):
            names = [f"{self.seed} {self._epoch} {utterance_id}" for utterance_id in ids]
        else:
            first, self._num_draws = self._num_draws, self._num_draws + num_utterances
            names = [f"{self.seed} draw {number}" for number in range(first, self._num_draws)]
        return utterance_keys(names).view(np.uint64)

    def apply(self, kept: Tensor, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Joins the kept chunks of anything that runs in step with the values that `choose` got.

        Args:
            kept: True for the chunks to keep (B, C).
            values: The rows of the utterances (B, R) or (B, R, ...).
            lens: Rows of each utterance (B,).
            rows_per_second: Rows of `values` per second.

        Returns:
            The kept rows in their order (B, R', ...), zero behind their lengths, and their lengths (B,).

        Raises:
            ValueError: If a chunk is no whole number of rows.
        """
        rows = self._rows_of_a_chunk(rows_per_second)
        chunks, chunk_lens = _in_chunks(values, lens, rows)
        # Values may end a chunk before or after what was looked at, as features do after the waveform that made them.
        kept = F.pad(kept, (0, max(0, chunks.size(1) - kept.size(1))), value=False)[:, : chunks.size(1)]
        # Only an utterance's last chunk can have fewer rows than the others, and it stays the last: no gap opens.
        new_lens = (chunk_lens * kept).sum(dim=1)
        first_kept = (~kept).byte().argsort(dim=1, stable=True)[:, : int(kept.sum(dim=1).max())]
        joined = chunks[torch.arange(len(chunks), device=chunks.device)[:, None], first_kept].flatten(1, 2)
        joined = joined[:, : int(new_lens.max())]
        behind = torch.arange(joined.size(1), device=lens.device) >= new_lens[:, None]
        return joined.masked_fill(behind.view(*behind.shape, *[1] * (joined.dim() - 2)), 0), new_lens

    def times(self, kept: Tensor, seconds: Tensor) -> Tensor:
        """Computes where times of an utterance lie after the cut, for example those of words in an alignment.

        Args:
            kept: True for the chunks to keep (B, C).
            seconds: Times in seconds from the beginning of the whole utterance (B, K).

        Returns:
            Times in seconds from the beginning of what is left (B, K); a time in a dropped chunk becomes the time at
            which that chunk is cut out.
        """
        number = (seconds / self.chunk_seconds).long().clamp(0, kept.size(1) - 1)
        inside = torch.clamp(seconds - number * self.chunk_seconds, 0.0, self.chunk_seconds)
        before = kept.cumsum(dim=1) - kept.long()
        return before.gather(1, number) * self.chunk_seconds + inside * kept.gather(1, number)

    def observe(self, ids: Sequence[str], kept: Tensor, blank_log_probs: Tensor) -> None:
        """Records how sure the model was of blanks in the kept chunks, if the policy needs it.

        Args:
            ids: B utterance ids.
            kept: True for the chunks that were kept (B, C).
            blank_log_probs: Log probability of CTC's blank in each encoder frame of the kept chunks (B, E); there is
                a frame for each 40 ms.
        """
        if self.blanks is None:
            return
        num_slots = kept.size(1) * self._rows_of_a_chunk(FRAMES_PER_SECOND)
        numbers = torch.arange(num_slots, device=kept.device).expand(len(kept), -1)
        lens = torch.full((len(kept),), num_slots, device=kept.device)
        slots, lens = self.apply(kept, numbers, lens, FRAMES_PER_SECOND)
        self.blanks.record(ids, slots, lens, blank_log_probs)

    def end_epoch(self) -> None:
        """Ends an epoch: what was observed in it counts for the choices from now on.

        With several processes every rank calls it.
        """
        if self.blanks is not None:
            self.blanks.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs. With several processes every rank calls it."""
        return {"num_draws": self._num_draws} | ({} if self.blanks is None else self.blanks.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a saved run.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: If the state is of another corpus.
        """
        self._num_draws = state.get("num_draws", 0)  # runs of the last release have none
        if self.blanks is not None:
            self.blanks.load_state_dict(state)

    def _rows_of_a_chunk(self, rows_per_second: int) -> int:
        rows = round(self.chunk_seconds * rows_per_second)
        if rows < 1 or abs(rows - self.chunk_seconds * rows_per_second) > 1e-6 * rows_per_second:
            raise ValueError(
                f"chunk_seconds: got {self.chunk_seconds}, allowed are multiples of {1 / rows_per_second:g} "
                f"s, the time of one of the {rows_per_second} rows a second."
            )
        return rows


class KeepAllTime(SegmentPruner):
    """`none`: whole utterances, unchanged; it is the baseline of the segment pruners."""

    def __init__(self) -> None:
        super().__init__(keep_ratio=1.0)

    def choose(
        self,
        values: Tensor,
        lens: Tensor,
        rows_per_second: int,
        min_seconds: Tensor | float = 0.0,
        ids: Sequence[str] = (),
    ) -> Tensor:
        """Returns True for each utterance (B, 1): its whole time is one chunk, which is kept."""
        return torch.ones(len(lens), 1, dtype=torch.bool, device=lens.device)

    def apply(self, kept: Tensor, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Returns `values` and `lens` themselves."""
        return values, lens


def _in_chunks(values: Tensor, lens: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Divides (B, R, ...) into chunks (B, C, rows, ...), zero behind `lens`; also returns the rows of each (B, C)."""
    num_chunks = -(-values.size(1) // rows)
    padded = F.pad(values, (*[0, 0] * (values.dim() - 2), 0, num_chunks * rows - values.size(1)))
    begins = torch.arange(num_chunks, device=lens.device) * rows
    return padded.view(len(values), num_chunks, rows, *values.shape[2:]), (lens[:, None] - begins).clamp(0, rows)
