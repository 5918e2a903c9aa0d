"""Grey video at 25 frames a second: small files, and lhotse manifests of them that cuts load.

lhotse 1.33 reads videos through a reader that torchaudio no longer has. Here a video is a `TemporalArray` of lhotse,
whose storage is a video file that PyAV reads: `cut.load_custom("video")` gives the frames of the cut, truncated like
its audio.

Shape legend: V frames, H rows, W columns.
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
"""(V, H, W): brightness, 0 to 255."""

_QUALITY = {"crf": "19", "preset": "veryfast", "threads": "1", "mbtree": "0"}
"""Of H.264: no loss that the eye sees, 7 kB a second. With its macroblock tree, x264 (version 165) writes other bytes
on processors with AVX-512 than elsewhere, and not the same ones twice: it reads memory that it never wrote."""


def write_video(path: Path, frames: Frames) -> None:
    """Writes grey frames as an H.264 file, whole or not at all.

    Args:
        path: `*.mp4`.
        frames: (V, H, W), H and W even.

    Raises:
        ValueError: If there is no frame.
    """
    if len(frames) == 0:
        raise ValueError(f"no frames to write to {path}: a video has one at least.")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_QUALITY)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.color_range = av.video.reformatter.ColorRange.JPEG.value  # brightness from 0, not from 16
        for picture in frames:
            container.mux(stream.encode(_to_frame(picture)))
        container.mux(stream.encode())


def _to_frame(picture: Frames) -> av.VideoFrame:
    """A frame without colour."""
    colourless = np.full((picture.shape[0] // 2, picture.shape[1]), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.concatenate([picture, colourless]), format="yuv420p")


def read_video(path: Path, first: int = 0, last: int | None = None, may_lack: int = 0) -> Frames:
    """Reads the brightness of frames `first` up to `last`, by default all.

    Args:
        path: What PyAV reads.
        first: The first frame, counted from 0.
        last: One after the last frame.
        may_lack: How many of the last frames need not be there.

    Returns:
        (V, H, W).

    Raises:
        ValueError: If the file is missing or damaged, or holds no such frames.
    """
    try:
        with av.open(str(path)) as container:
            frames = [brightness(frame) for frame in islice(decoded(container), first, last)]
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video does not decode: {path}: {error.strerror}") from None
    if not frames or (last is not None and len(frames) < last - first - may_lack):
        raise ValueError(f"video is too short: {path} has {first + len(frames)} frames, wanted are {first} to {last}.")
    return np.stack(frames)


def decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """The frames of the first video in a file; decoded in this thread, since many files are read at the same time."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    yield from container.decode(stream)


def pictures(path: Path, zero: str = "audio") -> Iterator[tuple[int, Frames]]:
    """The pictures of any video file at 25 a second, whatever its own rate, constant or not.

    Picture v is what the screen shows at (v + 0.5) / 25 s, by the file's time stamps. So another rate moves nothing by
    more than half a picture, and on average by nothing. A damaged picture is replaced by the one before it.

    Args:
        path: What PyAV reads.
        zero: When time begins: `audio`, with the first sound of the file, where it has any (its streams may begin at
            different times), or `video`, with the first picture.

    Yields:
        The number of the picture in the file, and the picture (H, W), upright.

    Raises:
        ValueError: If the file is missing, damaged or cut off, or has no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"no video track: {path}")
            frames = _timed(container)
            begin, shown = next(frames, (0.0, None))
            if shown is None:
                raise ValueError(f"video does not decode: {path}: it holds no pictures")
            origin = _begin_of_audio(container, begin) if zero == "audio" else begin
            number = num_yielded = 0
            for number, (begin, following) in enumerate(frames):
                num_due = max(num_yielded, _num_due(begin - origin))
                yield from [(number, _upright(shown))] * (num_due - num_yielded)
                shown, num_yielded = following, num_due
            _check_whole(container, number + 1, begin, path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video does not decode: {path}: {error.strerror}") from None


def _timed(container: av.container.InputContainer) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """When each frame is shown, in seconds of the file, and the frame; then when the last one ends, and None."""
    begin, step, length = None, math.inf, SECONDS_PER_FRAME
    for frame in _despite_damage(container):
        before, begin = begin, frame.time if frame.time is not None else (begin or 0.0) + length
        step = step if before is None else begin - before
        length = float(frame.duration * frame.time_base) if frame.duration else length
        yield begin, frame
    if begin is not None:
        yield begin + min(step, length), None  # not all formats say how long the last one is shown


def _despite_damage(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """All frames that decode."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        with suppress(av.InvalidDataError):
            yield from packet.decode()


def _check_whole(container: av.container.InputContainer, num_frames: int, end: float, path: Path) -> None:
    """Compares with the file's header, where it says something: the end of a file that was cut off is not missed."""
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
    """How many pictures have their middle before a time."""
    return max(0, math.ceil(round(seconds * FRAMES_PER_SECOND, ndigits=6) - 0.5))


def _upright(frame: av.VideoFrame) -> Frames:
    """The brightness of a frame, turned as a player would: telephones film lying and say so."""
    return np.ascontiguousarray(np.rot90(brightness(frame), round(frame.rotation / 90)))


def brightness(frame: av.VideoFrame) -> Frames:
    """The brightness (H, W) of a frame: its first plane, where it has planes, which needs no conversion.

    Values are those of the file: 16 to 235 in most films, 0 to 255 in ours.
    """
    if not frame.format.name.startswith(("yuv", "gray")) or frame.format.components[0].bits != 8:
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    picture: Frames = rows[:, : plane.width].copy()
    return picture


@register_reader
class VideoReader(FeaturesReader):  # type: ignore[misc]  # lhotse has no types
    """Lets lhotse load arrays that are kept as video files; to be imported before cuts with such arrays are loaded.

    Args:
        folder: Where the files lie.
    """

    name = "grey_video"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self, key: str, left_offset_frames: int = 0, right_offset_frames: int | None = None) -> Frames:
        """The frames (V, H, W) of the file `key` from the left offset up to the right one.

        lhotse rounds the start of a cut and its duration, and so may ask for one frame after the end.
        """
        return read_video(self.folder / key, left_offset_frames, right_offset_frames, may_lack=1)


def video_array(folder: Path, key: str, shape: tuple[int, int, int]) -> TemporalArray:
    """The manifest of a video file.

    Args:
        folder: Where files lie.
        key: The path of this one in it.
        shape: (V, H, W).

    Example:
        >>> video_array(Path("data/grid/video"), "s1/bbaf2n.mp4", (75, 96, 96)).duration
        3.0
    """
    array = Array(VideoReader.name, storage_path=str(folder), storage_key=key, shape=list(shape))
    return TemporalArray(array, temporal_dim=0, frame_shift=SECONDS_PER_FRAME, start=0.0)
