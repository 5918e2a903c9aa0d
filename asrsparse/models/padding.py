"""Padding that no utterance sees: an ESPnet encoder gives it the same frames alone and in any batch.

Two places of ESPnet's conformer look behind the end of an utterance, where others of its batch go on. The subsampling
counts frames as valid that it made of rows behind the end, up to one for each utterance; and the depthwise convolution
of each block takes in its neighbours' frames, where alone it finds zeros. Here the former frames are no longer valid,
and the latter are zero. No weight is added, moved or renamed.

Self-attention, linear layers and layer norms need nothing. The batch norms of training see whole batches by nature,
padding included; in evaluation they do not.

Shape legend: B utterances, R feature rows of the longest, E encoder frames of the longest, C channels.
"""

from typing import Any

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn


def hide_padding(encoder: AbsEncoder) -> None:
    """Lets an encoder compute the same for an utterance whoever shares its batch.

    The hooks are plain functions, so that copies of the encoder have them too, and stay when layers get smaller
    (`masks.compact`).

    Args:
        encoder: ESPnet's conformer or transformer; the convolutions of other encoders are left as they are.
    """
    if not isinstance(encoder.embed, nn.Sequential):
        encoder.embed.register_forward_hook(_whole_frames)
    for layer in encoder.encoders:
        if getattr(layer, "conv_module", None) is not None:
            layer.conv_module.depthwise_conv.is_frame = None
            layer.register_forward_pre_hook(_tell_convolution)
            layer.conv_module.depthwise_conv.register_forward_pre_hook(_silence)


def _whole_frames(embed: nn.Module, inputs: Any, output: Any) -> Any:
    """Takes those frames for valid that saw valid rows only, as many as the utterance has alone."""
    is_row, (frames, _) = inputs[1], output
    if is_row is None:
        return output
    return frames, frames_of_rows(embed, is_row)


def frames_of_rows(embed: nn.Module, is_row: Tensor) -> Tensor:
    """Which frames of a subsampling are made of an utterance's rows alone.

    Args:
        embed: One of ESPnet's subsamplings by convolutions in two dimensions.
        is_row: True for rows of the utterance (B, 1, R).

    Returns:
        (B, 1, E).

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


def _tell_convolution(layer: nn.Module, inputs: Any) -> None:
    """ESPnet's blocks know which frames are valid, and do not tell their convolution."""
    layer.conv_module.depthwise_conv.is_frame = inputs[1]  # type: ignore[union-attr]


def _silence(convolution: nn.Module, inputs: Any) -> Any:
    """Zeroes padding (B, C, E), as what stands behind the end of an utterance that is alone; then forgets it."""
    is_frame: Any = convolution.is_frame
    convolution.is_frame = None  # type: ignore[assignment]
    return None if is_frame is None else (torch.masked_fill(inputs[0], ~is_frame, 0.0),)
