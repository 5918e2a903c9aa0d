"""Selects a window of the utterances in the order of their scores; it is measured in seconds, and takes linear time.

Shape legend: N utterances of one stratum.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUM_BINS = 2**16


def keep_window(
    order_by: NDArray[Any], durations: NDArray[np.floating[Any]], start: float, budget: float
) -> NDArray[np.bool_]:
    """Keeps a window of the utterances in ascending order of `order_by`, measured in seconds of speech.

    The window is `budget` seconds wide. It begins at `start` times the seconds that it leaves out: 0 keeps the lowest
    values, 1 the highest. An utterance is kept if its middle is in the window, so that the seconds kept differ from the
    budget by one utterance at most. The time is proportional to N: utterances are put into bins, and only the bins with
    a bound of the window are sorted.

    Args:
        order_by: Values to order by (N,); ties keep their order.
        durations: Seconds (N,).
        start: The share of the seconds left out that is below the window, in [0, 1].
        budget: Width of the window in seconds.

    Returns:
        True for each utterance that is kept (N,).

    Example:
        >>> keep_window(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), start=0.0, budget=2.0).tolist()
        [False, True, True, False]
        >>> keep_window(np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4), start=1.0, budget=2.0).tolist()
        [True, False, False, True]
    """
    bins = _coarse_order(order_by)
    seconds = np.bincount(bins, weights=durations, minlength=_NUM_BINS)
    ends = np.cumsum(seconds)
    begins = ends - seconds
    first = start * max(0.0, float(ends[-1]) - budget)
    last = first + budget
    wholly_inside = (begins >= first) & (ends <= last)
    kept: NDArray[np.bool_] = wholly_inside[bins]
    for cut in np.flatnonzero((begins < last) & (ends > first) & ~wholly_inside):
        rows = np.flatnonzero(bins == cut)
        rows = rows[np.argsort(order_by[rows], kind="stable")]
        middles = begins[cut] + np.cumsum(durations[rows], dtype=np.float64) - durations[rows] / 2
        kept[rows] = (middles >= first) & (middles < last)
    return kept


def _coarse_order(values: NDArray[Any]) -> NDArray[np.int32]:
    """Returns the bin of each value, in the order of the values (N,): the upper 16 bits of its float32.

    Read as integers, these are 128 bins from each power of two to the next.
    """
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.int32)  # adding 0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # negative floats are ordered backwards as integers
    bins: NDArray[np.int32] = (ordered >> 16) + np.int32(_NUM_BINS // 2)
    return bins
