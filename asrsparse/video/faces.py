"""Finds faces in video frames by OpenCV's cascade, and follows one face from frame to frame.

A face is given by three numbers: x and y of its centre and its width, in pixels of the frame.

Shape legend: V frames at 25 a second, H rows, W columns, N faces.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.io import Frames
from asrsparse.video.opencv import cv2

Places = NDArray[np.float64]
"""Places (..., 3) in a frame: x, y and width in pixels; NaN where nothing was found."""

CASCADE = "haarcascade_frontalface_alt2.xml"  # finds what the default one finds, in half the time on small frames
LONG_SIDE = 240  # pixels of the long side to which a frame is scaled before all of it is searched
FACE_WIDTH = 56  # pixels to which a face is scaled before it is searched near its last place; twice the cascade's own
SMALLEST = 24  # pixels of the smallest face in a scaled frame: a tenth of its long side
SIMILAR = 0.6  # a second face is another talker if it has this share of the width of the biggest one
NO_CONTRAST = 24  # a frame whose brightest and darkest pixels differ by less shows nothing
SECONDS_BETWEEN_FULL_SEARCHES = 2.0


class FaceDetector(Protocol):
    """The interface of a detector that finds the faces of a frame."""

    def find(self, frame: Frames, near: Places | None = None) -> Places:
        """Finds all faces of a frame (H, W), or those around the face `near` (3,) that have about its size.

        Returns:
            The faces (N, 3): x, y and width.
        """
        ...


class HaarFaces:
    """Finds frontal faces by the cascade that OpenCV carries.

    (Viola & Jones, "Rapid object detection using a boosted cascade of simple features", CVPR 2001; Lienhart & Maydt,
    "An extended set of Haar-like features for rapid object detection", ICIP 2002.)
    """

    def __init__(self) -> None:
        self.cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))

    def find(self, frame: Frames, near: Places | None = None) -> Places:
        """Finds all faces of a frame (H, W), or those around the face `near` (3,) that have about its size.

        Returns:
            The faces (N, 3): x, y and width.
        """
        if near is None:
            scale = min(1.0, LONG_SIDE / max(frame.shape))
            return self._search(frame, scale, (SMALLEST, LONG_SIDE))
        x, y, width = near
        left, top = max(0, int(x - 0.75 * width)), max(0, int(y - 0.75 * width))
        surroundings = frame[top : int(y + 0.75 * width) + 1, left : int(x + 0.75 * width) + 1]
        found = self._search(surroundings, FACE_WIDTH / width, (int(0.8 * FACE_WIDTH), int(1.25 * FACE_WIDTH)))
        found[:, :2] += left, top
        return found

    def _search(self, image: Frames, scale: float, widths: tuple[int, int]) -> Places:
        """Returns the faces (N, 3) of an image (H, W), which is scaled first; `widths` are the allowed ones, scaled."""
        size = [max(1, round(length * scale)) for length in image.shape[::-1]]
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(image, size, interpolation=interpolation)
        shortest, longest = [(width, width) for width in widths]
        boxes = self.cascade.detectMultiScale(scaled, 1.1, 4, minSize=shortest, maxSize=longest)
        squares = np.array(boxes, np.float64).reshape(-1, 4)
        return np.stack([squares[:, i] + squares[:, i + 2] / 2 for i in (0, 1)] + [squares[:, 2]], axis=1) / scale


@dataclass(frozen=True)
class Track:
    """The places of one face in the frames of a video.

    Attributes:
        places: The places (V, 3); NaN in frames that were not searched, or in which no face was found.
        num_searched: The number of frames in which a face was searched for.
        num_full_searches: The number of these frames that were searched in full, not only near the last place.
        num_two_faces: The number of full searches that found two faces of similar size.
        num_blank: The number of full searches in which the frame showed nothing at all.
    """

    places: Places
    num_searched: int
    num_full_searches: int = 0
    num_two_faces: int = 0
    num_blank: int = 0

    @property
    def num_found(self) -> int:
        """The number of frames in which the face was found."""
        return int((~np.isnan(self.places[:, 0])).sum())


def track_faces(frames: Iterable[Frames], detector: FaceDetector, every: int = 4) -> Track:
    """Follows the biggest face of a video.

    The face is searched for near its last place. The whole frame is searched where that fails, and every two seconds:
    this shows whether there is a second face, and corrects a wrong choice at the beginning.

    Args:
        frames: V frames (H, W) at 25 a second.
        detector: Finds the faces of one frame.
        every: One in this many frames is searched.
    """
    places: list[Places] = []
    counts = {"num_searched": 0, "num_full_searches": 0, "num_two_faces": 0, "num_blank": 0}
    last: Places | None = None
    next_full_search = 0
    for number, frame in enumerate(frames):
        places.append(np.full(3, np.nan))
        if number % every:
            continue
        counts["num_searched"] += 1
        face = None if last is None or number >= next_full_search else nearest(detector.find(frame, last), last)
        if face is None:
            found = detector.find(frame)
            face = nearest(found, last)
            next_full_search = number + round(SECONDS_BETWEEN_FULL_SEARCHES * FRAMES_PER_SECOND)
            counts["num_full_searches"] += 1
            counts["num_two_faces"] += len(similar(found)) > 1
            counts["num_blank"] += len(found) == 0 and int(frame.max()) - int(frame.min()) < NO_CONTRAST
        if face is not None:
            places[-1] = last = face
    return Track(np.array(places).reshape(-1, 3), **counts)


def similar(faces: Places) -> Places:
    """Returns those of the faces (N, 3) that are not much smaller than the biggest one."""
    big: Places = faces[faces[:, 2] >= SIMILAR * faces[:, 2].max(initial=0.0)]
    return big


def nearest(faces: Places, last: Places | None) -> Places | None:
    """Returns the face (3,) that continues a track, or None if there is no face.

    Args:
        faces: The faces (N, 3) of a frame; those that are much smaller than the biggest one do not count.
        last: The last place (3,) of the track, to which the nearest face is taken; without one the biggest is taken.
    """
    if len(faces) == 0:
        return None
    big = similar(faces)
    best = big[:, 2].argmax() if last is None else np.hypot(*(big[:, :2] - last[:2]).T).argmin()
    face: Places = big[best]
    return face
