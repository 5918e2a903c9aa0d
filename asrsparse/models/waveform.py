"""ResNet-1D: waveform -> feature rows, one for each video frame.

Shape legend: B utterances, T samples of the longest, V video frames of the longest, C channels, L places of the longest
between layers, D features.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asrsparse.models.frontends import normalise_utterances
from asrsparse.rates import FRAMES_PER_SECOND, SAMPLING_RATE

_RATE_UNIT = 4 * 8 * FRAMES_PER_SECOND
"""The stem shortens by 4 and the stages by 8: a frame must have a whole number of places behind all of them."""


class ResNet1d(nn.Module):
    """ResNet-18 in one dimension on the waveform, averaged to 25 rows a second, as in Auto-AVSR (arXiv 2303.14307).

    Utterances are padded with silence to whole video frames, so that each row belongs to one frame of the video. Values
    behind the end of an utterance are zero at each layer: in evaluation mode no row depends on the other utterances of
    the batch. In training batch norms depend on the whole batch, with the zeros behind the ends.

    Args:
        output_size: The number of features D, which are the channels of the last stage; the stages before it have an
            eighth, a quarter and a half of them.
        sampling_rate: Samples per second, a multiple of 800, so that a video frame is a whole number of places at each
            layer.

    Raises:
        ValueError: If `output_size` is not a multiple of 8, or the sampling rate of 800.
    """

    reads: ClassVar[str] = "audio"
    learned: ClassVar[bool] = True
    output_rate: ClassVar[int] = FRAMES_PER_SECOND

    def __init__(self, output_size: int, sampling_rate: int = SAMPLING_RATE) -> None:
        super().__init__()
        if output_size % 8:
            raise ValueError(f"output_size: got {output_size}, allowed are multiples of 8.")
        if sampling_rate % _RATE_UNIT:
            raise ValueError(f"sampling_rate: got {sampling_rate}, allowed are multiples of {_RATE_UNIT} Hz.")
        self.input_rate = sampling_rate
        width = output_size // 8
        # 5 ms every quarter of one: the padding makes T / 4 places of T samples.
        kernel_size = sampling_rate // 200
        self.stem = nn.Conv1d(1, width, kernel_size, stride=4, padding=kernel_size // 2 - 2, bias=False)
        self.norm = nn.BatchNorm1d(width)
        stages = [(width, width, 1)] + [(width * size, 2 * width * size, 2) for size in (1, 2, 4)]
        self.blocks = nn.ModuleList()
        for inputs, outputs, stride in stages:
            self.blocks += [BasicBlock1d(inputs, outputs, stride), BasicBlock1d(outputs, outputs)]

    def forward(self, audio: Tensor, audio_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Computes a feature row for each video frame.

        Args:
            audio: Waveforms (B, T), zero behind `audio_lens`.
            audio_lens: Samples of each utterance (B,).

        Returns:
            Rows (B, V, D), zero behind their lengths, and their lengths (B,), in which an incomplete frame counts too.
        """
        samples = self.input_rate // FRAMES_PER_SECOND
        lens = (audio_lens + samples - 1) // samples
        num_frames = -(-audio.size(1) // samples)
        waves = normalise_utterances(audio.float().unsqueeze(-1), audio_lens).squeeze(-1)
        waves = F.pad(waves, (0, num_frames * samples - audio.size(1)))
        values = _silence(torch.relu(self.norm(self.stem(waves.unsqueeze(1)))), lens, num_frames)
        for block in self.blocks:
            values = block(values, lens, num_frames)
        return F.adaptive_avg_pool1d(values, num_frames).transpose(1, 2), lens


class BasicBlock1d(nn.Module):
    """Two convolutions and a shortcut: ResNet's basic block in one dimension.

    Args:
        inputs: The number of channels of the input.
        outputs: The number of channels of the output.
        stride: The factor by which the output is shorter.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv1d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm1d(outputs))

    def forward(self, values: Tensor, lens: Tensor, num_frames: int) -> Tensor:
        """Computes the output of the block.

        Args:
            values: The input (B, C, L).
            lens: Video frames of each utterance (B,).
            num_frames: The number of video frames V, of which L is a multiple.

        Returns:
            The output (B, outputs, L / stride), zero behind the utterances.
        """
        inner = _silence(torch.relu(self.bn1(self.conv1(values))), lens, num_frames)
        added = self.bn2(self.conv2(inner)) + self.downsample(values)
        return _silence(torch.relu(added), lens, num_frames)


def _silence(values: Tensor, lens: Tensor, num_frames: int) -> Tensor:
    """Zeroes the values behind utterances, which a batch norm moves away from zero."""
    places = values.size(2) // num_frames
    behind = torch.arange(values.size(2), device=values.device) >= (places * lens)[:, None]
    return values.masked_fill(behind.unsqueeze(1), 0.0)
