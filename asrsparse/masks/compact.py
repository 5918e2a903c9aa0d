"""Compaction: units whose gate columns are zero leave the model, and its layers get smaller.

    compact(model)                       # after masks.finish("sparse", optimizer)
    save_file(model.state_dict(), path)
    ...
    model = build()                      # of full size
    fit_to(model, load_file(path))       # the shapes of a state dict say what was left
    model.load_state_dict(load_file(path))

No mask is needed: the zeros of a unit's gate say that the unit has no effect (`structured`). The result is a plain
model with smaller layers: it computes the same, can be trained and exported, and is faster and smaller on any device.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer

from asrsparse.masks.layers import type_of
from asrsparse.masks.resizing import Cut
from asrsparse.masks.structured import DEFAULT_KINDS, UnitKind, Units, find_units


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction: sizes and units before and after it.

    Attributes:
        parameters_before: Parameters of the model before it.
        parameters_after: Parameters of the model after it.
        units: The number of units kept and of units before, by the name of their gate.
    """

    parameters_before: int
    parameters_after: int
    units: dict[str, tuple[int, int]]


def compact(
    model: nn.Module, kinds: Sequence[UnitKind] = DEFAULT_KINDS, optimizer: Optimizer | None = None
) -> Compaction:
    """Takes the units out of a model whose gate columns are all zero, in place.

    The outputs stay the same up to rounding, in training too, but for the random numbers of dropout. One unit stays in
    each module, even if all of them are zero: kernels do not take empty layers. A model without zeros stays as it is.

    The parameters of smaller layers are new: compact before the optimiser is built, or give it, so that it holds them
    in the place of the old ones, and goes on with the moments of what stays. Wrap the model in
    `DistributedDataParallel` anew. Masks do not follow, so that zeros among the weights that stay are no longer held:
    a mask method with `compact_at_exit=True` does all this by itself.

    Args:
        model: Any module, with plain weights.
        kinds: The kinds of units to look for.
        optimizer: The optimiser that trains the model; None if there is none yet.

    Raises:
        ValueError: If a module with units is under a mask that is still learned, or another parametrisation; or if the
            optimiser keeps more than moments of a weight's shape.

    Example:
        >>> from asrsparse.masks.structured import FeedForwardUnits
        >>> model = nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=32)
        >>> with torch.no_grad():
        ...     _ = model.linear2.weight[:, 10:].zero_()
        >>> compact(model, kinds=[FeedForwardUnits("linear1", "linear2")])
        Compaction(parameters_before=872, parameters_after=498, units={'linear2': (10, 32)})
    """
    found = _find_plain_units(model, kinds)
    before = num_parameters(model)
    # From the last to the first: the only units that read a unit may be among those that leave.
    cut = Cut()
    kept = {each.name: _keep_live(each, cut, optimizer) for each in reversed(found)}
    return Compaction(before, num_parameters(model), {each.name: kept[each.name] for each in found})


def fit_to(model: nn.Module, state_dict: Mapping[str, Tensor], kinds: Sequence[UnitKind] = DEFAULT_KINDS) -> None:
    """Shrinks a freshly built model to the shapes of a compacted one's state dict, so that this loads strictly.

    A model of full size, and what the state dict does not name, stays as it is.

    Args:
        model: The model before its compaction; its values are to be loaded afterwards.
        state_dict: The state dict of the compacted model. Only shapes of gates are read.
        kinds: The kinds of units with which it was compacted.

    Raises:
        ValueError: If a shape fits no number of units; the model is unchanged then.

    Example:
        >>> from asrsparse.masks.structured import FeedForwardUnits
        >>> build = lambda: nn.Sequential(nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=32))
        >>> kinds = [FeedForwardUnits("linear1", "linear2")]
        >>> small, model = build(), build()
        >>> _ = small[0].linear2.weight.data[:, 10:].zero_()
        >>> _ = compact(small, kinds)
        >>> fit_to(model, small.state_dict(), kinds)
        >>> model.load_state_dict(small.state_dict())
        <All keys matched successfully>
    """
    sizes = [(each, _num_saved(each, state_dict)) for each in _find_plain_units(model, kinds)]
    for each, num_saved in sizes:
        num_units = each.kind.num_units(each.module)
        if num_saved < num_units:
            each.kind.keep(each.module, torch.arange(num_units) < num_saved)


