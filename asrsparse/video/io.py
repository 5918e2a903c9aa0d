"""Reads and writes grey video at 25 frames a second, and gives lhotse manifests of it that cuts load.

lhotse 1.33 reads videos through a reader that torchaudio no longer has. So a video is here a `TemporalArray` of lhotse
whose storage is a video file that PyAV reads. `cut.load_custom("video")` gives the frames of the cut, truncated to the
same times as its audio.

Shape legend: V frames at 25 a second, H rows, W columns.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
import numpy as np
from lhotse.array import Array, TemporalArray
from lhotse.features.io import FeaturesReader, register_reader
from numpy.typing import NDArray

from asrsparse.files import atomic_path
from asrsparse.rates import FRAMES_PER_SECOND, SECONDS_PER_FRAME

TOLERATED_FRAMES = 2  # by which audio and video of an utterance may differ in length

Frames = NDArray[np.uint8]
"""Grey frames (V, H, W), or one of them (H, W): brightness from 0 to 255."""

_ENCODER_OPTIONS = {"crf": "19", "preset": "veryfast", "threads": "1", "mbtree": "0"}
"""The options of the H.264 encoder: no visible loss at 7 kB a second. The macroblock tree is off because with it x264
(version 165) reads memory that it never wrote: processors with AVX-512 give other bytes, and each run other ones."""


def write_video(path: Path, frames: Frames) -> None:
    """Writes grey frames as an H.264 file. The file is written completely or not at all.

    Args:
        path: The file to write, `*.mp4`.
        frames: The frames (V, H, W); H and W must be even.

    Raises:
        ValueError: If there is no frame.
    """
    if len(frames) == 0:
        raise ValueError(f"frames: got none to write to {path}, allowed is one or more.")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER_OPTIONS)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.color_range = av.video.reformatter.ColorRange.JPEG.value  # brightness from 0, not from 16
        for frame in frames:
            container.mux(stream.encode(_to_av_frame(frame)))
        container.mux(stream.encode())


def _to_av_frame(frame: Frames) -> av.VideoFrame:
    """Returns a frame (H, W) as a PyAV frame without colour."""
    colourless = np.full((frame.shape[0] // 2, frame.shape[1]), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.concatenate([frame, colourless]), format="yuv420p")


def read_video(path: Path, first: int = 0, last: int | None = None, num_missing_allowed: int = 0) -> Frames:
    """Reads the brightness of the frames from `first` up to `last`, by default of all frames.

    Args:
        path: Any file that PyAV reads.
        first: The number of the first frame, counted from 0.
        last: The number after that of the last frame.
        num_missing_allowed: How many frames may be missing at the end.

    Returns:
        The frames (V, H, W).

    Raises:
        ValueError: If the file is missing or damaged, or has too few frames.
    """
    try:
        with av.open(str(path)) as container:
            frames = [brightness(frame) for frame in islice(decoded(container), first, last)]
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video does not decode: {path}: {error.strerror}") from None
    if not frames or (last is not None and len(frames) < last - first - num_missing_allowed):
        raise ValueError(f"video is too short: {path} has {first + len(frames)} frames, wanted are {first} to {last}.")
    return np.stack(frames)


def decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Yields the frames of the first video stream of a file.

    They are decoded in the calling thread, since callers read many files in parallel processes.
    """
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    yield from container.decode(stream)


