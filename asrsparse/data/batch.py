"""Cuts -> Batch: the input of one training or decoding step.

Shape legend: B utterances, T samples of the longest, V video frames of the longest, U tokens of the longest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lhotse import CutSet
from lhotse.array import TemporalArray
from lhotse.audio.utils import AudioLoadingError
from lhotse.cut import Cut
from lhotse.dataset.collation import collate_audio
from torch.nn.utils.rnn import pad_sequence

from asrsparse.data.cut_index import CutIndex
from asrsparse.data.noise import QUIET, Noise
from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.io import TOLERATED_FRAMES

PADDING_TOKEN = -1
"""The token id behind the last token of an utterance; the losses of ESPnet and PyTorch ignore it."""

MODALITIES = ("audio", "video")

_REMEDY = "Files changed since the cuts were prepared: run `asrsparse prepare` again, which leaves damaged files out."


@dataclass
class Batch:
    """One batch of utterances.

    Attributes:
        ids: B utterance ids.
        audio: Waveforms (B, T), zero behind `audio_lens`; None if the model reads no audio.
        audio_lens: Samples of each utterance (B,), or None.
        tokens: Token ids (B, U), `PADDING_TOKEN` behind `token_lens`.
        token_lens: Tokens of each utterance (B,).
        seconds: The seconds of speech in the batch, padding not counted.
        video: The grey mouth region at 25 frames a second (B, V, 96, 96), uint8, zero behind `video_lens`; None if the
            model reads no video.
        video_lens: Video frames of each utterance (B,), or None.
    """

    ids: list[str]
    audio: torch.Tensor | None
    audio_lens: torch.Tensor | None
    tokens: torch.Tensor
    token_lens: torch.Tensor
    seconds: float
    video: torch.Tensor | None = None
    video_lens: torch.Tensor | None = None

    def of(self, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the values of a modality, and their lengths (B,).

        Args:
            modality: One of `MODALITIES`, with which the batch was made.
        """
        values, lens = (self.audio, self.audio_lens) if modality == "audio" else (self.video, self.video_lens)
        assert values is not None, f"the batch was made without {modality}"
        assert lens is not None
        return values, lens


class BatchDataset(torch.utils.data.Dataset[Batch]):
    """Loads audio and video and encodes the texts of the cuts that a lhotse sampler chose.

    Args:
        encode: Turns a text into token ids; the `encode` of a tokenizer.
        modalities: The modalities that the model reads, of `MODALITIES`; others are not loaded.
        noise: The noise that is mixed into the audio.
        epoch: The epoch for which the noise is drawn.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        modalities: Sequence[str] = ("audio",),
        noise: Noise = QUIET,
        epoch: int = 0,
    ) -> None:
        self.encode = encode
        self.modalities = tuple(modalities)
        self.noise = noise
        self.epoch = epoch

    def __getitem__(self, cuts: CutSet) -> Batch:
        """Makes the batch of some cuts, each of which has one supervision.

        Raises:
            ValueError: If a file cannot be read, or a video is missing or not as long as its audio; the message has the
                utterance and the reason.
        """
        cuts = cuts.to_eager()
        audio, audio_lens = _load_audio(cuts) if "audio" in self.modalities else (None, None)
        video, video_lens = _load_video(cuts) if "video" in self.modalities else (None, None)
        tokens = [torch.tensor(self.encode(cut.supervisions[0].text), dtype=torch.int64) for cut in cuts]
        # Not the ids of the cuts: lhotse renames a cut that it repeats where fewer are left than there are ranks.
        ids = [cut.supervisions[0].id for cut in cuts]
        if audio is not None and audio_lens is not None:
            self.noise.add_to(audio, audio_lens, ids, self.epoch)
        return Batch(
            ids=ids,
            audio=audio,
            audio_lens=audio_lens,
            tokens=pad_sequence(tokens, batch_first=True, padding_value=PADDING_TOKEN),
            token_lens=torch.tensor([len(t) for t in tokens], dtype=torch.int64),
            seconds=sum(cut.duration for cut in cuts),
            video=video,
            video_lens=video_lens,
        )


def _load_audio(cuts: CutSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns waveforms (B, T) and their lengths (B,)."""
    try:
        audio, audio_lens = collate_audio(cuts)
    except (AudioLoadingError, OSError) as error:
        reason = str(error).split(" Details:")[0].rstrip(".")  # the rest of lhotse's message fills screens
        raise ValueError(f"The audio of a batch cannot be read ({', '.join(cuts.ids)}): {reason}. {_REMEDY}") from error
    return audio, audio_lens.to(torch.int64)


def _load_video(cuts: CutSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns video frames (B, V, H, W) and their numbers (B,)."""
    videos = [_video_of(cut) for cut in cuts]
    return pad_sequence(videos, batch_first=True), torch.tensor([len(video) for video in videos], dtype=torch.int64)


def _video_of(cut: Cut) -> torch.Tensor:
    """Returns the video frames (V, H, W) of a cut."""
    video = (cut.custom or {}).get("video")
    if video is None:
        raise ValueError(
            f"{cut.id} has no video, but the model reads video. Prepare the corpus with video (corpus.video=true), or "
            "train on audio (modality=audio)."
        )
    _check_in_step(cut, video)
    # The last frames of a recording may be missing, since its video may be a little shorter than its audio.
    duration = min(cut.duration, video.end - cut.start)
    try:
        return torch.from_numpy(video.load(start=cut.start, duration=duration))
    except ValueError as error:
        raise ValueError(f"The video of a batch cannot be read ({cut.id}): {error}. {_REMEDY}") from error


def _check_in_step(cut: Cut, video: TemporalArray) -> None:
    """Checks that the audio and the video of a recording have the same length."""
    if cut.recording is None:
        return
    expected = round(FRAMES_PER_SECOND * cut.recording.duration)
    if abs(video.num_frames - expected) > TOLERATED_FRAMES:
        raise ValueError(
            f"{cut.id}: its recording has {video.num_frames} video frames beside {cut.recording.duration:.2f} s of "
            f"audio; allowed are {expected}, and {TOLERATED_FRAMES} more or less. Prepare its video again, or leave "
            "the utterance out."
        )


class IndexedBatchDataset(torch.utils.data.Dataset[Batch]):
    """Finds the cuts of a batch by their numbers in an index, then loads them; both in the loader's process.

    Args:
        index: The index of all cuts.
        dataset: Loads the cuts.
    """

    def __init__(self, index: CutIndex, dataset: BatchDataset) -> None:
        self.index = index
        self.dataset = dataset

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        """Makes the batch of some cuts.

        Args:
            rows: The numbers of the cuts in the index.

        Raises:
            ValueError: See `BatchDataset`; also if the manifest has changed.
        """
        return self.dataset[self.index.read(rows)]
