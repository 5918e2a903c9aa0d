"""Visual front-ends: video of the mouth region -> feature rows, one for each video frame.

Both read each frame with the two before and the two behind it, and reduce these by residual blocks to one row. A
convolution in two dimensions over the five pictures of a frame's neighbourhood computes the same as a convolution in
three dimensions of depth five. So only frames that belong to an utterance are computed: padding reaches neither the
neighbouring frames nor the statistics of batch norms. In training batch norms depend on the whole batch.

Shape legend: B utterances, V video frames of the longest, N frames of all utterances, H rows, W columns, C channels,
D features.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from asrsparse.rates import FRAMES_PER_SECOND

CROP = 88
"""The rows and columns of the mouth region that a model reads."""

_NEIGHBOURS = 5


class VisualFrontend(nn.Module):
    """The common steps of visual front-ends; the layers are given.

    Args:
        stem: The first layers: neighbourhoods (N, 5, H, W) -> channels (N, C, H', W').
        trunk: The other layers: channels -> rows (N, D).
        flip: The probability, in training, that the mouth region of an utterance is mirrored.
        shrink: The factor by which pictures are made smaller first.

    Raises:
        ValueError: If `flip` is no probability.
    """

    reads: ClassVar[str] = "video"
    learned: ClassVar[bool] = True
    input_rate: ClassVar[int] = FRAMES_PER_SECOND
    output_rate: ClassVar[int] = FRAMES_PER_SECOND

    def __init__(self, stem: nn.Module, trunk: nn.Module, flip: float, shrink: int = 1) -> None:
        super().__init__()
        if not 0.0 <= flip <= 1.0:
            raise ValueError(f"flip: got {flip}, allowed is [0, 1].")
        self.crop = CropAndFlip(CROP, flip)
        self.shrink = shrink
        self.stem = stem
        self.trunk = trunk

    def forward(self, video: Tensor, video_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Computes a feature row for each video frame.

        Args:
            video: The brightness of the mouth region (B, V, 96, 96), uint8.
            video_lens: Video frames of each utterance (B,).

        Returns:
            Rows (B, V, D), zero behind their lengths, and their lengths (B,).
        """
        pictures = F.avg_pool2d(normalise_videos(self.crop(video), video_lens), self.shrink)
        belongs = torch.arange(video.size(1), device=video.device) < video_lens[:, None]
        places = belongs.flatten().nonzero().squeeze(1)
        computed = self.trunk(self.stem(_neighbourhoods(pictures, places)))
        rows = computed.new_zeros(belongs.numel(), computed.size(1)).index_copy(0, places, computed)
        return rows.view(*belongs.shape, -1), video_lens


class Conv3dResNet18(VisualFrontend):
    """A convolution over space and time, then ResNet-18 frame by frame, as in Auto-AVSR (arXiv 2303.14307).

    11 M weights, for GPUs. Activations are ReLU.

    Args:
        output_size: The number of features D, which are the channels of the last stage; the stages before it have an
            eighth, a quarter and a half of them.
        flip: The probability, in training, that the mouth region of an utterance is mirrored.

    Raises:
        ValueError: If `output_size` is not a multiple of 8, or `flip` is no probability.
    """

    def __init__(self, output_size: int, flip: float) -> None:
        if output_size % 8:
            raise ValueError(f"output_size: got {output_size}, allowed are multiples of 8.")
        width = output_size // 8
        stem = _stem(width, kernel_size=7)
        stages = [_stage(width, width, 1, 2)]
        stages += [_stage(width * size, 2 * width * size, 2, 2) for size in (1, 2, 4)]
        super().__init__(stem, nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), flip)


class SmallVisualFrontend(VisualFrontend):
    """A small visual front-end for CPUs: 0.15 M weights, pictures of half the size, two stages of one residual block.

    Unlike ResNet-18 it does not average over the whole picture, but over each ninth of it: few layers need to know the
    place of what they find.

    Args:
        output_size: The number of features D.
        width: The number of channels of the first layer; the stages have twice and four times as many.
        flip: The probability, in training, that the mouth region of an utterance is mirrored.

    Raises:
        ValueError: If `flip` is no probability.
    """

    def __init__(self, output_size: int, width: int, flip: float) -> None:
        stages = [_stage(width, 2 * width, 2, 1), _stage(2 * width, 4 * width, 2, 1)]
        projection = nn.Linear(9 * 4 * width, output_size)
        trunk = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(3), nn.Flatten(), projection)
        super().__init__(_stem(width, kernel_size=5), trunk, flip, shrink=2)


