"""Segment and frame pruning: which stretches of an utterance a training step hears.

An utterance is cut in chunks of equal length; some are kept, and joined in their order. Chunks are stretches of time,
so that all that belongs to an utterance (samples, feature rows, video frames) can lose the same ones. Segments are
chunks of some tenths of a second, frames are chunks of one row. The idea is that of DDP-ASR (arXiv 2406.18373); of how
to choose little is known from there, and choosing by energy is ours.

Shape legend: B utterances, R rows of the longest (samples, feature rows, video frames), C chunks of the longest.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class ChunkPolicy(Protocol):
    """Says which chunks are worth most."""

    def priorities(self, chunks: Tensor, chunk_lens: Tensor) -> Tensor:
        """Rates chunks; the highest are kept.

        Args:
            chunks: (B, C, rows of a chunk, ...), zero behind the ends of the utterances.
            chunk_lens: Rows of each chunk that belong to the utterance (B, C).

        Returns:
            Priorities (B, C); what stands behind an utterance's last chunk does not matter.
        """


@dataclass(frozen=True)
class RandomChunks:
    """`random`: any chunk as well as another, drawn from torch's global generator."""

    def priorities(self, chunks: Tensor, chunk_lens: Tensor) -> Tensor:
        """Draws (B, C) uniform numbers."""
        return torch.rand(chunk_lens.shape, device=chunks.device)


@dataclass(frozen=True)
class LoudestChunks:
    """`energy`: the loudest chunks; pauses go first.

    The loudness of waveforms is their mean square, that of feature rows their mean, which for log-mel energies is a
    mean level; both over the rows that belong to the utterance.
    """

    def priorities(self, chunks: Tensor, chunk_lens: Tensor) -> Tensor:
        """Measures the loudness of each chunk (B, C)."""
        levels = chunks.float().square() if chunks.dim() == 3 else chunks.float().flatten(3).mean(dim=3)
        return levels.sum(dim=2) / chunk_lens.clamp(min=1)


@dataclass(frozen=True)
class SegmentPruner:
    """Keeps a share of each utterance's time.

    Args:
        keep_ratio: The share of the chunks to keep, in (0, 1]; an utterance keeps more where its labels need it.
        chunk_seconds: Length of a chunk. A multiple of 0.04 s keeps 25 Hz video and subsampled audio in step.
        policy: Which chunks are worth most.

    Raises:
        ValueError: If a number is out of range.

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

    keep_ratio: float = 0.7
    chunk_seconds: float = 0.2
    policy: ChunkPolicy = field(default_factory=LoudestChunks)

    def __post_init__(self) -> None:
        if not 0.0 < self.keep_ratio <= 1.0:
            raise ValueError(
                f"segments.keep_ratio: got {self.keep_ratio}, allowed is (0, 1]: the share of an utterance's time that "
                "a step hears. For all of it use segments=none."
            )
        if not self.chunk_seconds > 0.0:
            raise ValueError(f"segments.chunk_seconds: got {self.chunk_seconds}, allowed is above 0.")

    def choose(self, values: Tensor, lens: Tensor, rows_per_second: int, min_seconds: Tensor | float = 0.0) -> Tensor:
        """Chooses the chunks to keep.

        Args:
            values: What the policy looks at (B, R) or (B, R, ...), zero behind `lens`.
            lens: Rows of each utterance (B,).
            rows_per_second: Rows that make a second of `values`.
            min_seconds: The least that each utterance keeps (B,), or all of them; one that is shorter is kept whole.

        Returns:
            True for the chunks to keep (B, C); False behind the end of an utterance.
        """
        rows = self._rows_of_a_chunk(rows_per_second)
        chunks, chunk_lens = _in_chunks(values, lens, rows)
        num_chunks = (chunk_lens > 0).sum(dim=1)
        # One more chunk than the least, since the last one of an utterance may have few rows.
        least = torch.ceil(torch.as_tensor(min_seconds, device=lens.device) * rows_per_second / rows) + 1
        wanted = torch.maximum(torch.round(self.keep_ratio * num_chunks), least)
        priorities = self.policy.priorities(chunks, chunk_lens).masked_fill(chunk_lens == 0, -torch.inf)
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

    def _rows_of_a_chunk(self, rows_per_second: int) -> int:
        rows = round(self.chunk_seconds * rows_per_second)
        if rows < 1 or abs(rows - self.chunk_seconds * rows_per_second) > 1e-6 * rows_per_second:
            raise ValueError(
                f"segments.chunk_seconds: got {self.chunk_seconds}, allowed are multiples of {1 / rows_per_second:g} "
                f"s, the time of one of the {rows_per_second} rows a second."
            )
        return rows


def _in_chunks(values: Tensor, lens: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Parts (B, R, ...) into chunks (B, C, rows, ...), zero behind `lens`; and the rows of each that count (B, C)."""
    num_chunks = -(-values.size(1) // rows)
    padded = F.pad(values, (*[0, 0] * (values.dim() - 2), 0, num_chunks * rows - values.size(1)))
    begins = torch.arange(num_chunks, device=lens.device) * rows
    return padded.view(len(values), num_chunks, rows, *values.shape[2:]), (lens[:, None] - begins).clamp(0, rows)
