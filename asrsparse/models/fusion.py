"""Fusion: one sequence of encoder frames from those of audio and those of video.

Shape legend: B utterances, E encoder frames, H model width.
"""

import torch
from torch import Tensor, nn

Encoded = tuple[Tensor, Tensor]
"""Encoder frames (B, E, H), one per 40 ms, and their numbers (B,)."""


class Fusion(nn.Module):
    """A perceptron on both encoders' frames, side by side (Ma et al., https://arxiv.org/abs/2303.14307).

    The paper has a batch norm in the middle; here it is a layer norm, so that no utterance depends on others.

    With **modality dropout** a training utterance loses its audio or its video as a whole, never both, so that the
    model learns to use each of them (AV-HuBERT, https://arxiv.org/abs/2201.02184, whose fine-tuning drops each one in
    a quarter of the utterances).

    Args:
        size: The width H of the frames of both encoders and of the fused frames.
        hidden_size: The width of the hidden layer.
        p_audio: The share of the training utterances whose audio is dropped.
        p_video: The share of the training utterances whose video is dropped.

    Raises:
        ValueError: If a share is negative, or both together are above 1.
    """

    def __init__(self, size: int, hidden_size: int, p_audio: float, p_video: float) -> None:
        super().__init__()
        if min(p_audio, p_video) < 0.0 or p_audio + p_video > 1.0:
            raise ValueError(
                f"p_audio and p_video: got {p_audio} and {p_video}, allowed are at least 0, and at most 1 together: an "
                "utterance loses one of them, never both."
            )
        self.p_audio = p_audio
        self.p_video = p_video
        self.hidden = nn.Linear(2 * size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, size)

    def forward(self, audio: Encoded, video: Encoded) -> Encoded:
        """Fuses the frames that both encoders have: where one has fewer frames, the last ones of the other are cut.

        Args:
            audio: The encoded audio.
            video: The encoded video.

        Returns:
            The fused frames (B, E, H) in float32, and their numbers (B,).
        """
        (audio_frames, audio_lens), (video_frames, video_lens) = audio, video
        # Both in one assignment: so each is cut to the length that the other had, also where ONNX traces this.
        audio_frames, video_frames = (
            audio_frames[:, : video_frames.size(1)],
            video_frames[:, : audio_frames.size(1)],
        )
        keeps_audio, keeps_video = self._kept(audio_frames.size(0), audio_frames.device)
        both = torch.cat([audio_frames * keeps_audio, video_frames * keeps_video], dim=-1)
        fused = self.output(torch.relu(self.norm(self.hidden(both))))
        # In float32 also under autocast, as the encoders' frames are.
        return fused.float(), torch.minimum(audio_lens, video_lens)

    def _kept(self, num_utterances: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns ones for the modalities that are kept and zeros for the others: for audio and for video (B, 1, 1)."""
        shape = (num_utterances, 1, 1)
        drawn = torch.rand(shape, device=device) if self.training else torch.ones(shape, device=device)
        keeps_audio = drawn >= self.p_audio
        keeps_video = (drawn < self.p_audio) | (drawn >= self.p_audio + self.p_video)
        return keeps_audio.float(), keeps_video.float()
