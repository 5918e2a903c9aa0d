"""Segment and frame pruning: which stretches of an utterance a training step hears.

An utterance is cut in chunks of equal length; some are kept, and joined in their order. Chunks are stretches of time,
so that all that belongs to an utterance (samples, feature rows, video frames, times of words) can lose the same ones.
Segments are chunks of some tenths of a second, frames are chunks of one row. The idea is that of DDP-ASR (arXiv
2406.18373); of how to choose little is known from there, and choosing by energy or by blanks is ours.

Shape legend: B utterances, R rows of the longest (samples, feature rows, video frames of H x W), C chunks of the
longest, E encoder frames of the longest, K times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from asrsparse.pruning.blank import BlankTable
from asrsparse.rates import FRAMES_PER_SECOND


@dataclass(frozen=True)
class Chunks:
    """What a policy may look at.

    Attributes:
        values: What is cut (B, C, rows of a chunk, ...), zero behind the ends of the utterances.
        lens: Rows of each chunk that belong to the utterance (B, C).
        blank: Log-odds of CTC's blank at the last visit, for each slot of 40 ms in the C chunks (B, S), minus infinity
            where the utterance was heard too seldom; None for policies that do not need it.
    """

    values: Tensor
    lens: Tensor
    blank: Tensor | None = None


class ChunkPolicy(Protocol):
    """Says which chunks are worth most."""

    @property
    def needs_blank(self) -> bool:
        """Whether it looks at the model's own blanks."""

    def priorities(self, chunks: Chunks) -> Tensor:
        """Rates chunks; the highest are kept, and all that are infinitely high.

        Returns:
            Priorities (B, C); what stands behind an utterance's last chunk does not matter.
        """


@dataclass(frozen=True)
class RandomChunks:
    """`random`: any chunk as well as another, drawn from torch's global generator."""

    needs_blank: ClassVar[bool] = False

    def priorities(self, chunks: Chunks) -> Tensor:
        """Draws (B, C) uniform numbers."""
        return torch.rand(chunks.lens.shape, device=chunks.values.device)


@dataclass(frozen=True)
class LoudestChunks:
    """`energy`: the loudest chunks; pauses go first. Of video those in which most moves.

    The loudness of waveforms is their mean square, that of feature rows their mean, which for log-mel energies is a
    mean level; all over the rows that belong to the utterance.
    """

    needs_blank: ClassVar[bool] = False

    def priorities(self, chunks: Chunks) -> Tensor:
        """Measures the loudness, or the motion, of each chunk (B, C)."""
        levels = _LEVELS[chunks.values.dim()](chunks)
        return levels.sum(dim=2) / chunks.lens.clamp(min=1)


def _squares(chunks: Chunks) -> Tensor:
    return chunks.values.float().square()


def _means(chunks: Chunks) -> Tensor:
    return chunks.values.float().mean(dim=3)


def _motions(chunks: Chunks) -> Tensor:
    moved = motion(chunks.values.flatten(1, 2), chunks.lens.sum(dim=1))
    return moved.view(chunks.values.shape[:3])


_LEVELS = {3: _squares, 4: _means, 5: _motions}
"""Levels of rows (B, C, rows of a chunk), by the dimensions of chunks of waveforms, of feature rows and of video."""


def motion(video: Tensor, lens: Tensor) -> Tensor:
    """How much moves in video frames: the mean absolute difference to the frame before, of the first one to the next.

    A moving head counts too.

    Args:
        video: Brightness (B, R, H, W).
        lens: Frames of each (B,).

    Returns:
        (B, R, 1), zero behind `lens`.

    Example:
        >>> motion(torch.tensor([3.0, 3.0, 9.0, 0.0]).view(1, 4, 1, 1), torch.tensor([3])).flatten().tolist()
        [0.0, 0.0, 6.0, 0.0]
    """
    values = video.float()
    following = (values[:, 1:] - values[:, :-1]).abs().mean(dim=(2, 3))
    moved = torch.cat([following[:, :1], following], dim=1) if video.size(1) > 1 else values.new_zeros(len(video), 1)
    behind = torch.arange(video.size(1), device=lens.device) >= lens[:, None]
    return moved.masked_fill(behind, 0.0).unsqueeze(-1)


