"""Writes video files for tests, with frames and audio at any times, and has a detector that finds bright squares."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

TICKS = 30_000  # a second; 29.97 frames a second are exact
RATE = 16_000


def write_video_file(
    path: Path,
    frames: np.ndarray,
    times: Sequence[float] | None = None,
    samples: np.ndarray | None = None,
    audio_begins: float = 0.0,
) -> Path:
    """Frames (S, H, W) shown from `times` on, by default 25 a second, and int16 samples (T,) at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(len(frames)) / 25 if times is None else times
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width = frames.shape[1:]
        video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, TICKS)
        audio = None if samples is None else container.add_stream("flac", rate=RATE, layout="mono")
        for grey, begin in zip(frames, times, strict=True):
            colourless = np.full((grey.shape[0] // 2, grey.shape[1]), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.concatenate([grey, colourless]), format="yuv420p")
            frame.pts, frame.time_base = round(begin * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(audio_begins * RATE)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def squares(centres: Sequence[Sequence[float]], width: int = 40, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Grey frames (V, H, W) with a bright square around a centre (x, y) in each, none where x is NaN."""
    frames = np.full((len(centres), *size), 90, np.uint8)
    for frame, (x, y) in zip(frames, centres, strict=True):
        if not np.isnan(x):
            left, top = round(x - width / 2), round(y - width / 2)
            frame[top : top + width, left : left + width] = 240
    return frames


class BrightSquares:
    """A detector that takes bright squares for faces; `searches` counts how often it searched a whole frame."""

    def __init__(self) -> None:
        self.searches = 0

    def find(self, frame: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
        self.searches += near is None
        _, _, boxes, centres = cv2.connectedComponentsWithStats((frame > 200).astype(np.uint8))
        faces = np.column_stack([centres[1:], boxes[1:, cv2.CC_STAT_WIDTH]])
        if near is not None:
            faces = faces[np.abs(faces[:, :2] - near[:2]).max(axis=1, initial=0.0) < near[2] / 2]
        return faces