def resampled_frames(path: Path, time_origin: str = "audio") -> Iterator[tuple[int, Frames]]:
    """Yields the frames of any video file at 25 a second. The file's own rate may be any, and need not be constant.

    Frame v is the one that a player shows at (v + 0.5) / 25 s, by the time stamps of the file. So a change of rate
    moves nothing by more than half a frame, and nothing on average. A damaged frame is replaced by the one before it.

    Args:
        path: Any file that PyAV reads.
        time_origin: What begins at 0 s. With `audio` it is the first audio sample of the file, where it has any (its
            streams may begin at different times); with `video` it is the first frame.

    Yields:
        The number of the frame in the file, and the frame (H, W), upright.

    Raises:
        ValueError: If the file is missing, damaged or truncated, or has no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"no video track: {path}")
            frames = _timed(container)
            begin, shown = next(frames, (0.0, None))
            if shown is None:
                raise ValueError(f"video does not decode: {path}: it has no frames")
            origin = _begin_of_audio(container, begin) if time_origin == "audio" else begin
            number = num_yielded = 0
            for number, (begin, following) in enumerate(frames):
                num_due = max(num_yielded, _num_due(begin - origin))
                yield from [(number, _upright(shown))] * (num_due - num_yielded)
                shown, num_yielded = following, num_due
            _check_complete(container, number + 1, begin, path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video does not decode: {path}: {error.strerror}") from None


def _timed(container: av.container.InputContainer) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """Yields when each frame is shown, in seconds of the file, and the frame; then when the last one ends, and None."""
    begin, step, length = None, math.inf, SECONDS_PER_FRAME
    for frame in _decodable(container):
        before, begin = begin, frame.time if frame.time is not None else (begin or 0.0) + length
        step = step if before is None else begin - before
        length = float(frame.duration * frame.time_base) if frame.duration else length
        yield begin, frame
    if begin is not None:
        yield begin + min(step, length), None  # not all formats say how long the last one is shown


def _decodable(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Yields all frames that decode, and passes over the damaged ones."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        with suppress(av.InvalidDataError):
            yield from packet.decode()


def _check_complete(container: av.container.InputContainer, num_frames: int, end: float, path: Path) -> None:
    """Raises a ValueError if the file ends before the length that its header states, where it states one."""
    promised = (container.duration or 0) / av.time_base
    seconds = end - (container.start_time or 0) / av.time_base
    tolerated = TOLERATED_FRAMES / FRAMES_PER_SECOND
    if num_frames < container.streams.video[0].frames and seconds < promised - tolerated:
        raise ValueError(f"video is cut off: {path} has {seconds:.2f} s, its header says {promised:.2f} s")


def _begin_of_audio(container: av.container.InputContainer, default: float) -> float:
    if not container.streams.audio or container.streams.audio[0].start_time is None:
        return default
    stream = container.streams.audio[0]
    return float(stream.start_time * stream.time_base)


def _num_due(seconds: float) -> int:
    """Returns how many frames at 25 a second have their middle before a time."""
    return max(0, math.ceil(round(seconds * FRAMES_PER_SECOND, ndigits=6) - 0.5))


def _upright(frame: av.VideoFrame) -> Frames:
    """Returns the brightness (H, W) of a frame, rotated as its metadata says: telephones record video sideways."""
    return np.ascontiguousarray(np.rot90(brightness(frame), round(frame.rotation / 90)))


def brightness(frame: av.VideoFrame) -> Frames:
    """Returns the brightness (H, W) of a frame: its first plane, where it has planes, which needs no conversion.

    Values are those of the file: 16 to 235 in most videos, 0 to 255 in those that `write_video` writes.
    """
    if not frame.format.name.startswith(("yuv", "gray")) or frame.format.components[0].bits != 8:
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    grey: Frames = rows[:, : plane.width].copy()
    return grey


@register_reader
class VideoReader(FeaturesReader):  # type: ignore[misc]  # lhotse has no types
    """Lets lhotse load arrays that are stored as video files. Import it before cuts with such arrays are loaded.

    Args:
        folder: The folder of the files.
    """

    name = "grey_video"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self, key: str, left_offset_frames: int = 0, right_offset_frames: int | None = None) -> Frames:
        """Returns the frames (V, H, W) of the file `key` from the left offset up to the right one.

        lhotse rounds the start of a cut and its duration, and so may ask for one frame after the end.
        """
        return read_video(self.folder / key, left_offset_frames, right_offset_frames, num_missing_allowed=1)


def video_array(folder: Path, key: str, shape: tuple[int, int, int]) -> TemporalArray:
    """Returns the lhotse manifest of a video file.

    Args:
        folder: The folder of the files.
        key: The path of this file in the folder.
        shape: Its shape (V, H, W).

    Example:
        >>> video_array(Path("data/grid/video"), "s1/bbaf2n.mp4", (75, 96, 96)).duration
        3.0
    """
    array = Array(VideoReader.name, storage_path=str(folder), storage_key=key, shape=list(shape))
    return TemporalArray(array, temporal_dim=0, frame_shift=SECONDS_PER_FRAME, start=0.0)
