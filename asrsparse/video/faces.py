"""Faces in pictures: found by OpenCV's cascade, followed from picture to picture.

A face is three numbers: x and y of its centre and its width, in pixels of the picture.

Shape legend: V pictures at 25 a second, H rows, W columns, N faces.
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
"""(..., 3): x, y, width; NaN where nothing was found."""

CASCADE = "haarcascade_frontalface_alt2.xml"  # finds what the default one finds, in half the time on small pictures
LONG_SIDE = 240  # pixels of a whole picture when it is searched
FACE_WIDTH = 56  # pixels of a face when it is searched near its last place; twice the cascade's own
SMALLEST = 24  # pixels of a face in a whole picture: a tenth of its long side
SIMILAR = 0.6  # a second face is another talker if it has this share of the biggest one's width
NO_CONTRAST = 24  # a picture whose brightest and darkest pixels differ by less shows nothing
SECONDS_BETWEEN_SEARCHES = 2.0  # of whole pictures


class FaceDetector(Protocol):
    """Finds the faces of a picture."""

    def find(self, picture: Frames, near: Places | None = None) -> Places:
        """Finds all faces of a picture (H, W), or those around the face `near` (3,) that have about its size.

        Returns:
            (N, 3): x, y, width.
        """
        ...


class HaarFaces:
    """The frontal faces that OpenCV's own cascade finds (Viola & Jones, CVPR 2001; Lienhart & Maydt, ICIP 2002)."""

    def __init__(self) -> None:
        self.cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))

    def find(self, picture: Frames, near: Places | None = None) -> Places:
        """Finds all faces of a picture (H, W), or those around the face `near` (3,) that have about its size.

        Returns:
            (N, 3): x, y, width.
        """
        if near is None:
            scale = min(1.0, LONG_SIDE / max(picture.shape))
            return self._search(picture, scale, (SMALLEST, LONG_SIDE))
        x, y, width = near
        left, top = max(0, int(x - 0.75 * width)), max(0, int(y - 0.75 * width))
        part = picture[top : int(y + 0.75 * width) + 1, left : int(x + 0.75 * width) + 1]
        found = self._search(part, FACE_WIDTH / width, (int(0.8 * FACE_WIDTH), int(1.25 * FACE_WIDTH)))
        found[:, :2] += left, top
        return found

    def _search(self, picture: Frames, scale: float, widths: tuple[int, int]) -> Places:
        """Faces in a picture that is made smaller or larger first."""
        size = [max(1, round(length * scale)) for length in picture.shape[::-1]]
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(picture, size, interpolation=way)
        shortest, longest = [(width, width) for width in widths]
        boxes = self.cascade.detectMultiScale(small, 1.1, 4, minSize=shortest, maxSize=longest)
        squares = np.array(boxes, np.float64).reshape(-1, 4)
        return np.stack([squares[:, i] + squares[:, i + 2] / 2 for i in (0, 1)] + [squares[:, 2]], axis=1) / scale


@dataclass(frozen=True)
class Track:
    """Where one face was in each picture.

    Attributes:
        places: (V, 3); NaN where no face was found, or none was looked for.
        num_looks: In how many pictures a face was looked for.
        num_searches: How many whole pictures were searched,
        num_two: in how many of them there were two faces of similar size,
        num_blank: and how many showed nothing at all.
    """

    places: Places
    num_looks: int
    num_searches: int = 0
    num_two: int = 0
    num_blank: int = 0

    @property
    def num_found(self) -> int:
        """In how many pictures a face was found."""
        return int((~np.isnan(self.places[:, 0])).sum())


def track_faces(pictures: Iterable[Frames], detector: FaceDetector, every: int = 4) -> Track:
    """Follows the biggest face of a video.

    It is looked for near its last place; in the whole picture where that fails, and every two seconds, which tells
    whether there is another one, and ends an error at the beginning.

    Args:
        pictures: V pictures (H, W) at 25 a second.
        detector: What finds faces in one of them.
        every: A face is looked for in every so many of them.
    """
    places: list[Places] = []
    counts = {"num_looks": 0, "num_searches": 0, "num_two": 0, "num_blank": 0}
    last: Places | None = None
    next_search = 0
    for number, picture in enumerate(pictures):
        places.append(np.full(3, np.nan))
        if number % every:
            continue
        counts["num_looks"] += 1
        near = None if last is None or number >= next_search else nearest(detector.find(picture, last), last)
        if near is None:
            found = detector.find(picture)
            near = nearest(found, last)
            next_search = number + round(SECONDS_BETWEEN_SEARCHES * FRAMES_PER_SECOND)
            counts["num_searches"] += 1
            counts["num_two"] += len(similar(found)) > 1
            counts["num_blank"] += len(found) == 0 and int(picture.max()) - int(picture.min()) < NO_CONTRAST
        if near is not None:
            places[-1] = last = near
    return Track(np.array(places).reshape(-1, 3), **counts)


def similar(faces: Places) -> Places:
    """Those of some faces (N, 3) that are not much smaller than the biggest."""
    big: Places = faces[faces[:, 2] >= SIMILAR * faces[:, 2].max(initial=0.0)]
    return big


def nearest(faces: Places, last: Places | None) -> Places | None:
    """Of faces (N, 3) of similar size the one that is nearest to the last place (3,); without one, the biggest."""
    if len(faces) == 0:
        return None
    big = similar(faces)
    best = big[:, 2].argmax() if last is None else np.hypot(*(big[:, :2] - last[:2]).T).argmin()
    face: Places = big[best]
    return face
