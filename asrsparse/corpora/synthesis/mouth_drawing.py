"""Draws the mouth region of a speaker whose phones are known, for the video of the mini corpus.

A mouth is drawn in coordinates of the face: pixels from the middle of the closed lips, x to the right and y down. The
motion of the head transforms them to coordinates of the frame.

Shape legend: V frames at 25 a second, H = W = 96 pixels, N points of a curve, P numbers of a pose.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrsparse.corpora.synthesis.speech import Interval
from asrsparse.corpora.synthesis.visemes import mouth_poses
from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.io import Frames
from asrsparse.video.opencv import cv2

SIZE = 96
"""The height and width of a frame in pixels."""

Numbers = NDArray[np.float64]

_WIDEST = 24.0  # pixels between the lips at an opening of 1
_HALF_SKIN = 80  # the skin is drawn beyond the edges of the frame, since the head moves
_FRACTION_BITS = 4  # of a pixel, in cv2's coordinates
_X = np.linspace(-1, 1, 17)  # (N,), from the left corner of the mouth to the right one
_ARCH = 1 - _X**2


@dataclass(frozen=True)
class Face:
    """The properties that differ between speakers. Lengths are in pixels, brightness is from 0 to 255.

    Attributes:
        half_width: Half of the width of the mouth at rest.
        upper_lip: The height of the upper lip.
        lower_lip: The height of the lower lip.
        bow: The depth of the dip in the middle of the upper lip, as a share of its height.
        corners: How much lower the corners of the mouth are than its middle.
        tilt: How much lower the right corner of the mouth is than its middle.
        chin: The distance from the mouth down to the edge of the chin.
        nose: The distance from the mouth up to the nostrils.
        skin: The brightness of the skin.
        lips: The brightness of the upper lip; the lower one is brighter.
        teeth: The brightness of the teeth.
        shadow: How much darker than the skin the folds, the nostrils and the edge of the chin are.
        beard: The standard deviation of the brightness of the skin from one pixel to the next.
        articulation: A factor of all openings of the mouth.
    """

    half_width: float
    upper_lip: float
    lower_lip: float
    bow: float
    corners: float
    tilt: float
    chin: float
    nose: float
    skin: float
    lips: float
    teeth: float
    shadow: float
    beard: float
    articulation: float


def face_of(speaker: str) -> Face:
    """Returns the face of a speaker, which is always the same for the same name.

    Example:
        >>> face_of("anna") == face_of("anna"), face_of("anna") == face_of("bert")
        (True, False)
    """
    rng = np.random.default_rng(zlib.crc32(speaker.encode()))
    skin = rng.uniform(115, 200)
    return Face(
        half_width=rng.uniform(19, 24),
        upper_lip=rng.uniform(4.0, 7.5),
        lower_lip=rng.uniform(5.5, 10.0),
        bow=rng.uniform(0.1, 0.45),
        corners=rng.uniform(-1.5, 1.5),
        tilt=rng.uniform(-1.2, 1.2),
        chin=rng.uniform(31, 38),
        nose=rng.uniform(24, 31),
        skin=skin,
        lips=skin - rng.uniform(25, 60),
        teeth=rng.uniform(185, 225),
        shadow=rng.uniform(20, 45),
        beard=rng.choice([0.0, 0.0, 6.0, 14.0]),
        articulation=rng.uniform(0.8, 1.15),
    )


def draw_mouth_region(phones: Sequence[Interval], num_frames: int, face: Face, rng: np.random.Generator) -> Frames:
    """Draws the mouth region of a speaker who speaks the given phones.

    Args:
        phones: The phones in order, with times in seconds of the video; gaps between them are pauses.
        num_frames: The number of frames V.
        face: The face of the speaker.
        rng: Draws the place and motion of the head, the light, and the noise of the camera.

    Returns:
        The frames (V, H, W). Frame v shows the mouth at (v + 0.5) / 25 s.

    Example:
        >>> phones = [Interval("b", 0.10, 0.05), Interval("aI", 0.15, 0.2)]
        >>> frames = draw_mouth_region(phones, 20, face_of("anna"), np.random.default_rng(0))
        >>> frames.shape, frames.dtype
        ((20, 96, 96), dtype('uint8'))
    """
    heads = _head_motion(num_frames, rng)
    skin = _skin(face)
    skin_heads = heads.copy()
    skin_heads[:, :, 2] -= (
        heads[:, :, :2].sum(axis=2) * _HALF_SKIN
    )  # coordinates of the skin begin at its upper left corner
    areas = _areas(mouth_poses(phones, num_frames), face)
    outlines = [_to_frame(area.outline, heads) for area in areas]
    frames = np.empty((num_frames, SIZE, SIZE), np.uint8)
    for number, frame in enumerate(frames):
        cv2.warpAffine(skin, skin_heads[number], (SIZE, SIZE), frame, cv2.INTER_LINEAR)
        for area, outline in zip(areas, outlines, strict=True):
            if area.shown[number]:
                cv2.fillPoly(frame, [outline[number]], area.grey, cv2.LINE_AA, _FRACTION_BITS)
    return _add_camera_effects(frames, rng)


class _Area(NamedTuple):
    """The area between two curves in each frame.

    Attributes:
        outline: The points of the outline (V, 2 N, 2).
        shown: Whether the area is to be drawn (V,): OpenCV would draw an empty area as a line.
        grey: The brightness of the area.
    """

    outline: Numbers
    shown: NDArray[np.bool_]
    grey: int

    @classmethod
    def between(cls, upper: Numbers, lower: Numbers, half_width: Numbers, grey: float) -> "_Area":
        """Makes an area from two curves (V, N), which both reach over the same `half_width` (V, 1)."""
        x = half_width * _X
        y = np.concatenate([upper, lower[:, ::-1]], axis=1)
        outline = np.stack([np.concatenate([x, x[:, ::-1]], axis=1), y], axis=2)
        return cls(outline, (lower - upper).max(axis=1) > 0.25, round(grey))


@functools.lru_cache(maxsize=8)
def _skin(face: Face) -> Frames:
    """Returns the skin around the mouth, lit from the front: cheeks, nostrils, and the groove below the nose."""
    rows, columns = np.mgrid[-_HALF_SKIN:_HALF_SKIN, -_HALF_SKIN:_HALF_SKIN]
    skin = face.skin - 0.4 * face.shadow * (columns / 48.0) ** 2
    skin += 0.3 * face.shadow * np.exp(-((columns / 3.0) ** 2)) * (rows < -face.upper_lip) * (rows > -face.nose)
    skin -= 0.3 * face.shadow * (rows < -face.nose)
    skin += face.beard * np.random.default_rng(0).standard_normal(skin.shape)
    picture: Frames = skin.clip(0, 255).astype(np.uint8)
    for x in (-7, 7):
        nostril = (_HALF_SKIN + x, _HALF_SKIN - round(face.nose))
        cv2.ellipse(picture, nostril, (5, 3), 0, 0, 360, max(0, round(face.skin - 2 * face.shadow)), -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.uint8, copy=False)


def _areas(poses: Numbers, face: Face) -> list[_Area]:
    """Returns the areas of the mouth for poses (V, P), from the back to the front."""
    opening, spread, rounding, teeth, tongue, tuck = (column[:, None] for column in poses.T)
    gap = _WIDEST * face.articulation * opening.clip(0)
    pressed = -opening.clip(None, 0)
    fullness = (1 + 0.35 * rounding - 1.5 * pressed) * (1 - face.bow * np.exp(-((_X / 0.2) ** 2)))
    half_width = face.half_width * (1 + 0.16 * spread - 0.42 * rounding)
    arch = _ARCH ** (0.9 - 0.4 * rounding)

    middle = face.corners * _X**2 + face.tilt * _X
    above = middle - 0.3 * gap * arch
    below = np.maximum(above, middle + 0.7 * gap * arch - 2.5 * tuck * _ARCH)
    top = above - face.upper_lip * fullness * arch
    bottom = below + face.lower_lip * (1 + 0.35 * rounding - 1.5 * pressed - 0.4 * tuck) * arch
    line = 0.1 + 2 * pressed  # where lips touch; pressed together they fold inwards
    teeth_edge = np.minimum(below, above + 8 * teeth * (1 - _X**6))
    lower_teeth = np.maximum(teeth_edge, below - 3 * teeth * _ARCH)
    tongue_top = np.maximum(teeth_edge - 2 * (tongue > 0.8), below - 0.9 * tongue * gap * _ARCH**2)
    fold = bottom.max(axis=1, keepdims=True) + 3 - _X**2
    chin = face.chin + 0.6 * gap - 24 * _X**2

    rim = half_width * (0.96 - 0.16 * rounding)
    return [
        _Area.between(chin, chin + SIZE, np.full_like(rim, 64), face.skin - 0.6 * face.shadow),  # the neck
        _Area.between(fold, fold + 2.5, 0.5 * half_width, face.skin - 0.5 * face.shadow),  # under the lower lip
        _Area.between(top, bottom, half_width, face.lips),
        _Area.between(below, bottom, half_width, face.lips + 14),
        _Area.between(above - line, below + line, rim, 0.18 * face.skin),
        _Area.between(lower_teeth, below, rim, 0.85 * face.teeth),
        _Area.between(tongue_top, below, rim, 0.75 * face.lips),
        _Area.between(above, teeth_edge, rim, face.teeth),
    ]


def _head_motion(num_frames: int, rng: np.random.Generator) -> Numbers:
    """Returns matrices (V, 2, 3) from the face to the frame: slow sums of sines around a random place."""
    place, motion = np.array([0.04, 0.06, 2.0, 2.0]), np.array([0.02, 0.03, 1.5, 1.5])  # angle, log size, x, y
    seconds = np.arange(num_frames)[:, None, None] / FRAMES_PER_SECOND
    frequencies, phases = rng.uniform(0.1, 0.7, (3, 4)), rng.uniform(0, 2 * np.pi, (3, 4))
    waves = np.sin(2 * np.pi * frequencies * seconds + phases).mean(axis=1)
    angle, log_size, x, y = (place * rng.uniform(-1, 1, 4) + 1.5 * motion * waves).T
    size = np.exp(log_size)
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    middle = SIZE / 2
    return np.stack([cos, -sin, x + middle, sin, cos, y + middle], axis=1).reshape(-1, 2, 3)


def _to_frame(points: Numbers, heads: Numbers) -> NDArray[np.int32]:
    """Transforms points of the face (V, N, 2) to the frame, in OpenCV's fixed-point numbers."""
    moved = points @ heads[:, :, :2].transpose(0, 2, 1) + heads[:, None, :, 2]
    fixed: NDArray[np.int32] = np.round(moved * (1 << _FRACTION_BITS)).astype(np.int32)
    return fixed


def _add_camera_effects(frames: Frames, rng: np.random.Generator) -> Frames:
    """Adds the effects of a camera to frames (V, H, W): blur, light from one side, and noise."""
    direction, slope, gain = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25), rng.uniform(0.75, 1.15)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    light = (gain * (1 + slope * (np.cos(direction) * columns + np.sin(direction) * rows))).astype(np.float32)
    noise = rng.normal(0, 0.8, (2 * SIZE, 2 * SIZE)).astype(np.float32)
    shifts = rng.integers(0, SIZE, (len(frames), 2))
    for frame, (row, column) in zip(frames, shifts, strict=True):
        blurred = cv2.GaussianBlur(frame, (3, 3), 0)
        lit = cv2.multiply(blurred, light, dtype=cv2.CV_32F) + noise[row : row + SIZE, column : column + SIZE]
        frame[:] = lit.clip(0, 255)
    return frames
