"""Scores for training loops that have only the mean loss of each batch.

Shape legend: B utterances of a batch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from asrsparse.pruning.ranks import gather, rank

_BUCKETS_PER_OCTAVE = 4
_MEMORY = 20


class BatchMeans:
    """Says how far the mean loss of a batch is above that of earlier batches of like duration.

    As the score of each utterance of the batch, averaged over epochs in which batches are mixed anew, it says which
    utterances are hard (batch loss score, arXiv 2604.04681). Bare means would say which are long, since batches hold
    utterances of like duration, and when they were trained on, since losses fall. So a running mean for each bucket of
    duration is subtracted, our decision: over the last 20 batches or so of the bucket, which is a quarter of an octave
    of mean duration.

    One batch says little of each of its utterances: average over many epochs (`smoothing=0.9` or more). While losses
    fall steeply, in the first epochs, the running mean lags behind them, and scores say more of when an utterance was
    trained on than of how hard it is: give the plan some warm-up epochs.

    Example:
        >>> means = BatchMeans()
        >>> [means.excess([8.0, 8.5], torch.tensor(loss)) for loss in (4.0, 5.0, 2.5)]
        [0.0, 1.0, -2.0]
    """

    def __init__(self) -> None:
        self._means: dict[int, tuple[float, int]] = {}

    def excess(self, durations: Sequence[float], mean_loss: torch.Tensor | float) -> float:
        """Returns how far a batch is above the running mean of its bucket, 0 for its first, and adds it to the mean.

        Args:
            durations: Seconds of each utterance (B,).
            mean_loss: The mean loss of the batch, a number or a tensor of one.

        Raises:
            ValueError: If there is more than one loss.
        """
        if isinstance(mean_loss, torch.Tensor) and mean_loss.numel() != 1:
            raise ValueError(
                f"mean_loss: got the shape {tuple(mean_loss.shape)}, allowed is one number. Give losses of utterances "
                "to `observe`, which makes better scores of them."
            )
        loss = float(mean_loss)
        if not len(durations) or not math.isfinite(loss):
            return loss
        bucket = round(_BUCKETS_PER_OCTAVE * math.log2(sum(durations) / len(durations)))
        mean, count = self._means.get(bucket, (loss, 0))
        self._means[bucket] = (mean + (loss - mean) / min(count + 1, _MEMORY), count + 1)
        return loss - mean

    def state_dict(self) -> dict[str, Any]:
        """Returns the running means of all ranks, which all call it."""
        return {"of_ranks": gather(dict(self._means))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues with the means of this rank; with more ranks than were saved, with those of another one."""
        of_ranks = state["of_ranks"]
        self._means = dict(of_ranks[rank() % len(of_ranks)])
