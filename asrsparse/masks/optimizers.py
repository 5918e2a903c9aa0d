"""Several optimisers in the place of one: Muon for matrices and AdamW for the rest, say.

Masks take no optimiser steps. They look up which parameters an optimiser holds, and read and clear what it keeps of
them; so it is enough to show the groups and states of several optimisers as those of one.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def as_one(optimizer: Optimizer | Sequence[Optimizer]) -> Optimizer:
    """Returns the optimiser itself, or one view of several.

    Args:
        optimizer: An optimiser, or several that hold different parameters of a model.

    Raises:
        ValueError: If there is none, or a parameter is in two of them.
    """
    if not isinstance(optimizer, Sequence):
        return optimizer  # a torch optimiser, or what looks like one
    several = list(optimizer)
    if not several or not all(hasattr(each, "param_groups") for each in several):
        got = ", ".join(type(each).__name__ for each in several) or "none"
        raise ValueError(f"optimizer: got {got}, allowed are a torch optimiser, or a sequence of them.")
    return several[0] if len(several) == 1 else JoinedOptimizers(several)


def parts_of(optimizer: Optimizer) -> list[Optimizer]:
    """Returns the optimisers that are seen as one: those of a view, or the optimiser itself."""
    return optimizer.optimizers if isinstance(optimizer, JoinedOptimizers) else [optimizer]


class JoinedOptimizers(Optimizer):
    """A view of several optimisers, with the groups and states of all; each takes its own steps.

    Args:
        optimizers: Optimisers that hold different parameters.

    Raises:
        ValueError: If a parameter is in two of them.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> joined = JoinedOptimizers([torch.optim.SGD([model.weight]), torch.optim.AdamW([model.bias])])
        >>> joined.name, len(joined.param_groups)
        ('SGD and AdamW', 2)
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.name = " and ".join(type(optimizer).__name__ for optimizer in optimizers)
        self.optimizers = list(optimizers)
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        if len(set(parameters)) < len(parameters):
            twice = len(parameters) - len(set(parameters))
            raise ValueError(
                f"optimizer: got {twice} parameters in two of {self.name}, allowed is one for each. Split the groups "
                "of masks.param_groups between them."
            )
        self.state: Any = _JoinedState(optimizers)


class _JoinedState(MutableMapping[Tensor, Any]):
    """The states of several optimisers: that of a parameter is with the one that holds it."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers

    def __getitem__(self, parameter: Tensor) -> Any:
        for each in self._optimizers:
            if parameter in each.state:
                return each.state[parameter]
        raise KeyError(parameter)

    def __setitem__(self, parameter: Tensor, state: Any) -> None:
        holder = next(each for each in self._optimizers if _holds(each, parameter))
        holder.state[parameter] = state

    def __delitem__(self, parameter: Tensor) -> None:
        for each in self._optimizers:
            each.state.pop(parameter, None)

    def __contains__(self, parameter: object) -> bool:
        return any(parameter in each.state for each in self._optimizers)

    def __iter__(self) -> Iterator[Tensor]:
        return (parameter for each in self._optimizers for parameter in each.state)

    def __len__(self) -> int:
        return sum(len(each.state) for each in self._optimizers)


def _holds(optimizer: Optimizer, parameter: Tensor) -> bool:
    return any(held is parameter for group in optimizer.param_groups for held in group["params"])
