"""Decodes the audio and the mouth region of each utterance of a corpus once, into small files of the same length.

Audio becomes 16 kHz mono FLAC (`audio/<key>.flac`). Of the video the mouth region is kept (`video/<key>.mp4`), which
`asrsparse.video.mouth_regions` crops.

Shape legend: T samples at 16 kHz.
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
from asrsparse.video.mouth_regions import SIZE, crop_mouth_region, fit_to_audio

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The files of one utterance in the corpus.

    Attributes:
        id: The id of the utterance.
        key: Names the prepared files: `s1/bbaf2n` gives `audio/s1/bbaf2n.flac` and `video/s1/bbaf2n.mp4`.
        audio: Any file with audio; it may be the video.
        video: The video of the talker, or None where only audio is wanted.
        landmarks: The file with the places of the mouth (`asrsparse.video.landmarks`), or None to search for the face.
    """

    id: str
    key: str
    audio: Path
    video: Path | None = None
    landmarks: Path | None = None


@dataclass(frozen=True)
class Media:
    """The prepared audio and video of one utterance.

    Attributes:
        recording: The manifest of its audio.
        video: The manifest of its mouth region, or None where only audio is wanted.
        num_searched: The number of frames in which a face was searched for; 0 if the file was there already.
        num_found: The number of these frames in which a face was found.
        video_cpu_seconds: The time in seconds that preparing the video took on one core.
    """

    recording: Recording
    video: TemporalArray | None = None
    num_searched: int = 0
    num_found: int = 0
    video_cpu_seconds: float = 0.0


def prepare_media(
    name: str, sources: Sequence[Source], output_dir: Path, num_jobs: int | None = None
) -> list[Media | LeftOutUtterance]:
    """Prepares the files of all utterances in several processes. Files that are there already are kept.

    Where there is video, it also draws a contact sheet, `contact_sheet.png`, and logs in how many frames a face was
    found.

    Args:
        name: The name of the corpus, for messages.
        sources: The utterances.
        output_dir: The folder that gets `audio/` and `video/`.
        num_jobs: The number of processes; by default one for each core.

    Returns:
        For each utterance its prepared media, or why there are none.

    Raises:
        ValueError: If `output_dir` holds mouth regions that were found in the other way (landmarks or detector).
    """
    _check_found_by(sources, output_dir / "video" / "found_by.json")
    with ProcessPoolExecutor(num_jobs) as pool:
        prepared = pool.map(partial(_prepare_one, output_dir=output_dir), sources, chunksize=8)
        media = list(track(prepared, f"Decoding {name}", total=len(sources)))
    with_video = {source.id: m for source, m in zip(sources, media, strict=True) if isinstance(m, Media) and m.video}
    if with_video:
        logger.info("%s: %s", name, _summary(list(with_video.values())))
        paths = {source.id: _video_path(output_dir, source) for source in sources if source.id in with_video}
        write_contact_sheet(output_dir / "contact_sheet.png", paths)
    return media


def _summary(media: Sequence[Media]) -> str:
    hours = sum(m.recording.duration for m in media) / 3600
    counted = f"{len(media)} utterances ({hours:.2f} h) with video"
    new = [m for m in media if m.num_searched]
    if not new:
        return f"{counted}, which were there already"
    searched, found = sum(m.num_searched for m in new), sum(m.num_found for m in new)
    speed = sum(m.recording.duration for m in new) / sum(m.video_cpu_seconds for m in new)
    return (
        f"{counted}, {len(new)} of them new: a face was found in {100 * found / searched:.2f} % of {searched:,} frames "
        f"that were searched, {speed:.1f} times as fast as real time on one core"
    )


def _check_found_by(sources: Sequence[Source], path: Path) -> None:
    """Raises a ValueError if the videos that are there, which are kept, were not found in the same way as new ones."""
    if not any(source.video for source in sources):
        return
    found_by = "landmarks" if any(source.landmarks for source in sources) else "detector"
    if path.is_file() and read_json(path) != found_by:
        raise ValueError(
            f"{path.parent} holds mouth regions found by {read_json(path)}; they cannot be mixed with those found by "
            f"{found_by}. Delete that folder, or name another data_dir."
        )
    write_json(path, found_by)


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
    if not flac.is_file():  # a file that exists is complete: it was written under another name first
        samples = decode_audio(source.audio)
        with atomic_path(flac) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return Recording.from_file(flac, recording_id=source.id)


def _prepare_video(source: Source, output_dir: Path, recording: Recording) -> Media:
    """Crops the mouth region out of the video of an utterance, and makes it as long as the audio."""
    assert source.video is not None
    path = _video_path(output_dir, source)
    num_searched, num_found, began = 0, 0, time.process_time()
    if not path.is_file():
        landmarks = None if source.landmarks is None else read_landmarks(source.landmarks)
        origin = "audio" if source.audio == source.video else "video"
        region = crop_mouth_region(source.video, landmarks, time_origin=origin)
        write_video(path, fit_to_audio(region.frames, recording.duration, source.video))
        num_searched, num_found = region.num_searched, region.num_found
    shape = (_num_frames(path), SIZE, SIZE)
    video = video_array(output_dir / "video", f"{source.key}.mp4", shape)
    return Media(recording, video, num_searched, num_found, time.process_time() - began)


def _video_path(output_dir: Path, source: Source) -> Path:
    return output_dir / "video" / f"{source.key}.mp4"


def _num_frames(path: Path) -> int:
    """Returns the number of frames that the header of a prepared video states."""
    try:
        with av.open(str(path)) as container:
            return int(container.streams.video[0].frames)
    except av.FFmpegError:
        raise ValueError(f"prepared video is damaged: {path}: delete it and prepare again") from None


def decode_audio(path: Path) -> np.ndarray:
    """Decodes the audio of a video or audio file. The video is not decoded, so damage in it has no effect.

    If a packet is damaged, the samples before it are returned: MPEG files whose last packet is truncated are common.
    The caller has to check whether all words are still there.

    Returns:
        The samples (T,), int16, at 16 kHz, with all channels mixed to one.

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
        raise ValueError(f"audio does not decode: {path}: it has no samples")
    blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray()[0] for block in blocks])
