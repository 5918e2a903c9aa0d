"""Functions by which layers and modules get smaller, whatever their type is.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn


def child(module: nn.Module, path: str) -> Any:
    """Returns what a module holds under an attribute, or under several joined by dots; None if there is nothing."""
    start: Any = module
    return reduce(lambda holder, name: getattr(holder, name, None), path.split("."), start)


def children(module: nn.Module, paths: Sequence[str]) -> list[Any]:
    """Returns `child` for each path."""
    return [child(module, path) for path in paths]


def present(module: nn.Module, paths: Sequence[str]) -> list[Any]:
    """Returns `child` for each path that exists in the module."""
    return [found for found in children(module, paths) if found is not None]


def kept_indices(units: Tensor, num_units: int) -> Tensor:
    """Returns the indices of the units to keep, int64 (number of those kept,).

    Args:
        units: True = keep, bool (num_units,).
        num_units: How many units there are.

    Raises:
        ValueError: If `units` is no choice among them.
    """
    if units.dtype != torch.bool or units.shape != (num_units,) or not units.any():
        raise ValueError(
            f"units: got {units.dtype} and shape {tuple(units.shape)}, {int(units.count_nonzero())} of them "
            f"kept; allowed is torch.bool, shape ({num_units},), with at least one True (keep)."
        )
    return units.nonzero().flatten()


def spread(units: Tensor, size: int) -> Tensor:
    """Returns the indices of the rows or columns of units that have `size` neighbouring ones each.

    Example:
        >>> spread(torch.tensor([0, 2]), size=3)
        tensor([0, 1, 2, 6, 7, 8])
    """
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


def shrink(module: nn.Module, name: str, kept: Tensor, axis: int) -> None:
    """Replaces a parameter or buffer, if the module has it, by the part to keep.

    Args:
        module: The module that holds it.
        name: The attribute.
        kept: The indices to keep along the axis, int64 (number of those kept,).
        axis: The axis along which the part is taken.
    """
    whole = getattr(module, name, None)
    if whole is None:
        return
    part = whole.detach().index_select(axis, kept.to(whole.device))
    setattr(module, name, nn.Parameter(part, whole.requires_grad) if isinstance(whole, nn.Parameter) else part)
