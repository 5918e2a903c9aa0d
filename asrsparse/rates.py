"""Rates and lengths: samples, feature rows and frames of a second, and the frames that CTC needs.

There is one grid of 25 frames a second: a frame is an encoder frame, a video frame, and a slot of segment pruning.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Count = TypeVar("Count", float, "Tensor")

SAMPLING_RATE = 16_000
"""Samples per second of prepared audio."""

FEATURES_PER_SECOND = 100
"""Rows per second of log-mel features."""

FRAMES_PER_SECOND = 25
"""Encoder frames per second, which are as many as video frames and as slots of segment pruning."""

SECONDS_PER_FRAME = 1 / FRAMES_PER_SECOND
SAMPLES_PER_FRAME = SAMPLING_RATE // FRAMES_PER_SECOND


def encoder_frames(duration: float) -> int:
    """Returns the number of encoder frames of an utterance of `duration` seconds, where the encoder subsamples.

    The features are rows of 10 ms with centred windows; the subsampling is two convolutions of width 3 and stride 2.

    Example:
        >>> encoder_frames(3.0)
        74
    """
    return subsampled(1 + int(round(duration * FEATURES_PER_SECOND, ndigits=6)))


def subsampled(num_features: int) -> int:
    """Returns the number of frames that two convolutions of width 3 and stride 2 make of feature rows.

    Example:
        >>> subsampled(100)
        24
    """
    return max(0, ((num_features - 1) // 2 - 1) // 2)


def least_seconds(num_frames: Count) -> Count:
    """Returns the shortest duration of feature rows of which the subsampling makes `num_frames` frames, in seconds.

    Args:
        num_frames: A number of encoder frames, or a tensor of such numbers.

    Example:
        >>> least_seconds(2), subsampled(11), subsampled(10)
        (0.11, 2, 1)
    """
    return (4 * num_frames + 3) / FEATURES_PER_SECOND


def ctc_frames(labels: Sequence[int]) -> int:
    """Returns the fewest frames that CTC can align with `labels`: one each, and a blank between equal neighbours.

    (Graves et al., ICML 2006, section 3.1: the map from paths to labellings joins repeats.)

    Example:
        >>> ctc_frames([7, 5, 5])
        4
    """
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))
