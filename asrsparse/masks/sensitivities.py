"""How sensitive the loss is to whole units, measured over many steps.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asrsparse.masks.sharding import is_sharded, join_like, sum_over_ranks
from asrsparse.masks.weights import Weight


class Sensitivities:
    """The root mean squares, over steps, of the sum of w dL/dw over each unit.

    The sums are those of the whole batch: over accumulated batches and over ranks, before they are squared. Gradients
    count as they arrive: where a gradient scaler changes its scale within a window, steps weigh by the scale they had.

    Args:
        weights: The masked weights.
    """

    def __init__(self, weights: Sequence[Weight]) -> None:
        self._weights = weights
        self.num_steps = 0
        """The number of steps that were added since the last `clear`."""
        self._squares: list[Tensor] = []

    @torch.no_grad()
    def add(self, products: Sequence[Tensor]) -> None:
        """Adds a step; one that a gradient scaler skipped, with gradients that are not finite, is left out.

        Args:
            products: w dL/dw of this rank's part of each weight, (O, I, K...) for whole ones. All ranks must call this.
        """
        sums = [_over_units(weight, product) for weight, product in zip(self._weights, products, strict=True)]
        if not all(torch.isfinite(each).all() for each in sums):
            return
        squares = self._squares or [torch.zeros_like(each) for each in sums]
        self._squares = [before.to(each.device) + each.square() for before, each in zip(squares, sums, strict=True)]
        self.num_steps += 1

    def means(self) -> list[Tensor]:
        """Returns the root mean squares, (U...) for each weight; an empty list if no step was added."""
        return [(squares / self.num_steps).sqrt() for squares in self._squares]

    def clear(self) -> None:
        """Forgets the sums of all steps."""
        self.num_steps, self._squares = 0, []

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps and the sums of squares."""
        return {"num_steps": self.num_steps, "squares": list(self._squares)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.num_steps, self._squares = state["num_steps"], list(state["squares"])


def _over_units(weight: Weight, product: Tensor) -> Tensor:
    """Returns the sums over units and ranks, float32 (U...); gradients of FSDP2 are averaged over ranks already."""
    if is_sharded(weight.parameter):
        return weight.tiling.pool(join_like(product, weight.parameter).float())
    return sum_over_ranks(weight.tiling.pool(product.float()).contiguous())
