"""What several processes know together."""

from typing import TypeVar

import torch

Value = TypeVar("Value")


def rank() -> int:
    """The number of this process among those that train together; 0 where it trains alone."""
    return torch.distributed.get_rank() if _are_several() else 0


def gather(value: Value) -> list[Value]:
    """The values of all ranks, in their order, on every rank; they may differ in size. All ranks call it."""
    if not _are_several():
        return [value]
    values: list[Value | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def _are_several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
