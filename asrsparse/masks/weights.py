"""Which weights of a model get a mask, and what the units of such a mask are.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from weakref import WeakSet

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from asrsparse.masks.layers import FURTHER_MATRICES, LAYER_TYPES, LayerType, count_owners, maskable_places, type_of

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
        module: The layer.
        tiling: How the weight is cut into units.
        parameters_per_unit: How many of the model's parameters have no effect on its output once a unit is zero. They
            are more than the weights in the unit if the mask drops an input column, as what feeds it counts too.
        attribute: The layer's attribute that is the weight.
        aliases: Further names, where the model has the layer, or a module around it, under several.
    """

    name: str
    module: nn.Module
    tiling: Tiling
    parameters_per_unit: int = 1
    attribute: str = "weight"
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the weight in the plain model's state dict."""
        return (self.name, *self.aliases)

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that is trained as the weight, also where a mask stands before it."""
        return parameter_of(self.module, self.attribute)

    @property
    def layer_type(self) -> LayerType:
        """The type of the layer, which says along which axes of the weight its outputs and inputs lie."""
        return type_of(self.module) if self.attribute == "weight" else LAYER_TYPES[nn.Linear]

    @property
    def num_units(self) -> int:
        """The number of units of the weight."""
        return math.prod(self.tiling.units_shape)

    @property
    def size(self) -> int:
        """The number of the model's parameters on which the mask decides."""
        return self.num_units * self.parameters_per_unit

    def matches(self, pattern: str) -> bool:
        """Returns whether one of its names matches a pattern, see `select`."""
        return any(matches(name, pattern) for name in self.names)


def parameter_of(module: nn.Module, name: str) -> nn.Parameter:
    """Returns a module's parameter as it is now: that behind a mask, or that by which `fully_shard` replaced it."""
    own = dict(module.named_parameters())
    return own[name] if name in own else own[f"parametrizations.{name}.original"]


def require_ready(model: nn.Module) -> None:
    """Checks that masks can be put on a model as it is.

    Raises:
        ValueError: If it is in a wrapper for several devices, or parameters have no shapes or values yet.
    """
    if isinstance(model, (nn.DataParallel, DistributedDataParallel)):
        raise ValueError(
            f"model: got a {type(model).__name__}, allowed is the module inside it, since masks change its parameters. "
            "Attach to its attribute `module`, and wrap it anew afterwards."
        )
    for name, parameter in model.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            lacking = "a shape" if is_lazy(parameter) else "values: it is on the device meta"
            raise ValueError(
                f"{name}: got a parameter without {lacking}; allowed are those that will be trained. Call the model "
                "once (lazy modules), or load its weights (meta), and attach then."
            )


def require_trained(weights: Sequence[Weight]) -> None:
    """Checks that no weight is frozen.

    Raises:
        ValueError: If one is.
    """
    frozen = [weight.name for weight in weights if not weight.parameter.requires_grad]
    if frozen:
        raise ValueError(
            f"{frozen[0]}: got a weight that was frozen (requires_grad=False) after its mask was attached, as were "
            f"{len(frozen)} of {len(weights)}; allowed are trained ones while masks are chosen. Freeze them before "
            "SparseMasks.attach, which leaves frozen weights dense, or after the last choice of masks."
        )


def find_weights(model: nn.Module) -> list[Weight]:
    """Returns the weights of all layers of known types, in the model's order, in units of single weights.

    Left alone are those for which `why_dense` has a reason.
    """
    owners, names, found = count_owners(model), _names(model), []
    for name, module, attribute in maskable_places(model):
        if why_dense(module, attribute, owners) is None:
            shape = tuple(parameter_of(module, attribute).shape)
            aliases = tuple(other for prefix in names[module] if (other := _joined(prefix, attribute)) != name)
            tiling = Tiling(shape, (1,) * len(shape))
            found.append(Weight(name, module, tiling, attribute=attribute, aliases=aliases))
    return found


