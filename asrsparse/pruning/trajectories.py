"""Loss curves of utterances over a training, and how well each agrees with the usual curve.

Shape legend: E epochs, N utterances.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MIN_EPOCHS = 4
"""The fewest epochs in which an utterance was trained on that make a curve."""

_LEAST_LOSS = 1e-4
"""Smaller losses per token count as this one, since their logarithms would be noise."""


def loss_curves(scores: Floats, last_seen: NDArray[np.integer[Any]], smoothing: float) -> NDArray[np.float64]:
    """Returns the losses from which the moving averages of all epochs were made, so that no file needs to store both.

    Args:
        scores: The score of each utterance after each epoch (E, N).
        last_seen: The epoch in which each was last trained on, then (E, N).
        smoothing: The weight of the older score in the moving average, in [0, 1).

    Returns:
        The loss per token of each utterance in each epoch (E, N); NaN where it was not trained on.

    Example:
        >>> scores = np.array([[4.0, 2.0], [3.0, 2.0]])
        >>> loss_curves(scores, np.array([[0, 0], [1, 0]]), smoothing=0.5).tolist()
        [[4.0, 2.0], [2.0, nan]]
    """
    losses = scores.astype(np.float64)
    for epoch in range(1, len(scores)):
        known = last_seen[epoch - 1] >= 0
        older = np.where(known, scores[epoch - 1], 0.0).astype(np.float64)
        weight = np.where(known, smoothing, 0.0)
        losses[epoch] = (losses[epoch] - weight * older) / (1.0 - weight)
    losses[last_seen != np.arange(len(scores))[:, None]] = np.nan
    return losses


def usual_curve(losses: Floats, reference: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Returns the median loss of the reference set in each epoch (E,); NaN where none of it was trained on.

    Args:
        losses: The loss curves (E, N), with NaN.
        reference: True for utterances whose transcripts are known to be right (N,); None takes all, of which less than
            half may be wrong.
    """
    taken = losses if reference is None else losses[:, reference]
    curve = np.full(len(losses), np.nan)
    some = np.isfinite(taken).any(axis=1)
    curve[some] = np.nanmedian(taken[some], axis=1)
    return curve


def agreement(losses: Floats, curve: Floats) -> NDArray[np.float64]:
    """Returns how well each loss curve goes with the usual one: the correlation of their logarithms over epochs.

    An utterance that is merely hard is learned like the others, from a higher level; the loss of one with a wrong
    transcript stops falling, or rises, when the model begins to know better (after the alignment score of AlignPrune,
    arXiv 2604.07306, whose formula was not available to us).

    Args:
        losses: The loss curves (E, N), with NaN.
        curve: The usual curve (E,), with NaN.

    Returns:
        Correlations (N,), in [-1, 1]; NaN for an utterance that has fewer than `MIN_EPOCHS`, or a curve without change.

    Example:
        >>> curve = np.array([4.0, 2.0, 1.0, 0.5])
        >>> agreement(np.array([[8.0, 3.0], [4.0, 2.0], [2.0, 3.0], [1.0, 4.0]]), curve).round(2).tolist()
        [1.0, -0.57]
    """
    own, usual = (np.log(np.maximum(values, _LEAST_LOSS)) for values in (losses, curve[:, None]))
    both = np.isfinite(own) & np.isfinite(usual)
    own, usual = (_deviations(np.where(both, values, np.nan)) for values in (own, usual))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = (own * usual).sum(axis=0) / np.sqrt((own**2).sum(axis=0) * (usual**2).sum(axis=0))
    result[both.sum(axis=0) < MIN_EPOCHS] = np.nan
    return result


def _deviations(values: Floats) -> NDArray[np.float64]:
    """Returns the deviations from the mean of each column, 0 for NaN (E, N)."""
    known = np.isfinite(values)
    means = np.where(known, values, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    return np.where(known, values - means, 0.0)


def outliers(agreements: Floats, deviations: float = 4.0) -> NDArray[np.bool_]:
    """Returns True for the utterances that agree far less than most with the usual curve (N,).

    Correlations pile up near 1, so they are compared by Fisher's z, the inverse hyperbolic tangent. An outlier is
    `deviations` robust standard deviations (1.4826 times the median absolute deviation) below the median.

    Args:
        agreements: Correlations (N,), with NaN, which is never an outlier.
        deviations: How far below the median an outlier is.

    Example:
        >>> outliers(np.array([0.97, 0.98, 0.99, 0.96, 0.98, 0.1, np.nan])).tolist()
        [False, False, False, False, False, True, False]
    """
    z = np.arctanh(np.clip(agreements, -1.0 + 1e-9, 1.0 - 1e-9))
    known = np.isfinite(z)
    if not known.any():
        return known
    middle = np.median(z[known])
    spread = 1.4826 * np.median(np.abs(z[known] - middle))
    result: NDArray[np.bool_] = known & (np.where(known, z, middle) < middle - deviations * spread)
    return result
