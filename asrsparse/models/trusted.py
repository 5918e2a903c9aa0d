"""What the configuration of a run from elsewhere may name: it can choose layers and chunks, not run code of its own.

A `_target_` names what Hydra imports and calls. So a name is looked at before anything is imported, and what it names
is looked at before it is called.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from torch import nn

from asrsparse import pruning

OWN = "asrsparse.models"
"""Of this package all layers are trusted."""

ESPNET_LAYERS = frozenset(
    {
        "espnet2.asr.decoder.transformer_decoder.TransformerDecoder",
        "espnet2.asr.encoder.branchformer_encoder.BranchformerEncoder",
        "espnet2.asr.encoder.conformer_encoder.ConformerEncoder",
        "espnet2.asr.encoder.e_branchformer_encoder.EBranchformerEncoder",
        "espnet2.asr.encoder.transformer_encoder.TransformerEncoder",
        "espnet2.asr.specaug.specaug.SpecAug",
    }
)
"""Of ESPnet these are trusted, and not all: some of its encoders download files and unpickle them."""

_OWN_NAME = re.compile(rf"{re.escape(OWN)}(\.[a-z]\w*)+\.[A-Z]\w*")


def check_layers(where: str, model: Any, remedy: str) -> None:
    """Refuses the configuration of a model that names anything but trusted layers.

    Args:
        where: The file, for the message.
        model: The node `model` as plain dicts and lists, interpolations resolved: what they stand for is checked, too.
        remedy: What the user can do, for the message.

    Raises:
        ValueError: If a `_target_` is none of `ESPNET_LAYERS`, and not the name of a `torch.nn.Module` in the module of
            `asrsparse.models` that defines it.
    """
    espnets = ", ".join(sorted(name.rpartition(".")[2] for name in ESPNET_LAYERS))
    for key, target in _targets(model, "model"):
        if not is_layer(target):
            raise ValueError(
                f"{where}: {key} is {target!r}; allowed are modules of torch that {OWN} defines, and {espnets} of "
                f"ESPnet. {remedy}"
            )


def check_segments(where: str, segments: Any) -> None:
    """Refuses the configuration of segment pruning that names anything but classes which `asrsparse.pruning` exports.

    Args:
        where: The file, for the message.
        segments: The node `segments` as plain dicts and lists, interpolations resolved.

    Raises:
        ValueError: If a `_target_` is something else.
    """
    known = {f"{pruning.__name__}.{name}" for name in pruning.__all__ if inspect.isclass(getattr(pruning, name))}
    for key, target in _targets(segments, "segments"):
        if not isinstance(target, str) or target not in known:
            raise ValueError(f"{where}: {key} is {target!r}; allowed are classes that {pruning.__name__} exports.")


def is_layer(target: Any) -> bool:
    """Whether a name is that of a trusted layer, where it is defined.

    Example:
        >>> is_layer("asrsparse.models.asr.ASRModel"), is_layer("asrsparse.models.asr.torch.hub.load")
        (True, False)
    """
    if not isinstance(target, str):
        return False
    return target in ESPNET_LAYERS or (_OWN_NAME.fullmatch(target) is not None and _is_own_layer(target))


def _is_own_layer(target: str) -> bool:
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(import_module(module_name), class_name, None)
    except ImportError:
        return False
    return inspect.isclass(found) and issubclass(found, nn.Module) and found.__module__ == module_name


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """All that a configuration calls, by dotted key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield f"{key}._target_", node["_target_"]
        children = {f"{key}.{name}": child for name, child in node.items()}
    else:
        children = {f"{key}[{number}]": child for number, child in enumerate(node)} if isinstance(node, list) else {}
    for name, child in children.items():
        yield from _targets(child, name)
