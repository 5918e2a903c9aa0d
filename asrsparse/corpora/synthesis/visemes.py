"""Converts phones with times to the pose of the mouth in each video frame, by a table of visemes and blending.

Shape legend: V frames at 25 a second, S slots of 5 ms, P numbers of a pose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrsparse.corpora.synthesis.speech import Interval
from asrsparse.rates import FRAMES_PER_SECOND


class Pose(NamedTuple):
    """The pose of a mouth. `mouth_poses` blends the poses of neighbouring phones.

    Attributes:
        opening: The distance between the lips: 1 is the widest, 0 is closed, below 0 the lips are pressed together.
        spread: The spread of the corners of the mouth: 1 is a smile.
        rounding: The rounding of the lips: 1 is narrow and pushed forward.
        teeth: How much of the upper teeth is visible in an open mouth, 0 to 1.
        tongue: The height of the tongue, 0 (not visible) to 1 (at the teeth).
        tuck: How far the lower lip is under the upper teeth, 0 to 1.
    """

    opening: float = 0.0
    spread: float = 0.0
    rounding: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    tuck: float = 0.0


class Viseme(NamedTuple):
    """A group of phones that look the same.

    Attributes:
        phones: espeak-ng's names of the phones, separated by spaces.
        strength: The weight of the pose against those of neighbouring phones: the lips close for a /b/ of 45 ms, while
            /h/ has the pose of the next phone.
        pose: The pose of the mouth.
    """

    phones: str
    strength: float
    pose: Pose


REST = Viseme("", 0.7, Pose())
"""The viseme of a pause."""

VISEMES = {
    "bilabial": Viseme("p b m", 8.0, Pose(-0.2, rounding=0.1)),
    "labiodental": Viseme("f v", 6.0, Pose(0.22, 0.1, teeth=1.0, tuck=1.0)),
    "dental": Viseme("T D t[ d[", 3.0, Pose(0.26, 0.1, teeth=0.6, tongue=1.0)),
    "alveolar": Viseme("t d n", 1.5, Pose(0.24, 0.15, teeth=0.6, tongue=0.4)),
    "sibilant": Viseme("s z", 3.0, Pose(0.16, 0.4, teeth=1.0)),
    "postalveolar": Viseme("S Z tS dZ", 3.0, Pose(0.28, rounding=0.6, teeth=0.9)),
    "velar": Viseme("k g N x", 0.7, Pose(0.36, tongue=0.2)),
    "lateral": Viseme("l L", 1.5, Pose(0.42, teeth=0.3, tongue=0.9)),
    "r": Viseme("r R", 1.5, Pose(0.24, rounding=0.5, teeth=0.3)),
    "w": Viseme("w", 3.0, Pose(0.1, rounding=1.0)),
    "glottal": Viseme("h ?", 0.1, Pose(0.3)),
    "close front": Viseme("i i: j ;", 1.2, Pose(0.24, 1.0, teeth=0.7)),
    "near-close": Viseme("I I# e", 1.0, Pose(0.36, 0.5, teeth=0.5)),
    "mid front": Viseme("E e:", 1.2, Pose(0.56, 0.45, teeth=0.4, tongue=0.2)),
    "open front": Viseme("a aa a: A: A@ A", 1.3, Pose(1.0, 0.2, teeth=0.5, tongue=0.3)),
    "open back": Viseme("0 V", 1.2, Pose(0.8, -0.1, rounding=0.1, teeth=0.2, tongue=0.1)),
    "mid": Viseme("@ 3 3: a#", 0.8, Pose(0.42, rounding=0.1, teeth=0.2)),
    "mid rounded": Viseme("O O: o o:", 1.5, Pose(0.62, rounding=0.7)),
    "near-close rounded": Viseme("U", 1.2, Pose(0.3, rounding=0.7)),
    "close rounded": Viseme("u u:", 1.5, Pose(0.22, rounding=0.95)),
}
"""The visemes of English; the numbers are estimates, not measurements."""

GLIDES = {
    "aI": ("a", "I"),
    "aI3": ("a", "I"),
    "aI@": ("a", "I", "@"),
    "eI": ("E", "I"),
    "OI": ("O", "I"),
    "oI": ("O", "I"),
    "aU": ("a", "U"),
    "aU@": ("a", "U", "@"),
    "oU": ("O", "U"),
    "e@": ("E", "@"),
    "i@": ("i", "@"),
    "i@3": ("i", "@"),
    "U@": ("U", "@"),
    "O@": ("O", "r"),
    "o@": ("O", "r"),
    "@L": ("@", "l"),
    "VR": ("V", "r"),
    "IR": ("I", "r"),
}
"""Phones during which the mouth moves, as sequences of phones of equal duration."""

_BY_PHONE = {phone: viseme for viseme in VISEMES.values() for phone in viseme.phones.split()}
_VARIANT_MARKS = "#-2"  # espeak-ng's: `t#` is a flapped t, `r-` a linking r, `I2` an unstressed I
_SLOTS_PER_FRAME = 8
_BLEND = np.hanning(2 * 12 + 2)[
    1:-1
]  # 24 slots are 120 ms; the number is even, so that the centre is between two slots


def visemes_of(phone: str) -> list[Viseme]:
    """Returns the viseme of a phone, or all visemes through which the phone moves.

    A phone that is not in the table (of another language) takes the pose of its neighbours, like /h/.

    Args:
        phone: espeak-ng's name of the phone, without stress marks.

    Example:
        >>> [viseme.phones for viseme in visemes_of("b") + visemes_of("aI2") + visemes_of("t#")]
        ['p b m', 'a aa a: A: A@ A', 'I I# e', 't d n']
    """
    for name in (phone, phone.rstrip(_VARIANT_MARKS)):
        if name in GLIDES or name in _BY_PHONE:
            return [_BY_PHONE[step] for step in GLIDES.get(name, (name,))]
    return [VISEMES["glottal"]]


def mouth_poses(phones: Sequence[Interval], num_frames: int) -> NDArray[np.float64]:
    """Returns the pose of the mouth in the middle of each video frame.

    Neighbouring poses are blended by a raised cosine of 120 ms, in which each is weighted by its strength. So the lips
    are round before a /w/ begins, and still close for a /b/. (This follows the dominance functions of Cohen and
    Massaro, "Modeling coarticulation in synthetic visual speech", 1993, which decrease exponentially.)

    Args:
        phones: The phones in order, with times in seconds of the video; gaps are pauses, and phones outside the video
            are ignored.
        num_frames: The number of frames V.

    Returns:
        The poses (V, P), whose columns are the fields of `Pose`. Row v is the mouth at (v + 0.5) / 25 s.

    Example:
        >>> opening = mouth_poses([Interval("m", 0.2, 0.2), Interval("a", 0.4, 0.3)], 25)[:, 0]
        >>> bool(opening[7] < 0 < opening[11])
        True
    """
    poses, strengths = _slots(phones, num_frames * _SLOTS_PER_FRAME)
    margin = len(_BLEND) // 2
    weights = np.pad(strengths, margin, constant_values=REST.strength)
    weighted = np.pad(strengths[:, None] * poses, ((margin, margin), (0, 0)))  # the pose at rest is zero
    middles = slice(_SLOTS_PER_FRAME // 2, None, _SLOTS_PER_FRAME)
    sums = np.stack([np.convolve(column, _BLEND, "valid")[middles] for column in weighted.T], axis=1)
    blended: NDArray[np.float64] = sums / np.convolve(weights, _BLEND, "valid")[middles, None]
    return blended


def _slots(phones: Sequence[Interval], num_slots: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the pose (S, P) of the phone that is spoken in each slot, and its strength (S,)."""
    poses = np.tile(np.array(REST.pose), (num_slots, 1))
    strengths = np.full(num_slots, REST.strength)
    for phone in phones:
        visemes = visemes_of(phone.label)
        edges = phone.start + phone.duration * np.linspace(0, 1, len(visemes) + 1)
        slots = np.clip(np.round(edges * FRAMES_PER_SECOND * _SLOTS_PER_FRAME), 0, num_slots).astype(int)
        for viseme, first, last in zip(visemes, slots[:-1], slots[1:], strict=True):
            poses[first:last] = viseme.pose
            strengths[first:last] = viseme.strength
    return poses, strengths
