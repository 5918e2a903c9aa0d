"""GRADBALANCE: a penalty's weight that needs no search, from the gradients of task and penalty.

The rule is that of Concrete Ticket Search (https://arxiv.org/abs/2512.07142), there for logits alone, with frozen
weights; here the penalty is the mean of phi, as in MSRS.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from asrsparse.masks.parametrized import SoftMask
from asrsparse.masks.sharding import full, total

_SMOOTHING = 0.01  # of lambda, by the paper's code
_SLACK = 1.1  # the penalty rests below this many times the target, by the paper's code; the exit lands on the target


class GradBalance:
    """Keeps lambda at the ratio of the gradients' norms while the masks are too dense: EMA of |g_task| / |g_penalty|.

    With g_penalty of the mean of N logits, 1/N each. lambda* is that ratio if mean(sigmoid(l * phi)) > 1.1 times the
    target density, else 0, and lambda <- 0.99 lambda + 0.01 lambda*. A lambda found after one step is that of the next.
    The gradients are those that the optimiser saw: averaged over ranks, unscaled, and clipped. Clipping makes lambda
    smaller than the ratio, by about as much as it makes the gradients.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        """lambda, of the mean of the logits."""

    @torch.no_grad()
    def update(self, soft_masks: Sequence[SoftMask], target_density: float) -> None:
        """Finds lambda for the next step; to be called after a step of the optimiser, before gradients are zeroed.

        Args:
            soft_masks: The masks, whose logits have the gradients of the step's loss and penalty.
            target_density: The wanted share of units, in (0, 1].

        Raises:
            ValueError: If logits have no gradient.
        """
        num_units = sum(soft.logits.numel() for soft in soft_masks)
        wanted = 0.0
        if sum(_total(soft.mask()) for soft in soft_masks) > _SLACK * target_density * num_units:
            of_penalty = self.weight / num_units
            squares = sum(_total((_gradient(soft) - of_penalty).square()) for soft in soft_masks)
            wanted = (squares * num_units) ** 0.5  # the norm of the penalty's gradient is 1 / sqrt(N)
        self.weight += _SMOOTHING * (wanted - self.weight)


def _gradient(soft: SoftMask) -> Tensor:
    gradient: Tensor | None = soft.logits.grad
    if gradient is None:
        raise ValueError(
            "density_by: got 'grad_balance' and logits without gradients, allowed is masks.step after optimizer.step "
            "and before optimizer.zero_grad. Move zero_grad, or use density_by='shift'."
        )
    return gradient


def _total(tensor: Tensor) -> float:
    return full(total(tensor)).item()