def why_dense(module: nn.Module, attribute: str, owners: Counter[int]) -> str | None:
    """Returns the reason why a weight gets no mask, or None if it may get one.

    Args:
        module: The layer.
        attribute: Its attribute that is the weight.
        owners: `layers.count_owners` of the model.
    """
    for name in (attribute, "bias"):
        if is_parametrized(module, name) and not _is_under_mask(module, name):
            return f"its {name} is parametrised by {type(module.get_submodule(f'parametrizations.{name}.0')).__name__}"
    own = dict(module.named_parameters())
    parameter = own.get(attribute, own.get(f"parametrizations.{attribute}.original"))
    if parameter is None:
        return "it is computed from other parameters"
    if not parameter.requires_grad:
        return "frozen"
    if owners[id(parameter)] > 1:
        return "several layers share it"
    return None if parameter.is_floating_point() else f"of type {parameter.dtype}"


def select(
    weights: Sequence[Weight],
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    left_dense: Mapping[str, str] | None = None,
) -> list[Weight]:
    """Returns the weights that a pattern of `include` matches and none of `exclude`, in their order.

    Args:
        weights: The weights that may be masked.
        include: Shell-style patterns on names (`fnmatch`): `"encoder.encoders.*"`. `"ctc.*|decoder.output_layer.*"` is
            one pattern with two alternatives.
        exclude: Patterns of those to leave dense.
        left_dense: Names of further weights, which cannot be masked, to the reasons. Patterns of `exclude` may match
            these alone.

    Raises:
        ValueError: If a pattern matches nothing, or no weight is left.

    Example:
        >>> model = nn.Sequential(nn.Conv1d(80, 32, 3), nn.BatchNorm1d(32), nn.Linear(32, 10))
        >>> [weight.name for weight in select(find_weights(model), exclude=["0.*"])]
        ['2.weight']
    """
    names, others = ", ".join(weight.name for weight in weights) or "none", left_dense or {}
    for setting, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns if weights else ():
            _require_match(setting, pattern, weights, others)
    chosen = [w for w in weights if _matches_any(w, include) and not _matches_any(w, exclude)]
    if not chosen:
        types = ", ".join(kind.__name__ for kind in (*LAYER_TYPES, *FURTHER_MATRICES))
        raise ValueError(
            f"No layer is left to mask: masks can be on the trainable weights of {types} (here: {names}), those of "
            f"include={list(include)}, less those of exclude={list(exclude)}.{_in_words(others)} Exclude less, or use "
            "DenseMask()."
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
        if weight.module in _taken or is_parametrized(weight.module, weight.attribute):
            raise ValueError(
                f"{weight.name} is under a mask already; allowed is one `attach` per model. "
                "Leave the first masks with finish('dense', optimizer), or build the model anew."
            )
    _taken.update(weight.module for weight in weights)


def release(weights: Sequence[Weight]) -> None:
    """Notes that these weights are no longer under masks, so that another `attach` may take them."""
    _taken.difference_update(weight.module for weight in weights)


def _names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Returns all names of each module in a model."""
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[module].append(name)
    return names


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _is_under_mask(module: nn.Module, attribute: str) -> bool:
    """Returns whether a parametrisation is a mask: a mask has a tiling."""
    return hasattr(module.get_submodule(f"parametrizations.{attribute}.0"), "tiling")


def _matches_any(weight: Weight, patterns: Sequence[str]) -> bool:
    return any(weight.matches(pattern) for pattern in patterns)


def _require_match(setting: str, pattern: str, weights: Sequence[Weight], others: Mapping[str, str]) -> None:
    if any(weight.matches(pattern) for weight in weights):
        return
    matched = {name: reason for name, reason in others.items() if matches(name, pattern)}
    if matched and setting == "include":
        raise ValueError(
            f"{setting}: got the pattern {pattern!r}, which matches no weight that can be masked."
            f"{_in_words(matched)} Take the pattern out, or change these."
        )
    if not matched:
        names = ", ".join(name for weight in weights for name in weight.names) or "none"
        raise ValueError(f"{setting}: got the pattern {pattern!r}, which matches no weight. Weights: {names}.")


def _in_words(left_dense: Mapping[str, str]) -> str:
    """Returns a sentence on weights that cannot be masked, at most five of them, and nothing if there are none."""
    shown = "; ".join(f"{name}, {reason}" for name, reason in list(left_dense.items())[:5])
    return f" Stay dense: {shown}{'; ...' if len(left_dense) > 5 else ''}." if left_dense else ""
