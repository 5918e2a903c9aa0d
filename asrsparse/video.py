"""Grey video at 25 frames a second: small files, and lhotse manifests of them that cuts load.

lhotse 1.33 reads videos through a reader that torchaudio no longer has. Here a video is a `TemporalArray` of lhotse,
whose storage is a video file that PyAV reads: `cut.load_custom("video")` gives the frames of the cut, truncated like
its audio.

Shape legend: V frames, H rows, W columns.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from lhotse.array import Array, TemporalArray
from lhotse.features.io import FeaturesReader, register_reader
from numpy.typing import NDArray

from asrsparse.files import atomic_path

FRAMES_PER_SECOND = 25

Frames = NDArray[np.uint8]
"""(V, H, W): brightness, 0 to 255."""

_QUALITY = {"crf": "16", "preset": "veryfast", "threads": "1"}  # of H.264: no loss that the eye sees, 6 kB a second


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


def read_video(path: Path, first: int = 0, last: int | None = None) -> Frames:
    """Reads the brightness of frames `first` up to `last`, by default all.

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
    if not frames or (last is not None and len(frames) < last - first):
        raise ValueError(f"video is too short: {path} has {first + len(frames)} frames, wanted are {first} to {last}.")
    return np.stack(frames)


def decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """The frames of the first video in a file; decoded in this thread, since many files are read at the same time."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    yield from container.decode(stream)


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
        """The frames (V, H, W) of the file `key` from the left offset up to the right one."""
        return read_video(self.folder / key, left_offset_frames, right_offset_frames)


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
    return TemporalArray(array, temporal_dim=0, frame_shift=1 / FRAMES_PER_SECOND, start=0.0)
