"""Policies of segment pruning, which say which chunks of an utterance to keep first.

The time of an utterance is divided into chunks of equal length, see `SegmentPruner`. DDP-ASR (arXiv 2406.18373), which
has the idea of segments and frames, says little about how to choose them; to choose by energy or by blanks is our
decision.

Shape legend: B utterances, R rows of the longest (audio samples, feature rows, or video frames of H x W), C chunks of
the longest, S slots of 40 ms in C chunks.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from asrsparse.rates import FEATURES_PER_SECOND, FRAMES_PER_SECOND


@dataclass(frozen=True)
class Chunks:
    """The chunks of a batch, as a policy sees them.

    Attributes:
        values: The chunks (B, C, rows of a chunk, ...), zero behind the ends of the utterances.
        lens: Rows of each chunk that belong to the utterance (B, C).
        blank: Log-odds of CTC's blank at the last visit, for each slot of 40 ms in the C chunks (B, S), minus infinity
            for an utterance that was trained on too seldom; None for policies that do not need it.
        seeds: A seed for the random draws of each utterance (B,).
        rows_per_second: Rows of the values per second.
    """

    values: Tensor
    lens: Tensor
    blank: Tensor | None = None
    seeds: NDArray[np.uint64] | None = None
    rows_per_second: int = FEATURES_PER_SECOND


class ChunkPolicy(Protocol):
    """The interface of a policy, which says which chunks to keep first."""

    @property
    def needs_blank(self) -> bool:
        """Whether the policy needs the log-odds of the model's blanks."""

    def priorities(self, chunks: Chunks) -> Tensor:
        """Computes the priorities of chunks: the highest are kept first, and infinitely high ones are always kept.

        Args:
            chunks: The chunks of a batch.

        Returns:
            Priorities (B, C); the values behind an utterance's last chunk do not matter.
        """


@dataclass(frozen=True)
class RandomChunks:
    """`random`: chunks drawn at random, with the seeds of the utterances and no global generator."""

    needs_blank: ClassVar[bool] = False

    def priorities(self, chunks: Chunks) -> Tensor:
        """Draws uniform numbers (B, C); those of an utterance do not depend on the others in the batch."""
        assert chunks.seeds is not None
        num_chunks = chunks.lens.size(1)
        drawn = [np.random.default_rng(seed).random(num_chunks, dtype=np.float32) for seed in chunks.seeds]
        return torch.from_numpy(np.stack(drawn)).to(chunks.lens.device)


@dataclass(frozen=True)
class LoudestChunks:
    """`energy`: the loudest chunks, so that pauses are dropped first; of video the chunks with most motion.

    The loudness of a waveform is its mean square. That of feature rows is their mean, which for log-mel energies is a
    mean level. The mean is over the rows that belong to the utterance.
    """

    needs_blank: ClassVar[bool] = False

    def priorities(self, chunks: Chunks) -> Tensor:
        """Computes the loudness, or the motion, of each chunk (B, C)."""
        return row_levels(chunks).sum(dim=2) / chunks.lens.clamp(min=1)


def row_levels(chunks: Chunks) -> Tensor:
    """Computes the level of each row (B, C, rows of a chunk): its square, its mean, or the motion in it."""
    return _LEVELS[chunks.values.dim()](chunks)


def _squares(chunks: Chunks) -> Tensor:
    return chunks.values.float().square()


def _means(chunks: Chunks) -> Tensor:
    return chunks.values.float().mean(dim=3)


def _motions(chunks: Chunks) -> Tensor:
    moved = motion(chunks.values.flatten(1, 2), chunks.lens.sum(dim=1))
    return moved.view(chunks.values.shape[:3])


_LEVELS = {3: _squares, 4: _means, 5: _motions}
"""The functions that compute the level of each row (B, C, rows of a chunk), by the number of dimensions of the chunks:
3 for waveforms, 4 for feature rows, 5 for video."""


def motion(video: Tensor, lens: Tensor) -> Tensor:
    """Computes the motion in video frames: the mean absolute difference of the pixels to the frame before.

    For the first frame it is the difference to the next one. Motion of the whole head counts, too.

    Args:
        video: Brightness (B, R, H, W).
        lens: Frames of each utterance (B,).

    Returns:
        The motion in each frame (B, R, 1), in the unit of `video`; zero behind `lens`.

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
    """`blank`: the chunks with the lowest log-odds of CTC's blank when the utterance was last trained on.

    A trained model outputs labels as spikes, and between the labels of a word it is as sure of blanks as in a pause.
    So the log-odds are averaged over the surroundings of each slot. An utterance that was trained on too seldom is kept
    whole.

    Args:
        context_seconds: How far before and behind each slot of 40 ms the log-odds are averaged.
    """

    context_seconds: float = 0.3
    needs_blank: ClassVar[bool] = True

    def priorities(self, chunks: Chunks) -> Tensor:
        """Returns the negative of the averaged log-odds of blanks in each chunk (B, C)."""
        assert chunks.blank is not None
        reach = round(self.context_seconds * FRAMES_PER_SECOND)
        around = F.avg_pool1d(chunks.blank[:, None], 2 * reach + 1, 1, reach, count_include_pad=False)
        return -around.view(*chunks.lens.shape, -1).mean(dim=2)
