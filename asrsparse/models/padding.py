"""Padding without effect: an ESPnet encoder gives an utterance the same frames alone and in any batch.

Two places of ESPnet's conformer read what stands behind the end of an utterance in a batch with longer ones. The
subsampling counts up to one frame of each utterance as valid that it made of rows behind the end. The depthwise
convolution of each block mixes frames behind the end into the last frames, where an utterance alone has zeros. Here the
former frames are no longer valid, and the latter are zero. No weight is added, moved or renamed.

Self-attention, linear layers and layer norms need nothing. The batch norms of training read whole batches by nature,
padding included; in evaluation they do not.

Shape legend: B utterances, R feature rows of the longest, E encoder frames of the longest, C channels.
"""

from typing import Any

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn


def hide_padding(encoder: AbsEncoder) -> None:
    """Makes an encoder compute the same for an utterance whatever the other utterances of its batch are.

    It registers hooks, which copies of the encoder have too, and which stay when layers get smaller (`masks.compact`).

    Args:
        encoder: ESPnet's conformer or transformer; the convolutions of other encoders are left as they are.
    """
    if not isinstance(encoder.embed, nn.Sequential):
        encoder.embed.register_forward_hook(_whole_frames)
    for layer in encoder.encoders:
        if getattr(layer, "conv_module", None) is not None:
            padding = _PaddingOfBlock()
            layer.register_forward_pre_hook(padding.find)
            layer.conv_module.depthwise_conv.register_forward_pre_hook(padding.zero)


def _whole_frames(embed: nn.Module, inputs: Any, output: Any) -> Any:
    """Marks only those frames as valid that are made of valid rows alone: as many as an utterance has alone."""
    is_row, (frames, _) = inputs[1], output
    if is_row is None:
        return output
    return frames, frames_of_rows(embed, is_row)


def frames_of_rows(embed: nn.Module, is_row: Tensor) -> Tensor:
    """Returns which frames of a subsampling are made of an utterance's rows alone.

    Args:
        embed: One of ESPnet's subsamplings by convolutions in two dimensions.
        is_row: True for rows of the utterance (B, 1, R).

    Returns:
        True for frames of the utterance (B, 1, E).

    Example:
        >>> from espnet.nets.pytorch_backend.transformer.subsampling import Conv2dSubsampling
        >>> is_row = torch.arange(11) < torch.tensor([[[11]], [[10]]])
        >>> frames_of_rows(Conv2dSubsampling(80, 8, 0.0), is_row).tolist()
        [[[True, True]], [[True, False]]]
    """
    for layer in embed.conv.children():  # type: ignore[union-attr]  # ESPnet's
        if isinstance(layer, nn.Conv2d):
            is_row = is_row[:, :, layer.kernel_size[0] - 1 :: layer.stride[0]]
    return is_row


class _PaddingOfBlock:
    """Where the padding of the current batch is, passed from a conformer block to its depthwise convolution.

    ESPnet's block knows which frames are valid, but does not pass it to its convolution. One object belongs to one
    block: both hooks are its methods, so that a copy of the block has a copy of the object.
    """

    def __init__(self) -> None:
        self.is_frame: Tensor | None = None

    def find(self, block: nn.Module, inputs: Any) -> None:
        """Takes over which frames are valid (B, 1, E), from the inputs of a block."""
        self.is_frame = inputs[1]

    def zero(self, convolution: nn.Module, inputs: Any) -> Any:
        """Zeroes padding in the input (B, C, E) of a depthwise convolution, then forgets where it was."""
        is_frame, self.is_frame = self.is_frame, None
        return None if is_frame is None else (torch.masked_fill(inputs[0], ~is_frame, 0.0),)
