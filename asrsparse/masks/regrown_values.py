"""What weights that were masked out are trained from, once all weights are trained again.

Shape legend: a weight and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution), K... the
sizes of the kernel, none for a linear layer.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from asrsparse.masks.fixed_zeros import write_zeros
from asrsparse.masks.moments import clear_moments
from asrsparse.masks.sharding import full, local, part_of
from asrsparse.masks.weights import Weight

RegrowFrom = Literal["zero", "kept", "initial"]
"""Zero; the values that they had behind the mask; or fresh random values."""


class RegrownValues:
    """Gives weights that were masked out their first values, and clears their moments.

    Fresh values are from a normal distribution with the standard deviation that the weight had when masks were attached
    (our decision: the initialisation itself is the model's own, and need not be known here).

    Args:
        weights: The masked weights.
        regrow_from: Where values come from.
        seed: The seed of fresh values: the same for all ranks.
    """

    def __init__(self, weights: Sequence[Weight], regrow_from: RegrowFrom, seed: int) -> None:
        self._weights = weights
        self._from = regrow_from
        self._seed = seed
        is_fresh = regrow_from == "initial"
        self.stds = [full(w.parameter.detach()).float().std(correction=0).item() for w in weights] if is_fresh else []
        """The standard deviations of the weights at first, for checkpoints; empty unless values are fresh."""

    @torch.no_grad()
    def write(self, dead: Sequence[Tensor], optimizer: Optimizer | None) -> None:
        """Writes the values of weights that were masked out.

        Args:
            dead: True for the weights that were masked out, bool (O, I, K...) for each masked weight.
            optimizer: The optimiser whose moments of them are zeroed; None if there is none yet.
        """
        if self._from == "zero":
            write_zeros(self._weights, dead, optimizer)
            return
        generator = torch.Generator().manual_seed(self._seed)
        for number, (weight, somewhere) in enumerate(zip(self._weights, dead, strict=True)):
            held = local(weight.parameter)
            where = part_of(somewhere, weight.parameter).to(held.device)
            if self._from == "initial":
                fresh = torch.randn(somewhere.shape, generator=generator) * self.stds[number]
                values = part_of(fresh, weight.parameter).to(held.device, held.dtype)
                held.copy_(torch.where(where, values, held))
            if optimizer is not None:
                clear_moments(optimizer, weight.parameter, where)
