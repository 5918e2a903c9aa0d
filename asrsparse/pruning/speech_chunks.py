"""Policies of segment pruning that find the speech of an utterance: all speech is kept, and silence is dropped.

How much is dropped depends on the utterance. `keep_ratio` of the pruner is the least share of its chunks that an
utterance keeps; if it has less speech, it keeps its loudest silence as well.

Shape legend: B utterances, C chunks of the longest, F frames of 10 ms (one row, if rows are longer).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from asrsparse.pruning.chunk_policies import Chunks, LoudestChunks, row_levels
from asrsparse.rates import FEATURES_PER_SECOND

_FLOOR, _PEAK = 0.1, 0.95
"""The shares of an utterance's frames that are quieter than its noise floor, and than its speech."""


@dataclass(frozen=True)
class SpeechChunks:
    """`speech`: all chunks with speech, which is what is louder than a level between the utterance's floor and peak.

    The floor is the level that a tenth of the frames do not reach, and the peak that which 95 % do not. The level
    between them is each utterance's own, so neither loudness nor constant noise matters: noise raises the floor, and
    less is dropped. Frames near speech count as speech, so that soft ends of words stay, and short pauses with them. An
    utterance that is equally loud everywhere is kept whole, since nothing tells whether it is speech.

    Loudness is that of `LoudestChunks`, in dB for waveforms. On log-mel features, where each bin counts alike, speech
    is found better. That the level is relative to percentiles is our decision.

    Args:
        level: How far the level is between floor (0) and peak (1), in [0, 1]; a higher one drops more.
        margin_seconds: How far before and behind speech everything is kept, in seconds, at least 0.

    Raises:
        ValueError: If a number is out of range.
    """

    level: float = 0.4
    margin_seconds: float = 0.05
    needs_blank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.level <= 1.0:
            raise ValueError(
                f"level: got {self.level}, allowed is [0, 1]: where speech begins between the noise floor (0) and the "
                "peak (1) of an utterance."
            )
        if not 0.0 <= self.margin_seconds < float("inf"):
            raise ValueError(f"margin_seconds: got {self.margin_seconds}, allowed are seconds from 0 on.")

    def priorities(self, chunks: Chunks) -> Tensor:
        """Returns infinity for the chunks with speech, and the loudness of the others (B, C)."""
        levels, valid = _frame_levels(chunks)
        if chunks.values.dim() == 3:
            levels = levels.clamp(min=torch.finfo(levels.dtype).tiny).log()
        floor, peak = (_percentile(levels, valid, share) for share in (_FLOOR, _PEAK))
        speech = (levels >= floor + self.level * (peak - floor)) & valid
        reach = round(self.margin_seconds * chunks.rows_per_second / _rows_of_a_frame(chunks))
        around = F.max_pool1d(speech.float()[:, None], 2 * reach + 1, 1, reach).squeeze(1) > 0
        return _speech_first(chunks, around & valid)


@dataclass(frozen=True)
class KaldiVadChunks:
    """`kaldi_vad`: all chunks with speech by the rule of Kaldi's `compute-vad`, with the values of its recipes (sre16).

    A frame is above the threshold if its log-energy is more than `energy_threshold` plus `mean_scale` times the mean
    log-energy of the utterance, and it is speech if that holds for a share of the frames around it. The rule knows the
    absolute loudness, as 16-bit samples have it, so it reads waveforms only (`segments.level=waveform`). Kaldi takes
    energies of overlapping windows of 25 ms; here they are of frames of 10 ms, scaled to the same number of samples.

    Args:
        energy_threshold: The constant part of the threshold, in nats.
        mean_scale: The factor on the mean log-energy, at least 0.
        context: How many frames on each side are looked at, at least 0.
        proportion: The share of the frames looked at that must be above the threshold, in (0, 1].

    Raises:
        ValueError: If a number is out of range, or (in `priorities`) the values are no waveforms.
    """

    energy_threshold: float = 5.5
    mean_scale: float = 0.5
    context: int = 2
    proportion: float = 0.12
    needs_blank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.proportion <= 1.0:
            raise ValueError(f"proportion: got {self.proportion}, allowed is (0, 1].")
        if not (self.mean_scale >= 0.0 and self.context >= 0):
            raise ValueError(
                f"mean_scale and context: got {self.mean_scale} and {self.context}, allowed are numbers from 0 on."
            )

    def priorities(self, chunks: Chunks) -> Tensor:
        """Returns infinity for the chunks with speech, and the loudness of the others (B, C)."""
        if chunks.values.dim() != 3:
            raise ValueError(
                "segments.level: got one where chunks are chosen by features or video, allowed is waveform for "
                "segments=kaldi_vad, which needs absolute loudness. Or take segments=speech."
            )
        power, valid = _frame_levels(chunks)
        energies = (power * 2.0**30 * 0.025 * chunks.rows_per_second).clamp(min=1.0).log()
        mean = (energies * valid).sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True)
        above = (energies > self.energy_threshold + self.mean_scale * mean) & valid
        width = 2 * self.context + 1
        found, looked_at = (
            F.avg_pool1d(frames.double()[:, None], width, 1, self.context).squeeze(1) for frames in (above, valid)
        )
        return _speech_first(chunks, (found >= self.proportion * looked_at) & valid)


def _rows_of_a_frame(chunks: Chunks) -> int:
    return max(1, chunks.rows_per_second // FEATURES_PER_SECOND)


def _frame_levels(chunks: Chunks) -> tuple[Tensor, Tensor]:
    """Returns the mean level of the rows in each frame (B, F), and True for the frames of an utterance (B, F)."""
    rows, levels = _rows_of_a_frame(chunks), row_levels(chunks).flatten(1)
    num_frames = -(-levels.size(1) // rows)
    sums = F.pad(levels, (0, num_frames * rows - levels.size(1))).view(-1, num_frames, rows).sum(dim=2)
    begins = torch.arange(num_frames, device=levels.device) * rows
    counts = (chunks.lens.sum(dim=1, keepdim=True) - begins).clamp(0, rows)
    return sums / counts.clamp(min=1), counts > 0


def _percentile(levels: Tensor, valid: Tensor, share: float) -> Tensor:
    """Returns the level that a share of an utterance's frames do not exceed (B, 1)."""
    place = (share * (valid.sum(dim=1, keepdim=True) - 1)).long()
    return levels.masked_fill(~valid, torch.inf).sort(dim=1).values.gather(1, place)


def _speech_first(chunks: Chunks, speech: Tensor) -> Tensor:
    """Returns priorities (B, C) that keep every chunk with a frame of speech (B, F), and then the loudest."""
    shape = chunks.values.shape[1:3]
    rows = speech.repeat_interleave(_rows_of_a_frame(chunks), dim=1)[:, : shape.numel()]
    has_speech = rows.reshape(-1, *shape).any(dim=2)
    return LoudestChunks().priorities(chunks).masked_fill(has_speech, torch.inf)
