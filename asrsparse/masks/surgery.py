"""Makes the layers of a module smaller: what kinds of units (`structured`) have in common."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
"""A layer with rows (its outputs) and columns (its inputs), and at each crossing a weight or a kernel of weights."""


def child(module: nn.Module, path: str) -> Any:
    """What a module holds under an attribute, or under several joined by dots; None if there is no such thing."""
    start: Any = module
    return reduce(lambda holder, name: getattr(holder, name, None), path.split("."), start)


def children(module: nn.Module, paths: Sequence[str]) -> list[Any]:
    """`child` for each path."""
    return [child(module, path) for path in paths]


def present(module: nn.Module, paths: Sequence[str]) -> list[Any]:
    """`child` for each path that leads somewhere."""
    return [found for found in children(module, paths) if found is not None]


def kept_indices(units: Tensor, num_units: int) -> Tensor:
    """The numbers of the units to keep.

    Args:
        units: True = keep, bool (num_units,).
        num_units: How many units there are.

    Raises:
        ValueError: If `units` is no choice among them.
    """
    if units.dtype != torch.bool or units.shape != (num_units,) or not units.any():
        raise ValueError(
            f"keep: got units of {units.dtype} and shape {tuple(units.shape)}, {int(units.count_nonzero())} of them "
            f"kept; allowed is torch.bool, shape ({num_units},), with at least one True (keep)."
        )
    return units.nonzero().flatten()


def spread(units: Tensor, size: int) -> Tensor:
    """The rows or columns of units that have `size` neighbouring ones each.

    Example:
        >>> spread(torch.tensor([0, 2]), size=3)
        tensor([0, 1, 2, 6, 7, 8])
    """
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


def row_size(layer: Layer) -> int:
    """Parameters of one output of a layer."""
    return layer.weight[0].numel() + bias_size(layer)


def column_size(layer: Layer) -> int:
    """Parameters of one input of a layer."""
    return layer.weight[:, 0].numel()


def bias_size(layer: Layer) -> int:
    """Biases of one output of a layer: one, or none."""
    return int(layer.bias is not None)


def keep_outputs(layer: Layer, kept: Tensor) -> None:
    """Shrinks a layer to some of its rows."""
    shrink(layer, "weight", kept, axis=0)
    shrink(layer, "bias", kept, axis=0)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(kept))


def keep_inputs(layer: Layer, kept: Tensor) -> None:
    """Shrinks a layer to some of its columns."""
    shrink(layer, "weight", kept, axis=1)
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", len(kept))


def shrink(module: nn.Module, name: str, kept: Tensor, axis: int) -> None:
    """Puts the kept part of a parameter or buffer in its place, if the module has it."""
    whole = getattr(module, name, None)
    if whole is None:
        return
    part = whole.detach().index_select(axis, kept.to(whole.device))
    setattr(module, name, nn.Parameter(part, whole.requires_grad) if isinstance(whole, nn.Parameter) else part)
