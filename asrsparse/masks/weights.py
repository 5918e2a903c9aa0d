"""Which weights of a model get a mask, and what the units of such a mask are.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from weakref import WeakSet

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from asrsparse.masks.layers import LAYER_TYPES, LayerType, maskable_layers, trained_weight, type_of

_taken: "WeakSet[nn.Module]" = WeakSet()  # the modules whose weight is under a mask now


@dataclass(frozen=True)
class Tiling:
    """Cuts a weight into units: tiles of one shape.

    Attributes:
        shape: The shape of the weight, (O, I, K...).
        tile: The shape of a unit, which divides that of the weight along each axis: `(1, 1)` for single weights,
            `(16, 16)` for blocks, `(O, 1)` for whole input columns.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]

    @property
    def units_shape(self) -> tuple[int, ...]:
        """The number of units along each axis of the weight, (U...)."""
        return tuple(size // step for size, step in zip(self.shape, self.tile, strict=True))

    @property
    def weights_per_unit(self) -> int:
        """The number of weights in a unit."""
        return math.prod(self.tile)

    def pool(self, values: Tensor) -> Tensor:
        """Returns the sum of values over each unit: (O, I, K...) -> (U...)."""
        if self.weights_per_unit == 1:
            return values
        split = [size for pair in zip(self.units_shape, self.tile, strict=True) for size in pair]
        return values.reshape(split).sum(dim=list(range(1, len(split), 2)))

    def expand(self, units: Tensor) -> Tensor:
        """Returns the value of each unit at all its weights: (U...) -> (O, I, K...)."""
        for dim, step in enumerate(self.tile):
            if step > 1:
                units = units.repeat_interleave(step, dim=dim)
        return units


@dataclass(frozen=True, eq=False)
class Weight:
    """The weight of one layer, and the units in which its mask keeps or drops it.

    Attributes:
        name: The weight's name in the plain model's state dict.
        module: The layer; `module.weight` is the weight.
        tiling: How the weight is cut into units.
        parameters_per_unit: How many of the model's parameters have no effect on its output once a unit is zero. They
            are more than the weights in the unit if the mask drops an input column, as what feeds it counts too.
    """

    name: str
    module: nn.Module
    tiling: Tiling
    parameters_per_unit: int = 1

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that is trained as the weight, also where a mask stands before it."""
        return parameter_of(self.module, "weight")

    @property
    def layer_type(self) -> LayerType:
        """The type of the layer, which says along which axes of the weight its outputs and inputs lie."""
        return type_of(self.module)

    @property
    def num_units(self) -> int:
        """The number of units of the weight."""
        return math.prod(self.tiling.units_shape)

    @property
    def size(self) -> int:
        """The number of the model's parameters on which the mask decides."""
        return self.num_units * self.parameters_per_unit


def parameter_of(module: nn.Module, name: str) -> nn.Parameter:
    """Returns a module's parameter as it is now: that behind a mask, or that by which `fully_shard` replaced it."""
    own = dict(module.named_parameters())
    return own[name] if name in own else own[f"parametrizations.{name}.original"]


def find_weights(model: nn.Module) -> list[Weight]:
    """Returns the weights of all layers of known types, in the model's order, in units of single weights.

    Left alone are frozen weights, those that several layers share (an output layer tied to an embedding), and those
    of layers with a parametrisation of their own (weight normalisation).
    """
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    found = []
    for name, module in maskable_layers(model).items():
        parameter = None if is_parametrized(module, "bias") else trained_weight(module)
        if parameter is not None and parameter.requires_grad and uses[id(parameter)] == 1:
            tiling = Tiling(tuple(parameter.shape), (1,) * parameter.dim())
            found.append(Weight(name, module, tiling))
    return found


def select(weights: Sequence[Weight], include: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> list[Weight]:
    """Returns the weights that a pattern of `include` matches and none of `exclude`, in their order.

    Args:
        weights: The weights that may be masked.
        include: Shell-style patterns on names (`fnmatch`): `"encoder.encoders.*"`. `"ctc.*|decoder.output_layer.*"` is
            one pattern with two alternatives.
        exclude: Patterns of those to leave dense.

    Raises:
        ValueError: If a pattern matches nothing, or no weight is left.

    Example:
        >>> model = nn.Sequential(nn.Conv1d(80, 32, 3), nn.BatchNorm1d(32), nn.Linear(32, 10))
        >>> [weight.name for weight in select(find_weights(model), exclude=["0.*"])]
        ['2.weight']
    """
    names = ", ".join(weight.name for weight in weights) or "none"
    for setting, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(matches(weight.name, pattern) for weight in weights):
                raise ValueError(f"{setting}: got the pattern {pattern!r}, which matches no weight. Weights: {names}.")
    chosen = [w for w in weights if _matches_any(w.name, include) and not _matches_any(w.name, exclude)]
    if not chosen:
        types = ", ".join(kind.__name__ for kind in LAYER_TYPES)
        raise ValueError(
            f"No layer is left to mask: masks can be on the trainable weights of {types} (here: {names}), those of "
            f"include={list(include)}, less those of exclude={list(exclude)}. Exclude less, or use DenseMask()."
        )
    return chosen


def matches(name: str, pattern: str) -> bool:
    """Returns whether a weight's name matches a pattern or, if several are joined by `|`, one of them."""
    return any(fnmatchcase(name, alternative) for alternative in pattern.split("|"))


def take(weights: Sequence[Weight]) -> None:
    """Notes that these weights are under masks, so that no second `attach` takes them before `release`.

    Raises:
        ValueError: If one of them is under a mask already.
    """
    for weight in weights:
        if weight.module in _taken or is_parametrized(weight.module, "weight"):
            raise ValueError(
                f"{weight.name} is under a mask already; allowed is one `attach` per model. "
                "Leave the first masks with finish('dense', optimizer), or build the model anew."
            )
    _taken.update(weight.module for weight in weights)


def release(weights: Sequence[Weight]) -> None:
    """Notes that these weights are no longer under masks, so that another `attach` may take them."""
    _taken.difference_update(weight.module for weight in weights)


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    return any(matches(name, pattern) for pattern in patterns)
