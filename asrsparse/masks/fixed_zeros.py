"""Weights that are held at zero.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from asrsparse.masks.moments import clear_moments
from asrsparse.masks.sharding import is_sharded, local, part_of
from asrsparse.masks.sparse_adamw import set_live_weights
from asrsparse.masks.weights import Weight


@torch.no_grad()
def write_zeros(weights: Sequence[Weight], dead: Sequence[Tensor], optimizer: Optimizer | None) -> None:
    """Zeroes dead weights, and their moments in the optimiser.

    Args:
        weights: The weights, N of them.
        dead: True where a weight is to be zero, bool, N tensors (O, I, K...).
        optimizer: The optimiser that trains them; None if there is none yet.
    """
    for weight, somewhere in zip(weights, dead, strict=True):
        where = part_of(somewhere, weight.parameter).to(weight.parameter.device)
        local(weight.parameter).masked_fill_(where, 0.0)
        if optimizer is not None:
            clear_moments(optimizer, weight.parameter, where)


class FixedZeros:
    """Keeps the dead weights of one layer at zero, from construction until `remove`.

    Three things hold them there. Their gradients are zeroed on arrival, before clipping or the optimiser see them;
    with no gradient and no moments Adam's step for a zero is zero, and so is its decay; and after each step zeros are
    written again, for optimisers of another build.

    Args:
        weight: The weight; no entry is dead at first.
    """

    def __init__(self, weight: Weight) -> None:
        self.weight = weight
        self._live = torch.ones_like(local(weight.parameter.detach()), dtype=torch.bool)  # of this rank's part
        self._collected: Tensor | None = None
        self._product: Tensor | None = None
        self._collecting = self._with_product = False
        self._hook = self._hook_on(weight.parameter)

    def bind(self) -> None:
        """Uses the parameter by which `fully_shard` replaced the whole one from here on."""
        self._hook.remove()
        self._hook = self._hook_on(self.weight.parameter)
        self._live = part_of(self._live, self.weight.parameter)

    def set(self, live: Tensor, optimizer: Optimizer | None) -> None:
        """Sets which weights are live, and zeroes the others and their moments.

        Args:
            live: True for the weights that are kept, bool (O, I, K...).
            optimizer: The optimiser that trains them; None if there is none yet.
        """
        self._live = part_of(live, self.weight.parameter)
        self._tell(self._live)
        write_zeros([self.weight], [~live], optimizer)

    @torch.no_grad()
    def write(self) -> None:
        """Writes zeros to the dead weights again."""
        held = local(self.weight.parameter)
        held.mul_(self._live_on(held))  # ten times as fast as to fill them

    def collect(self, with_product: bool = False) -> None:
        """Keeps the gradients of the next step, those of dead weights too, for `collected`.

        Args:
            with_product: Whether to keep their product with the weights too, for `product`.
        """
        self._collected, self._product = None, None
        self._collecting, self._with_product = True, with_product

    def product(self) -> Tensor:
        """Returns w dL/dw for this rank's part of the weight, with the w of before the optimiser's step."""
        return self._product if self._product is not None else torch.zeros_like(local(self.weight.parameter.detach()))

    def collected(self) -> Tensor:
        """Returns the gradient of this rank's part of the weight, summed over the batches since `collect`."""
        held = local(self.weight.parameter.detach())
        gradient = self._collected if self._collected is not None else torch.zeros_like(held)
        self._collected, self._product, self._collecting = None, None, False
        return gradient

    def remove(self) -> None:
        """Stops to hold the zeros: gradients reach all weights again."""
        self._hook.remove()
        self._tell(None)

    def _hook_on(self, parameter: nn.Parameter) -> RemovableHandle:
        is_trained = parameter.requires_grad
        try:  # a frozen one has no hooks, but may be trained again later
            return self._hook_on_trained(parameter.requires_grad_())
        finally:
            parameter.requires_grad_(is_trained)

    def _hook_on_trained(self, parameter: nn.Parameter) -> RemovableHandle:
        return parameter.register_post_accumulate_grad_hook(self._on_gradient)  # type: ignore[no-any-return, no-untyped-call]

    def _on_gradient(self, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        gradient = local(parameter.grad)
        live = self._live_on(gradient)
        if self._collecting:  # over several batches, `grad` has the sum for the living, the last one for the dead
            before = self._collected if self._collected is not None else torch.zeros_like(gradient)
            self._collected = torch.where(live, gradient, before + gradient)
            if self._with_product:
                self._product = self._collected * local(parameter.detach())
        gradient.mul_(live)

    def _live_on(self, tensor: Tensor) -> Tensor:
        """Returns the bits on the tensor's device: the model may move after its masks were loaded."""
        if self._live.device != tensor.device:
            self._live = self._live.to(tensor.device)
            self._tell(self._live)
        return self._live

    def _tell(self, live: Tensor | None) -> None:
        """Says to `SparseAdamW` which weights are alive; of sharded ones it remembers all."""
        if not is_sharded(self.weight.parameter):
            set_live_weights(self.weight.parameter, live)
