"""Crops the mouth region out of any video of a talker: 96x96 grey pixels, 25 frames a second.

The face is found by a detector (`faces.py`), or its landmarks are given (`landmarks.py`). Where the place of the mouth
is missing for a moment, it is interpolated. Then the places are smoothed over time, so that the crop does not shake,
and a square around the mouth is cropped out of each frame.

Shape legend: V frames at 25 a second, S frames of the file at its own rate, H rows, W columns, N places.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.faces import FaceDetector, HaarFaces, Places, Track, track_faces
from asrsparse.video.io import TOLERATED_FRAMES, Frames, resampled_frames
from asrsparse.video.opencv import cv2

SIZE = 96
"""The height and width of a mouth region in pixels."""

MAX_GAP = 1.0
MOUTH_BELOW_CENTRE = 0.3  # of a face's width: the mouth lies 0.8 of the cascade's square below its top
CROP_WIDTH = 0.62  # of a face's width: the mouth fills half of the crop
MEDIAN_OF = 3  # neighbouring places: a single wrong one has no effect
CENTRE_SECONDS, WIDTH_SECONDS = 0.36, 1.0  # lengths of moving means: heads turn, and hardly ever come nearer


@dataclass(frozen=True)
class MouthRegion:
    """The mouth region of one video.

    Attributes:
        frames: The cropped frames (V, 96, 96) at 25 a second.
        num_searched: The number of frames in which a face was searched for; the places in the others are interpolated.
        num_found: The number of these frames in which a face was found.
    """

    frames: Frames
    num_searched: int
    num_found: int


def crop_mouth_region(
    path: Path,
    landmarks: Places | None = None,
    time_origin: str = "audio",
    max_gap: float = MAX_GAP,
    detector: FaceDetector | None = None,
) -> MouthRegion:
    """Crops the mouth region out of a video.

    Args:
        path: Any file that PyAV reads, of one talker who looks into the camera.
        landmarks: The centre and width (S, 3) of the region to crop in each frame of the file, NaN where they are not
            known (`landmarks.read_landmarks` reads them). By default the face is searched for.
        time_origin: What begins at 0 s: `audio` for the first audio sample of the file, where it has any, or `video`
            for its first frame.
        max_gap: The longest time in seconds from one frame with a face to the next.
        detector: Finds the faces of a frame; by default `HaarFaces`.

    Raises:
        ValueError: If the file does not decode or has no video; if it has no new frame, or no face, for longer than
            `max_gap`; if it shows nothing, or two faces; or if the landmarks do not belong to this file.
    """
    numbers: list[int] = []

    def numbered_frames() -> Iterator[Frames]:
        for number, frame in resampled_frames(path, time_origin):
            numbers.append(number)
            yield frame

    if landmarks is None:
        track = track_faces(numbered_frames(), detector or _haar_faces())
        _check_faces(track, path)
        places = mouth_places(track.places)
    else:
        num_frames = sum(1 for _ in numbered_frames())
        _check_landmarks(landmarks, numbers, path)
        places = landmarks[np.minimum(numbers, len(landmarks) - 1)]
        track = Track(places, num_searched=num_frames)
    _check_gaps(numbers, places, max_gap, path)
    steady = smoothed(places)
    # The file is decoded a second time: all its frames in full size may not fit in memory.
    crops = [crop(frame, place) for (_, frame), place in zip(resampled_frames(path, time_origin), steady, strict=True)]
    return MouthRegion(np.stack(crops), track.num_searched, track.num_found)


@cache
def _haar_faces() -> HaarFaces:
    return HaarFaces()


def _check_faces(track: Track, path: Path) -> None:
    num_searched = track.num_searched
    if track.num_found == 0 and track.num_blank == track.num_full_searches:
        raise ValueError(f"black video: {path}: {num_searched} of {num_searched} searched frames show nothing")
    if track.num_found == 0:
        raise ValueError(f"no face: {path}: none was found in the {num_searched} frames that were searched")
    if 2 * track.num_two_faces > track.num_full_searches:
        raise ValueError(
            f"two faces: {path}: {track.num_two_faces} of {track.num_full_searches} frames show two of similar size. "
            "Crop the video to the talker, or give landmarks"
        )


def _check_landmarks(landmarks: Places, numbers: list[int], path: Path) -> None:
    if abs(len(landmarks) - 1 - numbers[-1]) > TOLERATED_FRAMES:
        raise ValueError(
            f"landmarks do not fit: {path} has {numbers[-1] + 1} frames, the landmarks have {len(landmarks)}; give "
            "one entry for each frame"
        )
    if np.isnan(landmarks).all():
        raise ValueError(f"no face: {path}: the landmarks are empty in all {len(landmarks)} frames")


def _check_gaps(numbers: list[int], places: Places, max_gap: float, path: Path) -> None:
    """Raises a ValueError if there is no new frame, or no face, for longer than `max_gap` seconds."""
    changes = np.flatnonzero(np.diff(numbers, prepend=-1, append=numbers[-1] + 1))
    found = np.concatenate([[-1], np.flatnonzero(~np.isnan(places[:, 0])), [len(places)]])
    for events, reason in [(changes, "video stands still"), (found, "face is lost")]:
        gaps = np.diff(events)
        if len(gaps) and gaps.max() > max_gap * FRAMES_PER_SECOND:
            begin = max(0, events[gaps.argmax()]) / FRAMES_PER_SECOND
            seconds = gaps.max() / FRAMES_PER_SECOND
            raise ValueError(f"{reason}: {path}: for {seconds:.2f} s from {begin:.2f} s on; allowed are {max_gap:g} s")


def mouth_places(faces: Places) -> Places:
    """Returns the centres and widths (N, 3) of the mouth regions of faces (N, 3)."""
    x, y, width = faces.T
    return np.stack([x, y + MOUTH_BELOW_CENTRE * width, CROP_WIDTH * width], axis=1)


def smoothed(places: Places) -> Places:
    """Returns places (V, 3) without gaps, outliers and shaking.

    Each place that was found is replaced by the median of itself and its two neighbours. The places between them are
    interpolated. Then all are averaged over time, equally to both sides, which causes no delay.

    Args:
        places: Places (V, 3), NaN where none was found; at least one must not be NaN.
    """
    found = np.flatnonzero(~np.isnan(places[:, 0]))
    medians = np.median(_windows(places[found], MEDIAN_OF), axis=-1)
    complete = np.stack([np.interp(np.arange(len(places)), found, column) for column in medians.T], axis=1)
    centres = _windows(complete[:, :2], _odd_frames(CENTRE_SECONDS)).mean(axis=-1)
    widths = _windows(complete[:, 2:], _odd_frames(WIDTH_SECONDS)).mean(axis=-1)
    return np.concatenate([centres, widths], axis=1)


def _windows(rows: Places, size: int) -> Places:
    """Returns the window (N, 3, size) around each row of (N, 3); the first and the last row are repeated."""
    return sliding_window_view(np.pad(rows, ((size // 2, size // 2), (0, 0)), mode="edge"), size, axis=0)


def _odd_frames(seconds: float) -> int:
    return 2 * round(seconds * FRAMES_PER_SECOND / 2) + 1


def crop(frame: Frames, place: Places) -> Frames:
    """Returns the square (96, 96) of a frame (H, W) with centre and width `place` (3,), exact to a fraction of a pixel.

    Where the square reaches beyond the frame, the pixels at the edge of the frame are repeated.
    """
    x, y, width = place
    scale = width / SIZE
    if scale >= 2:  # each pixel of the crop is the mean of those that it covers
        frame = np.asarray(cv2.blur(frame, (round(scale), round(scale))), np.uint8)
    middle = (SIZE - 1) / 2
    to_source = np.array([[scale, 0, x - middle * scale], [0, scale, y - middle * scale]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(frame, to_source, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(square, np.uint8)


def fit_to_audio(frames: Frames, seconds: float, path: Path) -> Frames:
    """Makes a video as long as its audio: up to two frames at the end are dropped, or the last one is repeated.

    Args:
        frames: The frames (V, H, W).
        seconds: The duration of the audio.
        path: The file of the video, for the message.

    Raises:
        ValueError: If audio and video differ by more than two frames.
    """
    num_wanted = max(1, round(seconds * FRAMES_PER_SECOND))
    if abs(len(frames) - num_wanted) > TOLERATED_FRAMES:
        raise ValueError(
            f"audio and video differ in length: {path} has {len(frames) / FRAMES_PER_SECOND:.2f} s of video for "
            f"{seconds:.2f} s of audio; allowed is a difference of {TOLERATED_FRAMES / FRAMES_PER_SECOND:g} s"
        )
    return frames[np.minimum(np.arange(num_wanted), len(frames) - 1)]
