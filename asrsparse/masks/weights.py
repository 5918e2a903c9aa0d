"""Which weights of a model get a mask."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from weakref import WeakSet

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

MASKABLE_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""The layers whose `weight` gets a mask. Norms, biases and embeddings never do: they are few, or rarely updated."""

_taken: "WeakSet[nn.Module]" = WeakSet()  # the modules whose weight is under a mask now


@dataclass(frozen=True, eq=False)
class Weight:
    """The weight of one layer: `module.weight` is `parameter`, and the model calls it `name`."""

    name: str
    module: nn.Module
    parameter: nn.Parameter


def select_weights(model: nn.Module, exclude: Sequence[str] = ()) -> list[Weight]:
    """The weights of all linear and convolutional layers, in the model's order, but for those that `exclude` matches.

    Left alone are frozen weights, those that several layers share (an output layer tied to an embedding), and those
    of layers with a parametrisation of their own (weight normalisation).

    Args:
        model: Any module.
        exclude: Shell-style patterns on parameter names (`fnmatch`): `"decoder.output_layer.*"`, `"*.conv.weight"`.

    Raises:
        ValueError: If a pattern matches no maskable weight, or if no weight is left.

    Example:
        >>> model = nn.Sequential(nn.Conv1d(80, 32, 3), nn.BatchNorm1d(32), nn.Linear(32, 10))
        >>> [weight.name for weight in select_weights(model, exclude=["0.*"])]
        ['2.weight']
    """
    weights = _maskable(model)
    names = ", ".join(weight.name for weight in weights) or "none"
    for pattern in exclude:
        if not any(fnmatchcase(weight.name, pattern) for weight in weights):
            raise ValueError(f"exclude: got the pattern {pattern!r}, which matches no weight. Weights: {names}.")
    chosen = [weight for weight in weights if not any(fnmatchcase(weight.name, pattern) for pattern in exclude)]
    if not chosen:
        types = ", ".join(kind.__name__ for kind in MASKABLE_TYPES)
        raise ValueError(
            f"No layer of {type(model).__name__} is left to mask: masks go on the trainable weights of {types} "
            f"(here: {names}), less those matched by exclude={list(exclude)}. Exclude less, or use DenseMask()."
        )
    return chosen


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
    """The weights are the plain model's again."""
    _taken.difference_update(weight.module for weight in weights)


def _maskable(model: nn.Module) -> list[Weight]:
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    found = []
    for name, module in model.named_modules():
        parameter = _own_weight(module) if isinstance(module, MASKABLE_TYPES) else None
        if parameter is not None and parameter.requires_grad and uses[id(parameter)] == 1:
            found.append(Weight(f"{name}.weight" if name else "weight", module, parameter))
    return found


def _own_weight(module: nn.Module) -> nn.Parameter | None:
    """The layer's weight, also where a mask stands before it; None if the layer is parametrised in another way."""
    own = dict(module.named_parameters())
    weight = own.get("weight", own.get("parametrizations.weight.original"))
    return None if is_parametrized(module, "bias") else weight
