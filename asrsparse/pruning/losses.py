"""Checks of the losses that a training loop reports.

Shape legend: B utterances of a batch, S utterances that were trained on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def check_losses(ids: Sequence[str], losses: torch.Tensor) -> None:
    """Checks that there is one loss for each id of a batch.

    Args:
        ids: B ids.
        losses: Their losses, which should be (B,).

    Raises:
        ValueError: If there are more or fewer, or in another shape: broadcast with weights, they would be another loss.
    """
    if tuple(losses.shape) != (len(ids),):
        raise ValueError(
            f"losses: got the shape {tuple(losses.shape)} for {len(ids)} ids, allowed is (B,): one loss for each id. "
            "Use a loss without reduction, averaged over the tokens of each utterance; losses.flatten() makes (B,) "
            "of (B, 1)."
        )


def check_finite(losses: NDArray[np.floating[Any]], name: Callable[[int], str], epoch: int, most: float) -> int:
    """Counts the losses of an epoch that are NaN or infinite.

    Args:
        losses: The losses of the epoch (S,).
        name: Returns what the message calls the utterance of a loss, by the number of the loss.
        epoch: The number of the epoch.
        most: The share of them that is allowed.

    Returns:
        How many there are.

    Raises:
        ValueError: If there are more than allowed.
    """
    not_finite = np.flatnonzero(~np.isfinite(losses))
    if len(not_finite) > most * len(losses):
        raise ValueError(
            f"{len(not_finite)} of {len(losses)} losses in epoch {epoch} are NaN or infinite, first that of "
            f"utterance {name(int(not_finite[0]))}; allowed are {most:.0%}. The model diverges or its input is "
            "damaged: lower the learning rate, or look at those utterances."
        )
    return len(not_finite)


def refuse_weights(policy: object, weights: object | None) -> None:
    """Refuses weights of losses where a loop has only the mean loss of a batch.

    Raises:
        ValueError: If there are weights.
    """
    if weights is not None:
        raise ValueError(
            f"policy: got {type(policy).__name__}, which weights losses; allowed are policies that do not, since the "
            "mean of a batch cannot be weighted."
        )
