"""Front-ends: what all of them have in common, and log-mel features of a waveform.

Shape legend: B utterances, T samples, V video frames, F feature rows, D features (here mel bins).
"""

from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from espnet2.asr.frontend.default import DefaultFrontend

from asrsparse.rates import FEATURES_PER_SECOND, SAMPLING_RATE


class Frontend(Protocol):
    """The layers before an encoder, which turn one modality of a batch into feature rows.

    Attributes:
        reads: The modality, `audio` or `video`.
        learned: Whether it has weights. If so, its rows do not show loudness, and take long to compute.
        input_rate: Samples or video frames per second that it reads.
        output_rate: Feature rows per second that it computes.
    """

    @property
    def reads(self) -> str: ...  # noqa: D102

    @property
    def learned(self) -> bool: ...  # noqa: D102

    @property
    def input_rate(self) -> int: ...  # noqa: D102

    @property
    def output_rate(self) -> int: ...  # noqa: D102

    def __call__(self, values: torch.Tensor, lens: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes feature rows.

        Args:
            values: Waveforms (B, T) or video (B, V, 96, 96), zero behind `lens`.
            lens: Samples or video frames of each utterance (B,).

        Returns:
            Rows (B, F, D), zero behind their lengths, and their lengths (B,).
        """


class LogMelFrontend(torch.nn.Module):
    """Log-mel energies, each utterance normalised to zero mean and unit variance in every bin.

    ESPnet's own layers compute the energies. Its `UtteranceMVN` counts padding into the variance, so that features
    would depend on the other utterances of the batch; the normalisation here does not. Nor do the windows at the end of
    an utterance: they reach into the mirrored utterance, in a batch as alone.

    Args:
        sampling_rate: Samples per second of the waveforms.
        num_mel_bins: The number of mel bins D.
    """

    reads: ClassVar[str] = "audio"
    learned: ClassVar[bool] = False
    output_rate: ClassVar[int] = FEATURES_PER_SECOND

    def __init__(self, sampling_rate: int = SAMPLING_RATE, num_mel_bins: int = 80) -> None:
        super().__init__()
        self.input_rate = sampling_rate
        window = sampling_rate * 25 // 1000
        n_fft = 1 << (window - 1).bit_length()
        self.logmel = DefaultFrontend(
            fs=sampling_rate,
            n_fft=n_fft,
            win_length=window,
            hop_length=sampling_rate // FEATURES_PER_SECOND,
            n_mels=num_mel_bins,
            frontend_conf=None,
        )

    def forward(self, audio: torch.Tensor, audio_lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes features in float32, also under autocast: the spectrum's range is too wide for fewer bits.

        Args:
            audio: Waveforms (B, T).
            audio_lens: Samples of each utterance (B,).

        Returns:
            Features (B, F, D), zero behind their lengths, and their lengths (B,).
        """
        num_rows = 1 + audio.size(1) // self.logmel.hop_length
        with torch.autocast(audio.device.type, enabled=False):
            mirrored = mirror_ends(audio.float(), audio_lens, self.logmel.stft.n_fft // 2)
            features, feature_lens = self.logmel(mirrored, audio_lens)
            return normalise_utterances(features[:, :num_rows], feature_lens), feature_lens


def mirror_ends(audio: torch.Tensor, audio_lens: torch.Tensor, size: int) -> torch.Tensor:
    """Appends to each utterance its own last samples, backwards, as a centred spectrogram does with one alone.

    Args:
        audio: Waveforms (B, T).
        audio_lens: Samples of each utterance (B,).
        size: The number of samples to append.

    Returns:
        The longer waveforms (B, T + size).

    Example:
        >>> mirror_ends(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([4, 3]), size=2).tolist()
        [[1, 2, 3, 4, 3, 2], [5, 6, 7, 6, 5, 0]]
    """
    steps, ends = torch.arange(size, device=audio.device), audio_lens.to(audio.device)[:, None]
    behind = audio.gather(1, (ends - 2 - steps).clamp(min=0))
    return F.pad(audio, (0, size)).scatter(1, ends + steps, behind)


def normalise_utterances(features: torch.Tensor, feature_lens: torch.Tensor, floor: float = 1e-5) -> torch.Tensor:
    """Brings every bin of every utterance to zero mean and unit variance over its own rows.

    Args:
        features: Feature rows (B, F, D).
        feature_lens: Rows of each utterance (B,).
        floor: The smallest standard deviation to divide by.

    Returns:
        The normalised rows (B, F, D), zero behind `feature_lens`.

    Example:
        >>> normalise_utterances(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).flatten().tolist()
        [-1.0, 1.0, 0.0]
    """
    valid = (torch.arange(features.size(1), device=features.device) < feature_lens[:, None]).unsqueeze(-1)
    count = feature_lens[:, None, None]
    mean = (features * valid).sum(dim=1, keepdim=True) / count
    centred = (features - mean) * valid
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt().clamp(min=floor)
    return centred / deviation
