"""Cuts with drawn videos beside their audio, and batches of both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from micro import make_batch

from asrsparse.data.batch import Batch
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.rates import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from asrsparse.video.io import video_array, write_video

SIZE = 96


def draw(audio: np.ndarray) -> np.ndarray:
    """A bar on grey ground, as high as the audio (samples,) is loud: frames (V, 96, 96)."""
    num_frames = round(len(audio) / SAMPLES_PER_FRAME)
    padded = np.pad(audio, (0, num_frames * SAMPLES_PER_FRAME))[: num_frames * SAMPLES_PER_FRAME]
    loudness = np.abs(padded.reshape(num_frames, -1)).mean(axis=1)
    frames = np.full((num_frames, SIZE, SIZE), 90, np.uint8)
    for frame, height in zip(frames, (80 * loudness / loudness.max()).astype(int), strict=True):
        frame[88 - height : 88, 30:66] = 220
    return frames


def add_videos(data_dir: Path, audiovisual_dir: Path, splits: tuple[str, ...] = ("train", "dev", "test")) -> None:
    """Writes the cuts of a prepared corpus again, with a video for each."""
    (audiovisual_dir / "cuts").mkdir(parents=True)
    (audiovisual_dir / "cuts" / "tokens.txt").write_bytes((data_dir / "cuts" / "tokens.txt").read_bytes())
    for split in splits:
        cuts = []
        for cut in read_cuts(data_dir / "cuts", split):
            frames, key = draw(cut.load_audio()[0]), f"{cut.id}.mp4"
            write_video(audiovisual_dir / "video" / key, frames)
            cuts.append(replace(cut, custom={"video": video_array(audiovisual_dir / "video", key, frames.shape)}))
        CutSet.from_cuts(cuts).to_file(cuts_path(audiovisual_dir / "cuts", split))
        CutIndex.make(cuts_path(audiovisual_dir / "cuts", split))


def make_audiovisual_batch(token_lens: list[int], video_lens: list[int], seed: int = 0, size: int = SIZE) -> Batch:
    """A batch of noise in audio and video, of utterances with these numbers of tokens and video frames."""
    generator = torch.Generator().manual_seed(seed)
    lens = torch.tensor(video_lens)
    longest = int(lens.max())
    batch = make_batch(token_lens, samples=SAMPLES_PER_FRAME * longest, seed=seed)
    video = torch.randint(0, 256, (len(token_lens), longest, size, size), dtype=torch.uint8, generator=generator)
    video[torch.arange(longest) >= lens[:, None]] = 0
    audio = batch.audio.masked_fill(torch.arange(SAMPLES_PER_FRAME * longest) >= SAMPLES_PER_FRAME * lens[:, None], 0.0)
    seconds = float(lens.sum()) / FRAMES_PER_SECOND
    return replace(
        batch, audio=audio, audio_lens=SAMPLES_PER_FRAME * lens, video=video, video_lens=lens, seconds=seconds
    )


def alone(batch: Batch, row: int) -> Batch:
    """The batch of one utterance of a batch, without padding."""
    audio_len, video_len = int(batch.audio_lens[row]), int(batch.video_lens[row])
    return Batch(
        ids=[batch.ids[row]],
        audio=batch.audio[row : row + 1, :audio_len],
        audio_lens=batch.audio_lens[row : row + 1],
        tokens=batch.tokens[row : row + 1, : batch.token_lens[row]],
        token_lens=batch.token_lens[row : row + 1],
        seconds=video_len / FRAMES_PER_SECOND,
        video=batch.video[row : row + 1, :video_len],
        video_lens=batch.video_lens[row : row + 1],
    )
