"""Sound and mouth of each utterance of a corpus, decoded once into small files.

Audio becomes 16 kHz mono FLAC (`audio/<key>.flac`), video becomes the mouth region (`video/<key>.mp4`, by
`asrsparse.video.mouths`), of the same length.
"""

import logging
import time
from collections.abc import Sequence
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

from asrsparse.corpora.left_out import LeftOutUtterance
from asrsparse.files import atomic_path, read_json, write_json
from asrsparse.rates import SAMPLING_RATE
from asrsparse.video.contact_sheet import write_contact_sheet
from asrsparse.video.io import video_array, write_video
from asrsparse.video.landmarks import read_landmarks
from asrsparse.video.mouths import SIZE, cut_mouths, fit_to_audio

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The files of one utterance.

    Attributes:
        id: The utterance's.
        key: Names what is made of them: `s1/bbaf2n`.
        audio: Any file with sound; it may be the video.
        video: The film of the talker, or None where only audio is wanted.
        landmarks: Where the mouth is in it (`asrsparse.video.landmarks`), or None to look for the face.
    """

    id: str
    key: str
    audio: Path
    video: Path | None = None
    landmarks: Path | None = None


@dataclass(frozen=True)
class Media:
    """What was made of one utterance.

    Attributes:
        recording: Its audio.
        video: Its mouth, where it was asked for.
        num_looks: In how many pictures a face was looked for, 0 if the file was there already.
        num_found: In how many of them it was found.
        video_cpu_seconds: What this took on one core.
    """

    recording: Recording
    video: TemporalArray | None = None
    num_looks: int = 0
    num_found: int = 0
    video_cpu_seconds: float = 0.0


def prepare_media(
    name: str, sources: Sequence[Source], output_dir: Path, num_jobs: int | None = None
) -> list[Media | LeftOutUtterance]:
    """Makes the files of all utterances, in several processes; those that are there already are kept.

    Mouths come with a contact sheet, `contact_sheet.png`, and a line in the log.

    Args:
        name: Of the corpus, for messages.
        sources: Its utterances.
        output_dir: Where `audio/` and `video/` go.
        num_jobs: Number of processes; by default one for each core.

    Returns:
        For each utterance what was made of it, or why nothing was.

    Raises:
        ValueError: If `output_dir` holds mouths that were found in another way.
    """
    _check_way(sources, output_dir / "video" / "found_by.json")
    with ProcessPoolExecutor(num_jobs) as pool:
        made = pool.map(partial(_prepare_one, output_dir=output_dir), sources, chunksize=8)
        media = list(track(made, f"Decoding {name}", total=len(sources)))
    with_video = {source.id: m for source, m in zip(sources, media, strict=True) if isinstance(m, Media) and m.video}
    if with_video:
        logger.info("%s: %s", name, _summary(list(with_video.values())))
        paths = {source.id: _video_path(output_dir, source) for source in sources if source.id in with_video}
        write_contact_sheet(output_dir / "contact_sheet.png", paths)
    return media


def _summary(media: Sequence[Media]) -> str:
    hours = sum(m.recording.duration for m in media) / 3600
    line = f"{len(media)} utterances ({hours:.2f} h) with video"
    new = [m for m in media if m.num_looks]
    if not new:
        return f"{line}, which were there already"
    looks, found = sum(m.num_looks for m in new), sum(m.num_found for m in new)
    speed = sum(m.recording.duration for m in new) / sum(m.video_cpu_seconds for m in new)
    return (
        f"{line}, {len(new)} of them made now: a face found in {100 * found / looks:.2f} % of {looks:,} pictures, "
        f"{speed:.1f} times as fast as real time on one core"
    )


def _check_way(sources: Sequence[Source], path: Path) -> None:
    """Files that are there are kept, so they must have been made in the same way."""
    if not any(source.video for source in sources):
        return
    way = "landmarks" if any(source.landmarks for source in sources) else "detector"
    if path.is_file() and read_json(path) != way:
        raise ValueError(
            f"{path.parent} holds mouths that were found by {read_json(path)}, asked for are those by {way}. Delete "
            "that folder, or name another data_dir."
        )
    write_json(path, way)


def _prepare_one(source: Source, output_dir: Path) -> Media | LeftOutUtterance:
    seconds = 0.0
    try:
        recording = _prepare_audio(source, output_dir)
        seconds = recording.duration
        return _prepare_video(source, output_dir, recording) if source.video else Media(recording)
    except ValueError as error:
        return LeftOutUtterance(source.id, str(error), seconds)


def _prepare_audio(source: Source, output_dir: Path) -> Recording:
    flac = output_dir / "audio" / f"{source.key}.flac"
    if not flac.is_file():  # one that exists is whole: it was written under another name first
        samples = decode_audio(source.audio)
        with atomic_path(flac) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return Recording.from_file(flac, recording_id=source.id)


def _prepare_video(source: Source, output_dir: Path, recording: Recording) -> Media:
    """Cuts the mouth out of the video of an utterance, as long as its audio."""
    assert source.video is not None
    path = _video_path(output_dir, source)
    num_looks, num_found, began = 0, 0, time.process_time()
    if not path.is_file():
        landmarks = None if source.landmarks is None else read_landmarks(source.landmarks)
        mouths = cut_mouths(source.video, landmarks, zero="audio" if source.audio == source.video else "video")
        write_video(path, fit_to_audio(mouths.frames, recording.duration, source.video))
        num_looks, num_found = mouths.num_looks, mouths.num_found
    shape = (_num_frames(path), SIZE, SIZE)
    video = video_array(output_dir / "video", f"{source.key}.mp4", shape)
    return Media(recording, video, num_looks, num_found, time.process_time() - began)


def _video_path(output_dir: Path, source: Source) -> Path:
    return output_dir / "video" / f"{source.key}.mp4"


def _num_frames(path: Path) -> int:
    """What the header of one of our own files says."""
    try:
        with av.open(str(path)) as container:
            return int(container.streams.video[0].frames)
    except av.FFmpegError:
        raise ValueError(f"prepared video is damaged: {path}: delete it and prepare again") from None


def decode_audio(path: Path) -> np.ndarray:
    """Decodes the audio of a video or audio file; pictures are not looked at, so damage in them does no harm.

    Samples before a damaged packet count: MPEG files that were cut off in their last packet are common. Whether all
    words are still there is for the caller to check.

    Returns:
        int16 samples of shape (T,), 16 kHz, all channels mixed to one.

    Raises:
        ValueError: If there is no audio track, or nothing in it decodes.
    """
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLING_RATE)
    blocks = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"no audio track: {path}")
            for frame in container.decode(audio=0):
                blocks += resampler.resample(frame)
    except av.FFmpegError as error:
        if not blocks:
            raise ValueError(f"audio does not decode: {path}: {error.strerror}") from None
    if not blocks:
        raise ValueError(f"audio does not decode: {path}: it holds no samples")
    blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray()[0] for block in blocks])
