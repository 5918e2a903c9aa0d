"""Calls of a function in several processes at once, with results in order, by PyTorch's data loader."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], num_processes: int, settings: str
) -> Iterator[Result]:
    """Calls a function on each item, in forked processes with one thread each.

    Args:
        function: The function to call; forked processes share its data without a copy.
        items: The arguments of the calls.
        num_processes: The number of processes; 1 calls the function in this process, with all threads.
        settings: The options that a user can lower where memory runs out, for the message.

    Yields:
        The results, in the order of the items.

    Raises:
        ValueError: If the function raised it, or a process was killed.

    Example:
        >>> list(in_processes(len, ["one", "three"], num_processes=2, settings=""))
        [3, 5]
    """
    if num_processes == 1:
        yield from map(function, items)
        return
    loader: DataLoader[Any] = DataLoader(
        _Calls(function, items),
        batch_size=None,
        num_workers=num_processes,
        collate_fn=_as_it_is,
        multiprocessing_context="fork",
    )
    try:
        for result in loader:
            if isinstance(result, ValueError):
                raise result
            yield result
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ValueError(f"A process was killed, as happens where memory runs out. Lower {settings}.") from None


class _Calls(torch.utils.data.Dataset[Any]):
    """The results of a function, each computed when it is read."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function = function
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        try:
            return self.function(self.items[number])
        except ValueError as error:  # the loader would put the trace of its process into the message
            return error


def _as_it_is(result: Any) -> Any:
    """Returns a result unchanged, in place of PyTorch's collation."""
    return result
