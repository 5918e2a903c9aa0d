"""Fusion: one sequence of encoder frames from what is heard and what is seen.

Shape legend: B utterances, E encoder frames, H model width.
"""

import torch
from torch import Tensor, nn

Encoded = tuple[Tensor, Tensor]
"""Encoder frames (B, E, H), one per 40 ms, and their numbers (B,)."""


class Fusion(nn.Module):
    """A perceptron on both encoders' frames, side by side (Ma et al., https://arxiv.org/abs/2303.14307).

    There a batch norm stands in the middle; here it is a layer norm, so that no utterance depends on others.

    **Modality dropout**, in training: an utterance loses its audio or its video as a whole, never both, so that neither
    encoder leaves all the work to the other (AV-HuBERT, https://arxiv.org/abs/2201.02184, whose fine-tuning drops each
    one in a quarter of the utterances).

    Args:
        size: H of both encoders and of what comes out.
        hidden_size: Width of the hidden layer.
        p_audio: Share of the training utterances whose audio is dropped.
        p_video: Share of those whose video is dropped.

    Raises:
        ValueError: If the shares are negative or leave no utterance.
    """

    def __init__(self, size: int, hidden_size: int, p_audio: float = 0.25, p_video: float = 0.25) -> None:
        super().__init__()
        if min(p_audio, p_video) < 0.0 or p_audio + p_video > 1.0:
            raise ValueError(
                f"model.video.fusion: got p_audio={p_audio} and p_video={p_video}, allowed are at least 0, and at most "
                "1 together: an utterance loses one of them, never both."
            )
        self.p_audio = p_audio
        self.p_video = p_video
        self.hidden = nn.Linear(2 * size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, size)

    def forward(self, audio: Encoded, video: Encoded) -> Encoded:
        """Fuses the frames that both have: the shorter one ends an utterance."""
        (heard, heard_lens), (seen, seen_lens) = audio, video
        heard, seen = heard[:, : seen.size(1)], seen[:, : heard.size(1)]  # both at once, and traceable
        keeps_audio, keeps_video = self._kept(heard.size(0), heard.device)
        both = torch.cat([heard * keeps_audio, seen * keeps_video], dim=-1)
        fused = self.output(torch.relu(self.norm(self.hidden(both))))
        # In float32 also under autocast, as what encoders give.
        return fused.float(), torch.minimum(heard_lens, seen_lens)

    def _kept(self, num_utterances: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Ones for the modalities that are kept, zeros for the others, each (B, 1, 1)."""
        shape = (num_utterances, 1, 1)
        drawn = torch.rand(shape, device=device) if self.training else torch.ones(shape, device=device)
        keeps_audio = drawn >= self.p_audio
        keeps_video = (drawn < self.p_audio) | (drawn >= self.p_audio + self.p_video)
        return keeps_audio.float(), keeps_video.float()
