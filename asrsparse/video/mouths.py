"""Any video of a talker -> the region of the mouth, 96x96 grey, 25 frames a second.

The face is found (`faces.py`) or comes from landmarks (`landmarks.py`). Its places are filled in where it was not found
for a moment, and smoothed over time, so that the crop does not shake; then the mouth is cut out of every picture.

Shape legend: V pictures at 25 a second, H rows, W columns, S pictures of the source, N places.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.faces import FaceDetector, HaarFaces, Places, Track, track_faces
from asrsparse.video.io import TOLERATED_FRAMES, Frames, pictures
from asrsparse.video.opencv import cv2

SIZE = 96
MAX_GAP = 1.0
MOUTH_BELOW_CENTRE = 0.3  # of a face's width: the mouth is 0.8 of the cascade's square down
CROP_WIDTH = 0.62  # of a face's width: the mouth takes half of the crop
MEDIAN_OF = 3  # neighbouring places: one that is wrong has no say
CENTRE_SECONDS, WIDTH_SECONDS = 0.36, 1.0  # of moving means: heads turn, and hardly ever come nearer


@dataclass(frozen=True)
class Mouths:
    """The mouth of one video.

    Attributes:
        frames: (V, 96, 96), at 25 a second.
        num_looks: In how many of them a face was looked for (the others lie between those).
        num_found: In how many of these it was found.
    """

    frames: Frames
    num_looks: int
    num_found: int


def cut_mouths(
    path: Path,
    landmarks: Places | None = None,
    zero: str = "audio",
    max_gap: float = MAX_GAP,
    detector: FaceDetector | None = None,
) -> Mouths:
    """Cuts the mouth out of a video.

    Args:
        path: Any file that PyAV reads, of one talker who looks into the camera.
        landmarks: (S, 3), the place and width of the region to cut in each picture of the file, NaN where it is not
            known (`landmarks.read_landmarks`); by default faces are looked for.
        zero: When time begins: `audio`, with the file's own sound, where it has any, or `video`, with the first
            picture.
        max_gap: The longest time in seconds from one picture with a face to the next.
        detector: What finds faces; by default `HaarFaces`.

    Raises:
        ValueError: If the file does not decode, has no video, or stands still or has no face for longer than
            `max_gap`; if it shows nothing, or two faces; or if the landmarks are not those of this file.
    """
    numbers: list[int] = []

    def seen() -> Iterator[Frames]:
        for number, picture in pictures(path, zero):
            numbers.append(number)
            yield picture

    if landmarks is None:
        track = track_faces(seen(), detector or _haar_faces())
        _check_faces(track, path)
        places = mouths_of_faces(track.places)
    else:
        num_pictures = sum(1 for _ in seen())
        _check_landmarks(landmarks, numbers, path)
        places = landmarks[np.minimum(numbers, len(landmarks) - 1)]
        track = Track(places, num_looks=num_pictures)
    _check_gaps(numbers, places, max_gap, path)
    steady = smoothed(places)
    crops = [crop(picture, place) for (_, picture), place in zip(pictures(path, zero), steady, strict=True)]
    return Mouths(np.stack(crops), track.num_looks, track.num_found)


@cache
def _haar_faces() -> HaarFaces:
    return HaarFaces()


def _check_faces(track: Track, path: Path) -> None:
    if track.num_found == 0 and track.num_blank == track.num_searches:
        raise ValueError(f"black video: {path}: nothing is seen in {track.num_looks} of {track.num_looks} pictures")
    if track.num_found == 0:
        raise ValueError(f"no face: {path}: in none of the {track.num_looks} pictures that were looked at")
    if 2 * track.num_two > track.num_searches:
        raise ValueError(
            f"two faces: {path}: two of similar size in {track.num_two} of {track.num_searches} pictures. Cut the "
            "video to the talker, or give landmarks"
        )


def _check_landmarks(landmarks: Places, numbers: list[int], path: Path) -> None:
    if abs(len(landmarks) - 1 - numbers[-1]) > TOLERATED_FRAMES:
        raise ValueError(
            f"landmarks do not fit: {path} has {numbers[-1] + 1} pictures, the landmarks have {len(landmarks)}; give "
            "one entry for each picture"
        )
    if np.isnan(landmarks).all():
        raise ValueError(f"no face: {path}: the landmarks are empty in all {len(landmarks)} pictures")


def _check_gaps(numbers: list[int], places: Places, max_gap: float, path: Path) -> None:
    """Refuses a video without new pictures, or without a face, for too long."""
    changes = np.flatnonzero(np.diff(numbers, prepend=-1, append=numbers[-1] + 1))
    found = np.concatenate([[-1], np.flatnonzero(~np.isnan(places[:, 0])), [len(places)]])
    for events, reason in [(changes, "video stands still"), (found, "face is lost")]:
        gaps = np.diff(events)
        if len(gaps) and gaps.max() > max_gap * FRAMES_PER_SECOND:
            begin = max(0, events[gaps.argmax()]) / FRAMES_PER_SECOND
            seconds = gaps.max() / FRAMES_PER_SECOND
            raise ValueError(f"{reason}: {path}: for {seconds:.2f} s from {begin:.2f} s on; allowed are {max_gap:g} s")


def mouths_of_faces(faces: Places) -> Places:
    """The places and widths (N, 3) of the regions to cut, from those of faces (N, 3)."""
    x, y, width = faces.T
    return np.stack([x, y + MOUTH_BELOW_CENTRE * width, CROP_WIDTH * width], axis=1)


def smoothed(places: Places) -> Places:
    """Places (V, 3) without gaps, outliers and shaking.

    Of three neighbours that were found the median counts; between them places are interpolated, and then averaged over
    a time to both sides, which delays nothing.

    Args:
        places: (V, 3), NaN where none was found, which must not be everywhere.
    """
    found = np.flatnonzero(~np.isnan(places[:, 0]))
    medians = np.median(_windows(places[found], MEDIAN_OF), axis=-1)
    whole = np.stack([np.interp(np.arange(len(places)), found, column) for column in medians.T], axis=1)
    centres = _windows(whole[:, :2], _odd_frames(CENTRE_SECONDS)).mean(axis=-1)
    widths = _windows(whole[:, 2:], _odd_frames(WIDTH_SECONDS)).mean(axis=-1)
    return np.concatenate([centres, widths], axis=1)


def _windows(rows: Places, size: int) -> Places:
    """The neighbours (N, 3, size) of each row (N, 3); before the first and behind the last row stand these."""
    return sliding_window_view(np.pad(rows, ((size // 2, size // 2), (0, 0)), mode="edge"), size, axis=0)


def _odd_frames(seconds: float) -> int:
    return 2 * round(seconds * FRAMES_PER_SECOND / 2) + 1


def crop(picture: Frames, place: Places) -> Frames:
    """The square (96, 96) of a picture (H, W) with centre and width `place` (3,), exact to a fraction of a pixel.

    Where it leaves the picture, the picture's edge goes on.
    """
    x, y, width = place
    scale = width / SIZE
    if scale >= 2:  # each pixel of the crop is the mean of those that it covers
        picture = np.asarray(cv2.blur(picture, (round(scale), round(scale))), np.uint8)
    middle = (SIZE - 1) / 2
    to_source = np.array([[scale, 0, x - middle * scale], [0, scale, y - middle * scale]])
    ways = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(picture, to_source, (SIZE, SIZE), flags=ways, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(square, np.uint8)


def fit_to_audio(frames: Frames, seconds: float, path: Path) -> Frames:
    """Frames (V, H, W) for audio of `seconds`: of two frames too many or too few, the last are dropped or repeated.

    Raises:
        ValueError: If they are more.
    """
    num_wanted = max(1, round(seconds * FRAMES_PER_SECOND))
    if abs(len(frames) - num_wanted) > TOLERATED_FRAMES:
        raise ValueError(
            f"audio and video differ in length: {path} has {len(frames) / FRAMES_PER_SECOND:.2f} s of video for "
            f"{seconds:.2f} s of audio; allowed is a difference of {TOLERATED_FRAMES / FRAMES_PER_SECOND:g} s"
        )
    return frames[np.minimum(np.arange(num_wanted), len(frames) - 1)]
