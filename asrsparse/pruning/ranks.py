"""Values that several processes exchange; a process that trains alone needs no process group."""

from typing import TypeVar

import torch

Value = TypeVar("Value")


def rank() -> int:
    """Returns the number of this process among those that train together; 0 if it trains alone."""
    return torch.distributed.get_rank() if _are_several() else 0


def gather(value: Value) -> list[Value]:
    """Returns the values of all ranks, in the order of ranks, on every rank.

    All ranks call it. The values are pickled, so that they may differ in size.

    Args:
        value: The value of this rank.

    Returns:
        One value from each rank; the own one alone if this process trains alone.
    """
    if not _are_several():
        return [value]
    values: list[Value | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def _are_several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
