"""Weights of a model that stay dense: which, why, and how large a part of the model they are.

Nobody wonders that norms, embeddings, an output layer tied to them, and frozen weights stay dense. The others are named
in a warning, once, unless the patterns leave them out.
"""

import logging
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from torch import nn

from asrsparse.masks.layers import count_owners, find_type, maskable_places
from asrsparse.masks.weights import Weight, find_weights, matches, select, why_dense

logger = logging.getLogger(__name__)

_NEVER_MASKED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
_WORTH_A_WARNING = 0.01  # of the model's parameters; biases of positions and the like are less


@dataclass(frozen=True)
class LeftDense:
    """A weight with two or more dimensions that gets no mask.

    Attributes:
        name: Its name in the plain model's state dict.
        reason: Why it gets none, in words.
        size: The number of its parameters.
        is_expected: Whether nobody would expect a mask there.
    """

    name: str
    reason: str
    size: int
    is_expected: bool


def find_left_dense(model: nn.Module) -> list[LeftDense]:
    """Returns the weights of a model that cannot be masked, in its order.

    Example:
        >>> for left in find_left_dense(nn.Sequential(nn.Embedding(8, 4), nn.GRU(4, 4, bias=False), nn.Linear(4, 8))):
        ...     print(left.name, left.reason, left.is_expected)
        0.weight no masks on Embedding True
        1.weight_ih_l0 no masks on GRU False
        1.weight_hh_l0 no masks on GRU False
    """
    masked = {name for weight in find_weights(model) for name in weight.names}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    reasons, found = _reasons(model), {}
    for parameter_name, parameter in model.named_parameters():
        name = _plain(parameter_name)
        if parameter.dim() < 2 or name in masked or name in found:
            continue
        layer = model.get_submodule(name.rpartition(".")[0])
        is_expected = isinstance(layer, _NEVER_MASKED) or not parameter.requires_grad or id(parameter) in embeddings
        reason = reasons.get(name) or _reason_of_another(layer, parameter.requires_grad)
        found[name] = LeftDense(name, reason, parameter.numel(), is_expected)
    return list(found.values())


def choose(
    model: nn.Module,
    weights: Sequence[Weight],
    include: Sequence[str],
    exclude: Sequence[str],
    among: Container[str] | None = None,
) -> list[Weight]:
    """Returns the weights that the patterns choose (`weights.select`), and warns of those that cannot be masked.

    Args:
        model: The model.
        weights: Its weights that may be masked.
        include: Patterns of weights to mask.
        exclude: Patterns of weights to leave dense.
        among: The names of all weights that are meant to have masks; None for all of the model.

    Raises:
        ValueError: As `weights.select`.
    """
    left_dense = [left for left in find_left_dense(model) if among is None or left.name in among]
    chosen = select(weights, include, exclude, {left.name: left.reason for left in left_dense})
    wanted = [left for left in left_dense if not left.is_expected and _is_wanted(left.name, include, exclude)]
    share = sum(left.size for left in wanted) / sum(parameter.numel() for parameter in model.parameters())
    if share >= _WORTH_A_WARNING:
        logger.warning(
            "masks: %.3g %% of the model's parameters stay dense, since no mask can be on them: %s. "
            "Name them in exclude=[...] if this is meant.",
            100 * share,
            "; ".join(f"{reason} ({names})" for reason, names in _by_reason(wanted).items()),
        )
    return chosen


def _reasons(model: nn.Module) -> dict[str, str]:
    """Returns the reasons for the layers of known types, by the name of the weight."""
    owners = count_owners(model)
    pairs = ((name, why_dense(module, attribute, owners)) for name, module, attribute in maskable_places(model))
    return {name: reason for name, reason in pairs if reason is not None}


def _reason_of_another(layer: nn.Module, is_trained: bool) -> str:
    if not is_trained:
        return "frozen"
    if find_type(layer) is not None:
        return f"a {type(layer).__name__} computes its weight from it"
    return f"no masks on {type(layer).__name__}"


def _plain(name: str) -> str:
    """Returns the name that a parameter has without parametrisations: a.parametrizations.weight.original -> a.weight"""
    return re.sub(r"(^|\.)parametrizations\.([^.]+)\..*", r"\1\2", name)


def _is_wanted(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    return any(matches(name, pattern) for pattern in include) and not any(matches(name, pattern) for pattern in exclude)


def _by_reason(left_dense: Sequence[LeftDense]) -> dict[str, str]:
    """Returns the names by reason, at most four for each."""
    names: dict[str, list[str]] = {}
    for left in left_dense:
        names.setdefault(left.reason, []).append(left.name)
    return {reason: ", ".join([*of[:4], *(["..."] if len(of) > 4 else [])]) for reason, of in names.items()}