@dataclass(frozen=True)
class LeastBlankChunks:
    """`blank`: the chunks of which the model was least sure, at its last visit, that they are CTC blanks.

    Labels of CTC are spikes, and between those of a word a model is as sure of blanks as in a pause. So what surrounds
    a chunk counts, too. An utterance that was heard too seldom is heard whole.

    Args:
        context_seconds: How far around each 40 ms the log-odds are averaged.
    """

    context_seconds: float = 0.3
    needs_blank: ClassVar[bool] = True

    def priorities(self, chunks: Chunks) -> Tensor:
        """Turns the log-odds of blanks round (B, C)."""
        assert chunks.blank is not None
        reach = round(self.context_seconds * FRAMES_PER_SECOND)
        around = F.avg_pool1d(chunks.blank[:, None], 2 * reach + 1, 1, reach, count_include_pad=False)
        return -around.view(*chunks.lens.shape, -1).mean(dim=2)


class SegmentPruner:
    """Keeps a share of each utterance's time.

    Args:
        keep_ratio: The share of the chunks to keep, in (0, 1]; an utterance keeps more where its labels need it.
        chunk_seconds: Length of a chunk. A multiple of 0.04 s keeps 25 Hz video and subsampled audio in step.
        policy: Which chunks are worth most; by default the loudest.
        blanks: What the model thought of the utterances, for policies that need it.
        num_epochs: Epochs of the training, where the last ones are to hear all time.
        final_epochs: Last epochs that hear all time, as recognition will. They need `start_epoch`.

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
    ) -> None:
        if not 0.0 < keep_ratio <= 1.0:
            raise ValueError(
                f"segments.keep_ratio: got {keep_ratio}, allowed is (0, 1]: the share of an utterance's time that "
                "a step hears. For all of it use segments=none."
            )
        if not chunk_seconds > 0.0:
            raise ValueError(f"segments.chunk_seconds: got {chunk_seconds}, allowed is above 0.")
        if final_epochs < 0 or (final_epochs > 0 and num_epochs is None):
            raise ValueError(
                f"segments.final_epochs: got {final_epochs} of {num_epochs} epochs, allowed are 0, and numbers above 0 "
                "with num_epochs."
            )
        self.keep_ratio = keep_ratio
        self.final_epochs = final_epochs
        self.num_epochs = num_epochs
        self._prunes = True
        self.chunk_seconds = chunk_seconds
        self.policy = policy if policy is not None else LoudestChunks()
        if self.policy.needs_blank:
            if blanks is None:
                raise ValueError(f"{type(self.policy).__name__} needs a table of blanks: give blanks=BlankTable(...).")
            self._rows_of_a_chunk(FRAMES_PER_SECOND)
        self.blanks = blanks if self.policy.needs_blank else None

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, from 0: the last `final_epochs` hear all time."""
        self._prunes = self.num_epochs is None or epoch < self.num_epochs - self.final_epochs

    def check_rate(self, rows_per_second: int) -> None:
        """Checks that chunks are whole numbers of rows.

        Raises:
            ValueError: If they are not.
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
            values: What the policy looks at, zero behind `lens`: waveforms (B, R), feature rows (B, R, features) or
                video (B, R, H, W).
            lens: Rows of each utterance (B,).
            rows_per_second: Rows that make a second of `values`.
            min_seconds: The least that each utterance keeps (B,), or all of them; one that is shorter is kept whole.
            ids: B utterance ids, for policies that need blanks.

        Returns:
            True for the chunks to keep (B, C); False behind the end of an utterance.
        """
        rows = self._rows_of_a_chunk(rows_per_second)
        chunks, chunk_lens = _in_chunks(values, lens, rows)
        blank = None
        if self.blanks is not None:
            num_slots = chunks.size(1) * self._rows_of_a_chunk(FRAMES_PER_SECOND)
            blank = self.blanks.log_odds(ids, num_slots).to(lens.device)
        priorities = self.policy.priorities(Chunks(chunks, chunk_lens, blank)).masked_fill(chunk_lens == 0, -torch.inf)
        num_chunks = (chunk_lens > 0).sum(dim=1)
        # One more chunk than the least, since the last one of an utterance may have few rows.
        least = torch.ceil(torch.as_tensor(min_seconds, device=lens.device) * rows_per_second / rows) + 1
        keep_ratio = self.keep_ratio if self._prunes else 1.0
        wanted = torch.maximum(torch.round(keep_ratio * num_chunks), least)
        wanted = torch.maximum(wanted, torch.isposinf(priorities).sum(dim=1))
        places = priorities.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        kept: Tensor = (places < wanted[:, None]) & (chunk_lens > 0)
        return kept

    def apply(self, kept: Tensor, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Joins the kept chunks of anything that runs in step with what `choose` saw.

        Args:
            kept: True for the chunks to keep (B, C).
            values: (B, R) or (B, R, ...).
            lens: Rows of each utterance (B,).
            rows_per_second: Rows that make a second of `values`.

        Returns:
            The kept rows in their order (B, R', ...), zero behind their lengths, and their lengths (B,).
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
        """Where moments of an utterance come to lie once what is dropped is gone: what alignments are moved by.

        Args:
            kept: True for the chunks to keep (B, C).
            seconds: Moments from the beginning of the whole utterance (B, K).

        Returns:
            Moments from the beginning of what is left (B, K); those in a dropped chunk lie where it is cut out.
        """
        number = (seconds / self.chunk_seconds).long().clamp(0, kept.size(1) - 1)
        inside = torch.clamp(seconds - number * self.chunk_seconds, 0.0, self.chunk_seconds)
        before = kept.cumsum(dim=1) - kept.long()
        return before.gather(1, number) * self.chunk_seconds + inside * kept.gather(1, number)

    def observe(self, ids: Sequence[str], kept: Tensor, blank_log_probs: Tensor) -> None:
        """Records what the model thought of the chunks that it heard, where the policy looks at that.

        Args:
            ids: B utterance ids.
            kept: True for the chunks that were kept (B, C).
            blank_log_probs: Log probability of CTC's blank in each encoder frame of what was kept, one for 40 ms
                (B, E).
        """
        if self.blanks is None:
            return
        num_slots = kept.size(1) * self._rows_of_a_chunk(FRAMES_PER_SECOND)
        numbers = torch.arange(num_slots, device=kept.device).expand(len(kept), -1)
        lens = torch.full((len(kept),), num_slots, device=kept.device)
        slots, lens = self.apply(kept, numbers, lens, FRAMES_PER_SECOND)
        self.blanks.record(ids, slots, lens, blank_log_probs)

    def end_epoch(self) -> None:
        """Takes what was observed into account from now on. With several processes every rank calls it."""
        if self.blanks is not None:
            self.blanks.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs. With several processes every rank calls it."""
        return {} if self.blanks is None else self.blanks.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what a saved run knew."""
        if self.blanks is not None:
            self.blanks.load_state_dict(state)

    def _rows_of_a_chunk(self, rows_per_second: int) -> int:
        rows = round(self.chunk_seconds * rows_per_second)
        if rows < 1 or abs(rows - self.chunk_seconds * rows_per_second) > 1e-6 * rows_per_second:
            raise ValueError(
                f"segments.chunk_seconds: got {self.chunk_seconds}, allowed are multiples of {1 / rows_per_second:g} "
                f"s, the time of one of the {rows_per_second} rows a second."
            )
        return rows


class AllTime(SegmentPruner):
    """`none`: whole utterances, untouched; the baseline runs the same lines as the others."""

    def __init__(self, blanks: BlankTable | None = None) -> None:
        super().__init__(keep_ratio=1.0)

    def choose(
        self,
        values: Tensor,
        lens: Tensor,
        rows_per_second: int,
        min_seconds: Tensor | float = 0.0,
        ids: Sequence[str] = (),
    ) -> Tensor:
        """Chooses all there is (B, 1)."""
        return torch.ones(len(lens), 1, dtype=torch.bool, device=lens.device)

    def apply(self, kept: Tensor, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Returns what it got."""
        return values, lens


def _in_chunks(values: Tensor, lens: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Parts (B, R, ...) into chunks (B, C, rows, ...), zero behind `lens`; and the rows of each that count (B, C)."""
    num_chunks = -(-values.size(1) // rows)
    padded = F.pad(values, (*[0, 0] * (values.dim() - 2), 0, num_chunks * rows - values.size(1)))
    begins = torch.arange(num_chunks, device=lens.device) * rows
    return padded.view(len(values), num_chunks, rows, *values.shape[2:]), (lens[:, None] - begins).clamp(0, rows)
