"""Updates of some of the weights alone: those with the largest gradients (SparCL, https://arxiv.org/abs/2209.09476).

    updates = LargestGradients(share=0.2)
    updates.attach(optimizer)            # its steps change a fifth of each matrix from here on

Nothing gets faster: the step is made for all weights, and taken back for most of them.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.settings import wrong
from asrsparse.masks.sharding import local

_ALWAYS_UPDATED = "mask_logits"


class Updates(Protocol):
    """Which weights the steps of an optimiser update."""

    def attach(self, optimizer: Optimizer) -> None:
        """Acts on each step of the optimiser from here on; called once."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain numbers from which `load_state_dict` goes on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, after `attach`."""


class AllUpdates:
    """Updates all weights (null object): the optimiser is left as it is."""

    def attach(self, optimizer: Optimizer) -> None:
        """Leaves the optimiser as it is."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing, as there is nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores nothing, as nothing was kept."""


class LargestGradients:
    """Updates the weights of the largest absolute gradient in each matrix or kernel, and keeps the others as they are.

    This is the gradient mask of SparCL, chosen from the gradient of one step and used for some more, as in the public
    code. There, plain SGD makes the steps. Ours may have moments: those of a weight that is not updated stay, too, and
    it does not decay. Vectors (norms, biases) and the logits of learned masks are always updated. Weights without a
    gradient, as those under a mask, are not counted.

    Args:
        share: The share of the weights with a gradient that a step updates, in (0, 1].
        every: The optimiser steps for which a choice is used.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> weight = nn.Parameter(torch.zeros(1, 4))
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> LargestGradients(share=0.5, every=1).attach(optimizer)
        >>> weight.grad = torch.tensor([[1.0, -4.0, 3.0, 2.0]])
        >>> optimizer.step()
        >>> weight.tolist()
        [[0.0, 4.0, -3.0, 0.0]]
    """

    def __init__(self, share: float = 0.2, every: int = 30) -> None:
        if not 0.0 < share <= 1.0:
            raise wrong("share", share, "is a share in (0, 1]")
        if every < 1:
            raise wrong("every", every, "are optimiser steps from 1 on")
        self.share = share
        self.every = every
        self._num_steps = 0
        self._updated: dict[nn.Parameter, Tensor] = {}
        self._before: dict[nn.Parameter, dict[str, Tensor]] = {}
        self._optimizer: Optimizer | None = None

    def attach(self, optimizer: Optimizer) -> None:
        """Acts on each step of the optimiser from here on; called once."""
        self._optimizer = optimizer
        optimizer.register_step_pre_hook(lambda *_: self._remember())
        optimizer.register_step_post_hook(lambda *_: self._take_back())

    @torch.no_grad()
    def _remember(self) -> None:
        """Keeps the weights and moments as they are before a step, in which a closure may compute the gradients."""
        self._before = {
            parameter: {name: value.clone() for name, value in self._tensors_of(parameter).items()}
            for parameter in self._parameters()
        }

    @torch.no_grad()
    def _take_back(self) -> None:
        """Takes the step back where a weight is not updated."""
        is_due = self._num_steps % self.every == 0
        for parameter, before in self._before.items():
            if parameter.grad is None:
                continue
            gradient = local(parameter.grad)
            known = self._updated.get(parameter)
            if is_due or known is None or known.shape != gradient.shape:
                known = self._updated[parameter] = self._choose(gradient)
            updated = known.to(gradient.device)
            for name, value in self._tensors_of(parameter).items():
                # what the optimiser did not keep before its first step began at zero
                value.copy_(torch.where(updated, value, before.get(name, torch.zeros_like(value))))
        self._before = {}
        self._num_steps += 1

    def _choose(self, gradient: Tensor) -> Tensor:
        """Returns True for the largest gradients of a matrix, bool, of its shape."""
        num_updated = round(self.share * int(gradient.count_nonzero()))
        largest = gradient.abs().flatten().topk(num_updated).indices
        updated = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
        updated[largest] = True
        return updated.view(gradient.shape)

    def _parameters(self) -> list[nn.Parameter]:
        """Returns the matrices and kernels that the optimiser trains, in its order; compaction may replace them."""
        assert self._optimizer is not None
        groups = [group for group in self._optimizer.param_groups if group.get("name") != _ALWAYS_UPDATED]
        return [parameter for group in groups for parameter in group["params"] if parameter.dim() >= 2]

    def _tensors_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Returns the weights and all moments of their shape, of this rank's part."""
        assert self._optimizer is not None
        state = self._optimizer.state.get(parameter, {})
        moments = {
            name: local(value)
            for name, value in state.items()
            if isinstance(value, Tensor) and value.shape == parameter.shape
        }
        return {"": local(parameter.detach()), **moments}

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps, and which weights are updated, in the order of the optimiser."""
        return {"num_steps": self._num_steps, "updated": [self._updated.get(p) for p in self._parameters()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, after `attach`."""
        self._num_steps = state["num_steps"]
        pairs = zip(self._parameters(), state["updated"], strict=True)
        self._updated = {parameter: updated for parameter, updated in pairs if updated is not None}
