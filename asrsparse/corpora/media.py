"""Sound and mouth of each utterance of a corpus, decoded once into small files.

Audio becomes 16 kHz mono FLAC (`audio/<key>.flac`), video becomes the mouth (`video/<key>.mp4`).

Shape legend: V frames, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
from lhotse import Recording
from lhotse.array import TemporalArray
from rich.progress import track

from asrsparse.corpora.grid import SAMPLING_RATE, decode_audio
from asrsparse.files import atomic_path
from asrsparse.left_out import LeftOutUtterance
from asrsparse.video import FRAMES_PER_SECOND, Frames, video_array, write_video

TOLERATED_FRAMES = 2  # by which audio and video may differ


@dataclass(frozen=True)
class Source:
    """The files of one utterance: `key` names what is made of them, `video` is None where only audio is wanted."""

    id: str
    key: str
    audio: Path
    video: Path | None = None


@dataclass(frozen=True)
class Media:
    """What was made of one utterance: its audio, and its mouth, where that was asked for."""

    recording: Recording
    video: TemporalArray | None = None


MouthOf = Callable[[Source], Frames]
"""Finds the mouth in the video of an utterance: frames (V, H, W), 25 a second; a ValueError says why there is none."""


def prepare_media(
    name: str, sources: Sequence[Source], output_dir: Path, num_jobs: int | None = None, mouth_of: MouthOf | None = None
) -> list[Media | LeftOutUtterance]:
    """Makes the files of all utterances, in several processes; those that are there already are kept.

    Args:
        name: Of the corpus, for messages.
        sources: Its utterances.
        output_dir: Where `audio/` and `video/` go.
        num_jobs: Number of processes; by default one for each core.
        mouth_of: Finds the mouth in a video.

    Returns:
        For each utterance what was made of it, or why nothing was.
    """
    with ProcessPoolExecutor(num_jobs) as pool:
        made = pool.map(partial(_prepare_one, output_dir=output_dir, mouth_of=mouth_of), sources, chunksize=8)
        return list(track(made, f"Decoding {name}", total=len(sources)))


def _prepare_one(source: Source, output_dir: Path, mouth_of: MouthOf | None) -> Media | LeftOutUtterance:
    seconds = 0.0
    try:
        recording = _prepare_audio(source, output_dir)
        seconds = recording.duration
        if source.video is None or mouth_of is None:
            return Media(recording)
        return Media(recording, _prepare_video(source, output_dir, seconds, mouth_of))
    except ValueError as error:
        return LeftOutUtterance(source.id, str(error), seconds)


def _prepare_audio(source: Source, output_dir: Path) -> Recording:
    flac = output_dir / "audio" / f"{source.key}.flac"
    if not flac.is_file():  # one that exists is whole: it was written under another name first
        samples = decode_audio(source.audio)
        with atomic_path(flac) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return Recording.from_file(flac, recording_id=source.id)


def _prepare_video(source: Source, output_dir: Path, seconds: float, mouth_of: MouthOf) -> TemporalArray:
    folder, key = output_dir / "video", f"{source.key}.mp4"
    if not (folder / key).is_file():
        frames = mouth_of(source)
        if abs(len(frames) - seconds * FRAMES_PER_SECOND) > TOLERATED_FRAMES:
            raise ValueError(
                f"audio and video differ in length: {source.video} has {len(frames) / FRAMES_PER_SECOND:.2f} s of "
                f"video for {seconds:.2f} s of audio"
            )
        wanted = round(seconds * FRAMES_PER_SECOND)
        write_video(folder / key, frames[np.minimum(np.arange(wanted), len(frames) - 1)])
    with av.open(str(folder / key)) as container:
        stream = container.streams.video[0]
        return video_array(folder, key, (stream.frames, stream.height, stream.width))