@torch.no_grad()
def widen(
    model: nn.Module, state_dict: Mapping[str, Tensor], kinds: Sequence[UnitKind] = DEFAULT_KINDS
) -> dict[str, Tensor]:
    """Brings a compacted model's state dict back to full size, with zeros for the units that left.

    This is for programs that know layers of one size alone. A unit of zeros has no effect, so the outputs stay the
    same up to rounding. Units keep their order, not their indices: those that are left become the first ones.

    Args:
        model: The model of full size; it stays as it is.
        state_dict: The state dict of the compacted model.
        kinds: The kinds of units with which it was compacted.

    Raises:
        ValueError: If a shape fits no number of units.

    Example:
        >>> from asrsparse.masks.structured import FeedForwardUnits
        >>> build = lambda: nn.Sequential(nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=32))
        >>> kinds = [FeedForwardUnits("linear1", "linear2")]
        >>> small, model = build(), build()
        >>> _ = small[0].linear2.weight.data[:, 10:].zero_()
        >>> _ = compact(small, kinds)
        >>> wide = widen(model, small.state_dict(), kinds)
        >>> wide["0.linear2.weight"].shape, bool(wide["0.linear2.weight"][:, 10:].any())
        (torch.Size([8, 32]), False)
    """
    places = copy.deepcopy(model)
    for values in (*places.parameters(), *places.buffers()):
        values.data = torch.arange(values.numel(), dtype=torch.float64).view(values.shape)
    fit_to(places, state_dict, kinds)  # what is left of each tensor now says where in the full one it stood
    kept, full = places.state_dict(), model.state_dict()
    return {name: _spread(values, kept[name].long(), full[name].shape) for name, values in state_dict.items()}


def _spread(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """Returns a tensor of zeros with the values at their places, which are indices of the flattened tensor."""
    spread = values.new_zeros(shape)
    spread.view(-1)[places.flatten()] = values.flatten()
    return spread


def _find_plain_units(model: nn.Module, kinds: Sequence[UnitKind]) -> list[Units]:
    found = find_units(model, kinds)
    for each in found:
        if any(is_parametrized(layer) for layer in each.module.modules()):
            raise ValueError(
                f"{each.name}: got a module under a mask that is still learned, or under another "
                "parametrisation; allowed are plain weights. Call masks.finish('sparse', optimizer) first (or "
                "torch.nn.utils.parametrize.remove_parametrizations)."
            )
    return found


def _keep_live(units: Units, cut: Cut, optimizer: Optimizer | None) -> tuple[int, int]:
    """Shrinks a module to its live units; returns how many are kept, of how many."""
    live = units.kind.live_units(units.module)
    if not live.any():
        live[0] = True
    if not live.all():
        cut.keep(units, live, optimizer)
    return int(live.sum()), len(live)


def _num_saved(units: Units, state_dict: Mapping[str, Tensor]) -> int:
    """Returns how many of a module's units a state dict has; all of them if it does not name the gate."""
    num_units, columns = units.kind.num_units(units.module), units.kind.columns_per_unit(units.module)
    saved = state_dict.get(f"{units.name}.weight")
    if saved is None:
        return num_units
    num_columns = saved.shape[type_of(units.kind.gate(units.module)).input_axis]
    num_saved, rest = divmod(num_columns, columns)
    if rest or not 1 <= num_saved <= num_units:
        raise ValueError(
            f"{units.name}.weight: got {num_columns} input columns, allowed are 1 to {num_units} times "
            f"{columns} (units of this model, and columns of each). Build the model as it was before its compaction."
        )
    return num_saved


def num_parameters(model: nn.Module) -> int:
    """Returns the number of all parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
