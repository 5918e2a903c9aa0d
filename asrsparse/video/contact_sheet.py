"""A sheet of pictures out of many videos, for a person to look at: are the mouths whole, centred, the talker's?"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from asrsparse.files import atomic_path
from asrsparse.video.io import Frames, read_video
from asrsparse.video.opencv import cv2

COLUMNS = 10
CAPTION = 14  # pixels below each picture


def write_contact_sheet(path: Path, videos: Mapping[str, Path], num_pictures: int = 100, seed: int = 0) -> None:
    """Draws random pictures of random videos, each with its id, as a PNG, whole or not at all.

    Args:
        path: `*.png`.
        videos: Id to a grey video; all of the same size.
        num_pictures: How many; fewer where there are fewer videos.
        seed: Chooses them.

    Raises:
        ValueError: If there is no video, or one does not decode.
    """
    if not videos:
        raise ValueError(f"no videos for {path}: a contact sheet has one picture at least.")
    generator = np.random.default_rng(seed)
    ids = sorted(videos)
    chosen = np.sort(generator.choice(len(ids), size=min(num_pictures, len(ids)), replace=False))
    tiles = []
    for number in chosen:
        frames = read_video(videos[ids[number]])
        place = int(generator.integers(len(frames)))
        tiles.append(_with_caption(frames[place], f"{ids[number]}:{place}"))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[first : first + COLUMNS], axis=1) for first in range(0, len(tiles), COLUMNS)]
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", np.concatenate(rows))[1].tobytes())


def _with_caption(picture: Frames, caption: str) -> Frames:
    """The picture over its name, small enough to fit."""
    width = picture.shape[1]
    strip = np.full((CAPTION, width), 255, np.uint8)
    (long, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.36, (width - 4) / long)
    cv2.putText(strip, caption, (2, CAPTION - 4), cv2.FONT_HERSHEY_SIMPLEX, scale, 0, 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])
