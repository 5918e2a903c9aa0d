"""CR-CTC: a loss that draws the CTC posteriors of two masked views of an utterance together (arXiv 2410.05101).

The rows of all views of a batch are one larger batch: first all utterances in their first view, then all in the second.

Shape legend: B utterances, E encoder frames, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_VIEWS = 2
"""The number of views that are compared."""


def consistency_losses(log_probs: Tensor, lens: Tensor) -> Tensor:
    """Computes how far the posteriors of two views are apart: the consistency loss L_CR (equation 3 of the paper).

    That is half of the sum, over frames, of the Kullback-Leibler divergences in both directions. The view from which a
    divergence is taken gets no gradient. As in the public code (icefall) the sum is not divided by the number of
    frames, like the CTC loss, so that alpha means the same here.

    Args:
        log_probs: The log probabilities of the tokens in each frame of both views (2B, E, V), in float32.
        lens: Frames of each row (2B,), the same in both views.

    Returns:
        The loss of each utterance (B,).

    Example:
        >>> views = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]]).log()
        >>> consistency_losses(views, torch.tensor([1, 1]))  # (0.1308 + 0.1438) / 2
        tensor([0.1373])
    """
    first, second = log_probs.detach().chunk(NUM_VIEWS)
    targets = torch.cat([second, first])
    divergence = F.kl_div(log_probs, targets, reduction="none", log_target=True).sum(dim=2)
    behind = torch.arange(log_probs.size(1), device=log_probs.device) >= lens.to(log_probs.device)[:, None]
    return mean_of_views(divergence.masked_fill(behind, 0.0).sum(dim=1), NUM_VIEWS)


def mean_of_views(values: Tensor, num_views: int) -> Tensor:
    """Returns the mean over the views (B, ...) of what has a row for each view of each utterance (views x B, ...).

    Example:
        >>> mean_of_views(torch.tensor([1.0, 2.0, 3.0, 6.0]), num_views=2)
        tensor([2., 4.])
    """
    return values if num_views == 1 else values.view(num_views, -1, *values.shape[1:]).mean(dim=0)


def in_views(rows: Tensor, num_views: int) -> Tensor:
    """Repeats a batch of rows (B, ...) for each view (views x B, ...); for one view it returns the rows themselves."""
    return rows if num_views == 1 else torch.cat([rows] * num_views)