class CropAndFlip(nn.Module):
    """Cuts the same square out of all pictures of an utterance; mirrors all of them or none.

    In training the place of the square is drawn for each utterance; else it is the middle, and nothing is mirrored.

    Args:
        size: The number of rows and columns of the square.
        flip: The probability of mirroring.
    """

    def __init__(self, size: int, flip: float) -> None:
        super().__init__()
        self.size = size
        self.flip = flip

    def forward(self, video: Tensor) -> Tensor:
        """Cuts pictures (B, V, H, W) to (B, V, size, size).

        Raises:
            ValueError: If they are smaller.
        """
        rest = torch.tensor([video.size(2) - self.size, video.size(3) - self.size])
        if rest.min() < 0:
            raise ValueError(
                f"Video frames are {video.size(2)} x {video.size(3)}, the model crops {self.size} x {self.size}; "
                "allowed are mouth regions of at least that size. Run `asrsparse prepare` again, which stores 96 x 96."
            )
        if not self.training:
            top, left = (rest // 2).tolist()
            return video[:, :, top : top + self.size, left : left + self.size]
        # Drawn on the CPU, so that no number waits for a GPU.
        places = (torch.rand(len(video), 2) * (rest + 1)).long().tolist()
        flips = (torch.rand(len(video)) < self.flip).tolist()
        cropped = [
            pictures[:, top : top + self.size, left : left + self.size]
            for pictures, (top, left) in zip(video, places, strict=True)
        ]
        return torch.stack([p.flip(2) if flip else p for p, flip in zip(cropped, flips, strict=True)])


def normalise_videos(video: Tensor, video_lens: Tensor, floor: float = 1.0) -> Tensor:
    """Brings the brightness of every utterance to zero mean and unit variance over its own frames, in float32.

    So the overall brightness of light and skin has no effect.

    Args:
        video: The brightness (B, V, H, W), of any type.
        video_lens: Video frames of each utterance (B,).
        floor: The smallest standard deviation to divide by, in steps of brightness: black videos stay zero.

    Returns:
        The normalised brightness (B, V, H, W), zero behind `video_lens`.

    Example:
        >>> video = torch.tensor([10, 30, 90], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> normalise_videos(video, torch.tensor([2])).flatten().tolist()
        [-1.0, 1.0, 0.0]
    """
    belongs = (torch.arange(video.size(1), device=video.device) < video_lens[:, None])[:, :, None, None]
    count = (video_lens * video.size(2) * video.size(3))[:, None, None, None]
    values = video.float()
    mean = (values * belongs).sum(dim=(1, 2, 3), keepdim=True) / count
    centred = (values - mean) * belongs
    deviation = (centred.square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt().clamp(min=floor)
    return centred / deviation


def _neighbourhoods(pictures: Tensor, places: Tensor) -> Tensor:
    """Returns frames with their neighbours; before the first frame of an utterance and behind its last are zeros.

    Args:
        pictures: The video (B, V, H, W), zero behind the utterances.
        places: The numbers of the wanted frames among all B * V (N,).

    Returns:
        The neighbourhoods (N, 5, H, W), with neighbours next to each other in memory, which makes convolutions faster.
    """
    reach = _NEIGHBOURS // 2
    padded = F.pad(pictures, (0, 0, 0, 0, reach, reach))
    num_frames = pictures.size(1)
    stacked = torch.stack([padded[:, n : n + num_frames] for n in range(_NEIGHBOURS)], dim=-1)
    return stacked.flatten(0, 1).index_select(0, places).permute(0, 3, 1, 2)


def _stem(width: int, kernel_size: int) -> nn.Sequential:
    """Returns the first layers, which halve the picture twice."""
    return nn.Sequential(
        nn.Conv2d(_NEIGHBOURS, width, kernel_size, stride=2, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _stage(inputs: int, width: int, stride: int, num_blocks: int) -> nn.Sequential:
    """Returns residual blocks, the first of which shrinks the picture by the stride."""
    first = BasicBlock(inputs, width, stride)
    if stride != 1 or inputs != width:
        shortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)
        first.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))
    return nn.Sequential(first, *[BasicBlock(width, width) for _ in range(num_blocks - 1)])
