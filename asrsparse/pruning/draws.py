"""Drawing utterances at random, each with its own probability, so that a budget in seconds is met by every draw.

It is a balanced sample (the cube method of Deville and Tille, Biometrika 91, 2004, with one balancing variable): no
probability changes, and the seconds that are kept differ from their expectation by less than one utterance.

Shape legend: N utterances of one stratum, M utterances that are still undecided.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_NEGLIGIBLE = 1e-9
"""Shares of an utterance below this are rounding errors of sums."""


@dataclass(frozen=True)
class Draw:
    """A choice that a policy leaves to chance: `select` draws it, balanced over all strata.

    Attributes:
        probabilities: The probability of each utterance to be kept (N,), in [0, 1].
        weights: The factors on the losses of those that are kept (N,); by default the inverse probabilities, with which
            the sum of the losses keeps its expectation.
    """

    probabilities: Floats
    weights: Floats | None = None

    @property
    def loss_weights(self) -> Floats:
        """The factors on the losses of those that are kept (N,); 1 where nothing is ever kept."""
        if self.weights is not None:
            return self.weights
        return 1.0 / np.where(self.probabilities > 0.0, self.probabilities, 1.0)


def decide_most(probabilities: Floats, durations: Floats, rng: np.random.Generator) -> Floats:
    """Decides all but a few utterances, so that the expected seconds do not change at all.

    Utterances with the same probability p are laid in random order on a circle of T seconds, and a window of p T
    seconds begins at a random point. Each utterance is in it with the share p on average, wherever it lies. So each is
    kept, dropped, or undecided, if a border of the window goes through it.

    Args:
        probabilities: The probability of each utterance to be kept (N,).
        durations: Seconds (N,).
        rng: The generator of this epoch.

    Returns:
        1 for what is kept, 0 for what is dropped; for the undecided the share in the window, with which they are to be
        kept (N,). There are at most two of them for each different probability.
    """
    decided = probabilities.astype(np.float64)
    for rows in _equally_probable(probabilities):
        order = rng.permutation(rows)
        ends = np.cumsum(durations[order], dtype=np.float64)
        begins = np.concatenate([[0.0], ends[:-1]])
        whole = float(ends[-1])
        first = rng.random() * whole
        last = first + float(decided[order[0]]) * whole
        inside = sum(
            np.clip(ends, first - turn, last - turn) - np.clip(begins, first - turn, last - turn)
            for turn in (0.0, whole)  # what is beyond the end goes on at the beginning
        )
        shares = inside / (ends - begins)
        shares[shares < _NEGLIGIBLE] = 0.0
        shares[shares > 1.0 - _NEGLIGIBLE] = 1.0
        decided[order] = shares
    return decided


def _equally_probable(probabilities: Floats) -> Iterator[NDArray[np.intp]]:
    open_rows = np.flatnonzero((probabilities > 0.0) & (probabilities < 1.0))
    values = probabilities[open_rows]
    if len(values) and values.min() == values.max():  # the usual case needs no sorting
        yield open_rows
    elif len(values):
        for value in np.unique(values):
            yield open_rows[values == value]


def decide_rest(shares: Floats, durations: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Decides the utterances that are still undecided, with the probabilities that they have.

    Two of them exchange seconds at random until one is decided, and so on (the pivotal method, with seconds in place of
    counts). The last one alone changes the sum, by less than its own seconds.

    Args:
        shares: The probabilities of the undecided (M,), in (0, 1).
        durations: Seconds (M,).
        rng: The generator of this epoch.

    Returns:
        True for each that is kept (M,).
    """
    kept = np.zeros(len(shares), dtype=np.bool_)
    waiting, seconds = -1, 0.0
    for row in range(len(shares)):
        offered = float(shares[row] * durations[row])
        if waiting < 0:
            waiting, seconds = row, offered
            continue
        gain = min(float(durations[waiting]) - seconds, offered)  # the most that `waiting` can take from `row`
        loss = min(seconds, float(durations[row]) - offered)  # the most that it can give
        moved = gain if rng.random() * (gain + loss) < loss else -loss
        seconds, offered = seconds + moved, offered - moved
        if _is_decided(offered, durations[row]):
            kept[row] = offered > durations[row] / 2
        else:
            kept[waiting] = seconds > durations[waiting] / 2
            waiting, seconds = row, offered
        if _is_decided(seconds, durations[waiting]):
            kept[waiting] = seconds > durations[waiting] / 2
            waiting = -1
    if waiting >= 0:
        kept[waiting] = rng.random() * durations[waiting] < seconds
    return kept


def _is_decided(seconds: float, duration: float) -> bool:
    return bool(min(seconds, duration - seconds) <= _NEGLIGIBLE * duration)
