"""Streams: the path of one modality through a recogniser, from the batch to encoder frames.

    batch.of(modality) -> [time pruning] -> front-end -> [time pruning] -> SpecAugment -> encoder

The recogniser is a stream itself; a model that reads audio and video has a `VideoStream` too, and the functions here
encode both.

Shape legend: B utterances, F feature rows, D features, E encoder frames, H model width.
"""

from typing import Any, Protocol

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.specaug.abs_specaug import AbsSpecAug

from asrsparse.data.batch import Batch
from asrsparse.models.consistency import in_views
from asrsparse.models.frontends import Frontend
from asrsparse.models.fusion import Fusion
from asrsparse.models.padding import hide_padding
from asrsparse.models.time_pruning import TimePruning
from asrsparse.rates import FRAMES_PER_SECOND


class Stream(Protocol):
    """Any module with the layers of a stream.

    Attributes:
        training: Whether SpecAugment is on.
        frontend: Turns one modality into feature rows.
        specaug: ESPnet's SpecAugment, used in training only; None for none.
        encoder: An ESPnet encoder on the rows.
    """

    training: bool
    frontend: Any
    specaug: Any
    encoder: Any


class VideoStream(torch.nn.Module):
    """The second stream of a recogniser that reads audio and video.

    Args:
        frontend: Turns video into feature rows.
        encoder: An ESPnet encoder on them, without subsampling and of the same width as that of audio.
        fusion: Makes one sequence of the frames of both encoders.
        specaug: ESPnet's SpecAugment, used in training only; None for none.

    Raises:
        ValueError: If the encoder subsamples rows that come every 40 ms.
    """

    def __init__(
        self, frontend: Frontend, encoder: AbsEncoder, fusion: Fusion, specaug: AbsSpecAug | None = None
    ) -> None:
        super().__init__()
        self.frontend = frontend
        self.specaug = specaug
        self.encoder = encoder
        self.fusion = fusion
        prepare_encoder(self)


def encode_stream(
    stream: Stream, batch: Batch, pruning: TimePruning, num_views: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encodes what pruning leaves of each utterance, in one modality.

    Args:
        stream: The layers of the modality.
        batch: The utterances.
        pruning: The segment pruning of the batch.
        num_views: How often each utterance is encoded, with new masks by SpecAugment.

    Returns:
        Encoder frames (views x B, E, H), one per 40 ms, and their numbers; all utterances of a view, then all of the
        next.
    """
    features, lens = pruned_features(stream.frontend, batch, pruning)
    features, lens = in_views(features, num_views), in_views(lens, num_views)
    if stream.training and stream.specaug is not None:
        features, lens = stream.specaug(features, lens)
    if not _subsamples(stream.encoder):
        features, lens = pruning.cut("frontend", features, lens, stream.frontend.output_rate)
        encoded, encoded_lens, _ = stream.encoder(features, lens)
        return encoded, encoded_lens
    with pruning.frames_of(stream.encoder.embed):
        encoded, encoded_lens, _ = stream.encoder(features, lens)
    return encoded, encoded_lens


def pruned_features(frontend: Frontend, batch: Batch, pruning: TimePruning) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the feature rows of what pruning leaves of each utterance, in one modality.

    At the level `feature` a learned front-end already reads pruned input, since its rows take long to compute.

    Returns:
        Feature rows (B, F, D) and their numbers (B,).
    """
    values, lens = pruning.cut("waveform", *batch.of(frontend.reads), frontend.input_rate)
    if frontend.learned:
        return frontend(*pruning.cut("feature", values, lens, frontend.input_rate))
    return pruning.cut("feature", *frontend(values, lens), frontend.output_rate)


def prepare_encoder(stream: Stream) -> None:
    """Checks that a stream has a frame per 40 ms, starts its residual stream in float32, and hides padding.

    Raises:
        ValueError: If its encoder subsamples rows that come every 40 ms.
    """
    if stream.frontend.output_rate == FRAMES_PER_SECOND and _subsamples(stream.encoder):
        raise ValueError(
            f"encoder: got the input layer {type(stream.encoder.embed).__name__} behind "
            f"{type(stream.frontend).__name__}, which gives {FRAMES_PER_SECOND} rows a second; allowed is "
            "input_layer=linear, which keeps them all."
        )
    stream.encoder.embed.register_forward_hook(_residual_in_float32)
    hide_padding(stream.encoder)


def _subsamples(encoder: AbsEncoder) -> bool:
    """Whether an encoder begins with ESPnet's convolutions in time, and not with a linear layer on each row."""
    return not isinstance(encoder.embed, torch.nn.Sequential)


def _residual_in_float32(embed: torch.nn.Module, inputs: Any, output: Any) -> Any:
    """Starts the encoder's residual stream in float32, also under autocast.

    The subsampling ends in a linear layer, whose output autocast leaves in bf16; all blocks would then be added in bf16
    to values that the positional encoding has scaled by the square root of H, and their outputs would be rounded away.
    """
    if isinstance(embed, torch.nn.Sequential):
        embedded, positions = output
        return embedded.float(), positions
    (embedded, positions), pad_mask = output
    return (embedded.float(), positions), pad_mask
