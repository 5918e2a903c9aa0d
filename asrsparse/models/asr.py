"""The recogniser: front-end -> ESPnet conformer -> CTC and attention losses, one per utterance.

Its front-end reads audio or video; with a `VideoStream` it reads both. Attributes carry ESPnet's names (`encoder`,
`decoder`, `ctc`), so that a trained model opens in ESPnet.

Shape legend: B utterances, E encoder frames, H model width, U tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.transformer.add_sos_eos import add_sos_eos
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.torch_utils.initialize import initialize

from asrsparse.data.batch import PADDING_TOKEN, Batch
from asrsparse.models.consistency import NUM_VIEWS, consistency_losses, in_views, mean_of_views
from asrsparse.models.dropout import use_byte_dropout
from asrsparse.models.frontends import Frontend
from asrsparse.models.residual import add_layer_scale, scale_residual_branches
from asrsparse.models.streams import VideoStream, encode_stream, prepare_encoder
from asrsparse.models.time_pruning import SEGMENT_LEVELS, TimePruning
from asrsparse.pruning import KeepAllTime, SegmentPruner
from asrsparse.rates import FRAMES_PER_SECOND

BLANK = 0
"""The token of CTC's blank."""


@dataclass
class Losses:
    """The losses of a batch, each divided by the utterance's own number of tokens.

    Attributes:
        total: The loss to train on and to score by (B,): CTC and attention, mixed by the CTC weight; the consistency
            loss of two views is part of it.
        ctc: The CTC loss (B,).
        attention: The label-smoothed cross-entropy of the decoder (B,); zero without a decoder.
        kept_share: The share of the batch's time that segment pruning kept, in (0, 1].
    """

    total: torch.Tensor
    ctc: torch.Tensor
    attention: torch.Tensor
    kept_share: float = 1.0


def best_path(log_probs: torch.Tensor) -> list[int]:
    """Decodes by CTC alone: the likeliest token of each frame, repeats merged, blanks dropped (Graves et al. 2006).

    Args:
        log_probs: The log probabilities of the tokens in each frame (E, V).

    Example:
        >>> best_path(torch.eye(3)[[1, 1, 0, 1, 2, 2]])
        [1, 1, 2]
    """
    best = log_probs.argmax(dim=-1)
    return [token for token in torch.unique_consecutive(best).tolist() if token != BLANK]


