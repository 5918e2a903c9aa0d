"""Draws a contact sheet: one random frame of each of many videos in one image.

A person can see on it whether the mouth regions are complete, centred, and those of the talker.

Shape legend: V frames, H rows, W columns.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from asrsparse.files import atomic_path
from asrsparse.video.io import Frames, read_video
from asrsparse.video.opencv import cv2

COLUMNS = 10
CAPTION = 14  # pixels below each frame


def write_contact_sheet(path: Path, videos: Mapping[str, Path], num_frames: int = 100, seed: int = 0) -> None:
    """Draws random frames of random videos, each with its id. The file is written completely or not at all.

    Args:
        path: The image to write, `*.png`.
        videos: Maps ids to files of grey video; all must have the same height and width.
        num_frames: The number of frames, at most one of each video.
        seed: The seed of the random choice.

    Raises:
        ValueError: If there is no video, or one does not decode.
    """
    if not videos:
        raise ValueError(f"videos: got none for {path}, allowed is one or more.")
    generator = np.random.default_rng(seed)
    ids = sorted(videos)
    chosen = np.sort(generator.choice(len(ids), size=min(num_frames, len(ids)), replace=False))
    tiles = []
    for number in chosen:
        frames = read_video(videos[ids[number]])
        place = int(generator.integers(len(frames)))
        tiles.append(_with_caption(frames[place], f"{ids[number]}:{place}"))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[first : first + COLUMNS], axis=1) for first in range(0, len(tiles), COLUMNS)]
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", np.concatenate(rows))[1].tobytes())


def _with_caption(frame: Frames, caption: str) -> Frames:
    """Returns a frame (H, W) with a caption below it, in letters that are small enough to fit: (H + CAPTION, W)."""
    width = frame.shape[1]
    strip = np.full((CAPTION, width), 255, np.uint8)
    (long, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.36, (width - 4) / long)
    cv2.putText(strip, caption, (2, CAPTION - 4), cv2.FONT_HERSHEY_SIMPLEX, scale, 0, 1, cv2.LINE_AA)
    return np.concatenate([frame, strip])
