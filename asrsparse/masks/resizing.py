"""Units leave a model amid its training, and may come back: an optimiser's moments follow.

A kind's `keep` (`structured`) knows how the layers of a module shrink, and no more than that. Here it is run on tensors
that hold their own indices: what it leaves says which entries of each tensor stay. Values, moments and gradients are
then taken from those places, and can be put back there.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.moments import move_moments, require_movable
from asrsparse.masks.optimizers import parts_of
from asrsparse.masks.sharding import is_sharded
from asrsparse.masks.sparse_adamw import SparseAdamW
from asrsparse.masks.structured import Units

Owner = tuple[nn.Module, str]
"""A module and the name of an attribute in it."""


class Cut:
    """What left the modules of a model: the places of all that is still there, so that it can be undone.

    Attributes:
        places: Where the entries of a smaller tensor stood in the flattened whole one: int64, of the smaller shape.
        shapes: The shapes of the whole tensors.
        numbers: The numbers of units and the like that layers had.
    """

    def __init__(self) -> None:
        self.places: dict[Owner, Tensor] = {}
        self.shapes: dict[Owner, torch.Size] = {}
        self.numbers: dict[Owner, Any] = {}

    @torch.no_grad()
    def keep(self, units: Units, kept: Tensor, optimizer: Optimizer | None) -> None:
        """Shrinks a module to some of its units.

        Args:
            units: The units of one module, with plain weights.
            kept: True for those that stay, bool (number of units,).
            optimizer: The optimiser that trains the module, whose moments follow; None if there is none yet.

        Raises:
            ValueError: If a parameter is sharded, or the optimiser keeps what cannot be cut; nothing is changed then.
        """
        wholes = _tensors(units.module)
        _check(units, wholes, optimizer)
        numbers = _numbers(units.module)
        for owner, places in _places_after(lambda: units.kind.keep(units.module, kept), wholes).items():
            self._note(owner, places, wholes[owner].shape)
            _replace(owner, _take(wholes[owner].detach(), places), partial(_take, places=places), optimizer)
        for owner, number in numbers.items():
            if getattr(*owner) != number:
                self.numbers.setdefault(owner, number)

    @torch.no_grad()
    def undo(self, optimizer: Optimizer, generator: torch.Generator) -> dict[Owner, Tensor]:
        """Brings all layers back to their whole size, with what is there in its place and fresh values elsewhere.

        Fresh values of a parameter are drawn from a normal distribution with the mean and the standard deviation of
        those that are there, and fresh buffers (the statistics of a batch norm) are their mean. Moments begin at zero.

        Args:
            optimizer: The optimiser that trains the modules.
            generator: The source of random numbers, on the CPU.

        Returns:
            For each tensor that grew, True where it is new, bool, of its whole shape.
        """
        _prepare(optimizer, [getattr(*owner) for owner in self.places])
        new = {}
        for owner, places in self.places.items():
            shape, small = self.shapes[owner], getattr(*owner).detach()
            whole = _put(small, places, _fresh(owner, shape, generator))
            _replace(owner, whole, partial(_grow, places, shape), optimizer)
            new[owner] = _put(torch.zeros_like(places), places, torch.ones(shape, dtype=torch.bool))
        for (module, name), number in self.numbers.items():
            setattr(module, name, number)
        return new

    def _note(self, owner: Owner, places: Tensor, shape: torch.Size) -> None:
        earlier = self.places.get(owner)  # of a tensor that another kind of units has cut
        self.places[owner] = places if earlier is None else earlier.flatten()[places]
        self.shapes.setdefault(owner, shape)


def owners(model: nn.Module) -> list[Owner]:
    """Returns the module of each parameter and its name there, in the model's order; parameters may be replaced."""
    found: dict[nn.Parameter, Owner] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            found.setdefault(parameter, (module, name))
    return list(found.values())


def _tensors(module: nn.Module) -> dict[Owner, Tensor]:
    """Returns the parameters and buffers of a module and all within it."""
    return {
        (part, name): tensor
        for part in module.modules()
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    }


def _numbers(module: nn.Module) -> dict[Owner, Any]:
    """Returns the attributes that may be sizes, of a module and all within it."""
    return {
        (part, name): value
        for part in module.modules()
        for name, value in vars(part).items()
        if isinstance(value, int | tuple)
    }


def _check(units: Units, tensors: dict[Owner, Tensor], optimizer: Optimizer | None) -> None:
    if any(is_sharded(tensor) for tensor in tensors.values()):
        raise ValueError(
            f"{units.name}: got a module that fully_shard has cut up between ranks, allowed are whole ones: FSDP2 "
            "holds the shapes that it found. Train under DDP, or compact the finished model."
        )
    if optimizer is not None:
        _prepare(optimizer, tensors.values())


def _prepare(optimizer: Optimizer, tensors: Iterable[Tensor]) -> None:
    """Gives moments the shapes of their parameters, or says that they cannot have them."""
    parameters = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
    for each in parts_of(optimizer):
        if isinstance(each, SparseAdamW):
            for parameter in parameters:
                each.remember_all(parameter)
    require_movable(optimizer, parameters)


def _places_after(surgery: Callable[[], None], wholes: dict[Owner, Tensor]) -> dict[Owner, Tensor]:
    """Returns the places of what a surgery leaves of the tensors that it shrinks; all tensors are as before then."""
    try:
        for owner, whole in wholes.items():
            _set(owner, torch.arange(whole.numel(), dtype=torch.float64).view(whole.shape))
        surgery()
        left = {owner: getattr(*owner).detach().long() for owner in wholes}
    finally:
        for owner, whole in wholes.items():
            setattr(*owner, whole)
    return {owner: places for owner, places in left.items() if places.shape != wholes[owner].shape}


def _set(owner: Owner, values: Tensor) -> Tensor:
    """Makes values an attribute of a module: a parameter or a buffer, as the one that is there; returns it."""
    before = getattr(*owner)
    made = nn.Parameter(values, before.requires_grad) if isinstance(before, nn.Parameter) else values
    setattr(*owner, made)
    return made


def _replace(owner: Owner, values: Tensor, change: Callable[[Tensor], Tensor], optimizer: Optimizer | None) -> None:
    """Replaces a tensor of a module; `change` makes its gradient and its moments those of the new one."""
    before, after = getattr(*owner), _set(owner, values)
    if isinstance(before, nn.Parameter) and isinstance(after, nn.Parameter):
        after.grad = None if before.grad is None else change(before.grad)
        if optimizer is not None:
            move_moments(optimizer, before, after, change)


def _take(whole: Tensor, places: Tensor) -> Tensor:
    """Returns the entries of a tensor that stand at places in the flattened tensor."""
    return whole.flatten()[places.to(whole.device)]


def _put(values: Tensor, places: Tensor, whole: Tensor) -> Tensor:
    """Returns a tensor with values at their places, and elsewhere as it is."""
    flat = whole.flatten().clone()
    flat[places.flatten().to(flat.device)] = values.flatten().to(flat)
    return flat.view(whole.shape)


def _grow(places: Tensor, shape: torch.Size, values: Tensor) -> Tensor:
    return _put(values, places, values.new_zeros(shape))


def _fresh(owner: Owner, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Returns a whole tensor of fresh values, on the device and of the type of the small one."""
    small = getattr(*owner)
    known = small.detach().float()
    drawn = torch.full(shape, known.mean().item())
    if isinstance(small, nn.Parameter):
        drawn += known.std(correction=0).item() * torch.randn(shape, generator=generator)
    return drawn.to(small.detach())