class ASRModel(torch.nn.Module):
    """A hybrid CTC/attention recogniser that returns its losses per utterance.

    ESPnet's `CTC(reduce=False)` divides by the batch size, so a loss would depend on who shared the batch; here each is
    divided by the utterance's own number of tokens.

    Args:
        vocab_size: The number of tokens V; token 0 is the blank, the last one starts and ends sentences.
        frontend: Turns audio or video into feature rows.
        encoder: An ESPnet encoder on those rows.
        ctc_weight: The share of the CTC loss in the total, in [0, 1]; 1 needs no decoder.
        label_smoothing: The label smoothing of the decoder's cross-entropy, in [0, 1).
        decoder: An ESPnet decoder; None trains by CTC alone.
        specaug: ESPnet's SpecAugment, used in training only; None for none.
        segments: Chooses the chunks of time of each utterance that training keeps; None keeps all time.
        segments_level: The place where the other chunks are cut away: `waveform`, `feature`, or `frontend`, which is
            behind the subsampling.
        layer_scale: The initial value of the learnable factors on the residual branches, positive, see
            `add_layer_scale`; None for no such factors.
        residual_scale: The factor on the initial weights of the last layer of each residual branch, at least 0, see
            `scale_residual_branches`; 1 leaves them.
        video: The second stream of a model that reads audio and video; None for a model of one modality.
        consistency: The weight alpha of the consistency loss beside the CTC loss (CR-CTC). With it, training sees two
            views of each utterance: the same chunks of time, with masks by SpecAugment, dropout and modality dropout
            drawn for each. Losses are the means of both views. None trains on one view.

    Attributes:
        modalities: What the model reads of a batch: `audio`, `video` or both.
        num_views: The views of each utterance that a training step encodes, 1 or 2.

    Raises:
        ValueError: If a value is outside its range, or residual branches are to be scaled that are not known, or the
            chunks of `segments` are no whole numbers of video frames, or two views would not be in step.
    """

    def __init__(
        self,
        vocab_size: int,
        frontend: Frontend,
        encoder: AbsEncoder,
        ctc_weight: float,
        label_smoothing: float,
        decoder: AbsDecoder | None = None,
        specaug: AbsSpecAug | None = None,
        segments: SegmentPruner | None = None,
        segments_level: str = "feature",
        layer_scale: float | None = None,
        residual_scale: float = 1.0,
        video: VideoStream | None = None,
        consistency: float | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= ctc_weight <= 1.0:
            raise ValueError(f"ctc_weight: got {ctc_weight}, allowed is [0, 1].")
        if decoder is None and ctc_weight < 1.0:
            raise ValueError(f"ctc_weight: got {ctc_weight} without a decoder; allowed is 1, or add a decoder.")
        if segments_level not in SEGMENT_LEVELS:
            raise ValueError(f"segments_level: got {segments_level!r}, allowed are {', '.join(SEGMENT_LEVELS)}.")
        _check_scales(layer_scale, residual_scale)
        if consistency is not None:
            _check_consistency(consistency, [specaug] if video is None else [specaug, video.specaug])
        self.vocab_size = vocab_size
        self.frontend = frontend
        self.specaug = specaug
        self.encoder = encoder
        prepare_encoder(self)
        self.decoder = decoder
        self.ctc = CTC(odim=vocab_size, encoder_output_size=encoder.output_size())
        self.ctc_weight = ctc_weight
        self.label_smoothing = label_smoothing
        self.consistency = consistency
        self.num_views = 1 if consistency is None else NUM_VIEWS
        self.segments = segments if segments is not None else KeepAllTime()
        self.segments_level = segments_level
        self.video = video
        self.modalities = (frontend.reads,) if video is None else (frontend.reads, video.frontend.reads)
        if "video" in self.modalities:
            self.segments.check_rate(FRAMES_PER_SECOND)
        # PyTorch's own initial values leave CTC, for hundreds of updates, with one template of where letters fall.
        initialize(self, "xavier_uniform")
        if residual_scale != 1.0:
            scale_residual_branches(self, residual_scale)
        if layer_scale is not None:
            add_layer_scale(self, layer_scale)
        use_byte_dropout(self)

    @property
    def sos_eos(self) -> int:
        """The id of the token that starts and ends a sentence."""
        return self.vocab_size - 1

    def forward(self, batch: Batch) -> Losses:
        """Computes the losses of a batch of B utterances."""
        num_views = self.num_views if self.training else 1
        pruning = TimePruning.of(batch, self.segments if self.training else KeepAllTime(), self.segments_level)
        encoded, encoded_lens = self._encode(batch, pruning, num_views)
        log_probs = self.ctc_log_probs(encoded)
        pruning.observe(mean_of_views(log_probs[..., BLANK], num_views))
        losses = self._losses_of_views(log_probs, encoded, encoded_lens, batch, num_views)
        losses.kept_share = pruning.kept_share
        return losses

    def validate(self, batch: Batch) -> tuple[Losses, list[list[int]]]:
        """Computes the losses of a batch of B utterances, and the tokens of each that CTC alone finds."""
        encoded, encoded_lens = self.encode(batch)
        log_probs = self.ctc_log_probs(encoded)
        found = [best_path(frames[:length]) for frames, length in zip(log_probs, encoded_lens.tolist(), strict=True)]
        return self._losses(log_probs, encoded, encoded_lens, batch), found

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes whole utterances, without segment pruning.

        Returns:
            Encoder frames (B, E, H), one per 40 ms, and their numbers (B,).
        """
        return self._encode(batch, TimePruning(KeepAllTime()))

    def _encode(self, batch: Batch, pruning: TimePruning, num_views: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes what pruning leaves of each utterance, in each view, and fuses audio and video."""
        encoded = encode_stream(self, batch, pruning, num_views)
        if self.video is None:
            return encoded
        seen = encode_stream(self.video, batch, pruning, num_views)
        fused: tuple[torch.Tensor, torch.Tensor] = self.video.fusion(encoded, seen)
        return fused

    def ctc_log_probs(self, encoded: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities (B, E, V) of tokens in each encoder frame, in float32."""
        logits: torch.Tensor = self.ctc.ctc_lo(encoded)
        return logits.float().log_softmax(dim=-1)

    def _losses_of_views(
        self,
        log_probs: torch.Tensor,
        encoded: torch.Tensor,
        encoded_lens: torch.Tensor,
        batch: Batch,
        num_views: int,
    ) -> Losses:
        """Computes the means of the losses over all views, and the consistency loss if there are two."""
        if num_views == 1:
            return self._losses(log_probs, encoded, encoded_lens, batch)
        tokens, token_lens = in_views(batch.tokens, num_views), in_views(batch.token_lens, num_views)
        each = self._losses(log_probs, encoded, encoded_lens, replace(batch, tokens=tokens, token_lens=token_lens))
        total, ctc, attention = (mean_of_views(loss, num_views) for loss in (each.total, each.ctc, each.attention))
        assert self.consistency is not None
        apart = consistency_losses(log_probs, encoded_lens) / batch.token_lens
        return Losses(total + self.ctc_weight * self.consistency * apart, ctc, attention)

    def _losses(
        self, log_probs: torch.Tensor, encoded: torch.Tensor, encoded_lens: torch.Tensor, batch: Batch
    ) -> Losses:
        ctc = self._ctc_losses(log_probs, encoded_lens, batch)
        if self.decoder is None:
            return Losses(total=ctc, ctc=ctc, attention=torch.zeros_like(ctc))
        attention = self._attention_losses(encoded, encoded_lens, batch)
        return Losses(self.ctc_weight * ctc + (1 - self.ctc_weight) * attention, ctc, attention)

    def _ctc_losses(self, log_probs: torch.Tensor, encoded_lens: torch.Tensor, batch: Batch) -> torch.Tensor:
        losses = F.ctc_loss(
            log_probs.transpose(0, 1),
            batch.tokens.clamp(min=BLANK),
            encoded_lens,
            batch.token_lens,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,  # cuts that CTC cannot align are left out before; this guards what remains
        )
        return losses / batch.token_lens

    def _attention_losses(self, encoded: torch.Tensor, encoded_lens: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert self.decoder is not None
        inputs, targets = add_sos_eos(batch.tokens, self.sos_eos, self.sos_eos, PADDING_TOKEN)
        logits, _ = self.decoder(encoded, encoded_lens, inputs, batch.token_lens + 1)
        losses = F.cross_entropy(
            logits.float().transpose(1, 2),
            targets,
            ignore_index=PADDING_TOKEN,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        return losses.sum(dim=1) / (batch.token_lens + 1)


def _check_scales(layer_scale: float | None, residual_scale: float) -> None:
    """Refuses scales of residual branches that are outside their range, under the names of `ASRModel`."""
    if layer_scale is not None and not 0.0 < layer_scale < float("inf"):
        raise ValueError(
            f"layer_scale: got {layer_scale}, allowed is a positive number, or null for no LayerScale. "
            "Branches that start at zero are model.residual_scale=0."
        )
    if not 0.0 <= residual_scale < float("inf"):
        raise ValueError(f"residual_scale: got {residual_scale}, allowed are 0 and more; 1 leaves the initial weights.")


def _check_consistency(consistency: float, specaugs: Sequence[AbsSpecAug | None]) -> None:
    """Refuses a weight of the consistency loss that is out of range, and SpecAugment that moves frames in time."""
    if not 0.0 <= consistency < float("inf"):
        raise ValueError(
            f"consistency: got {consistency}, allowed are 0 and more; null trains on one view of each utterance."
        )
    if any(getattr(specaug, "time_warp", None) is not None for specaug in specaugs):
        raise ValueError(
            "specaug.apply_time_warp: got true with two views (consistency), allowed is false: each view would be "
            "warped by itself, and frames that are compared would not be the same time."
        )
