"""The 2:4 sparsity that a GPU computes faster: torch's own tensors replace weights of which half are zero.

In a 2:4 weight, two or more of every four neighbouring inputs of each output are zero. NVIDIA's tensor cores skip them
from compute capability 8.0 (Ampere) on; elsewhere such zeros are multiplied like any other number.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.sparse import to_sparse_semi_structured

from asrsparse.masks.layers import LAYER_TYPES, weight_of

MULTIPLE = 16
"""A number of which both dimensions of a weight are multiples (torch 2.11, `SparseSemiStructuredTensorCUSPARSELT`)."""

DTYPES = (torch.bfloat16, torch.float16)
"""The allowed types of weights (of the same class; its int8 and float8 are for quantised models)."""

MIN_CAPABILITY = (8, 0)
"""The lowest compute capability of a GPU with sparse tensor cores (Ampere)."""


def to_semi_structured(model: nn.Module) -> list[str]:
    """Replaces the 2:4 weights of a model's linear layers by torch's semi-structured tensors, for inference.

    Layers whose weights hold no 2:4 zeros stay as they are, as do those of which a dimension is no multiple of 16. To
    leave others out, call this on parts of the model.

    Args:
        model: Any module on a GPU, in bfloat16 or float16. It is changed in place, and no longer trained or saved.

    Returns:
        The names of the layers that are faster now.

    Raises:
        ValueError: If no linear layer can be taken, or one is in another precision, or the GPU is too old or none.
    """
    layers = {name: layer for name, layer in model.named_modules() if _is_candidate(layer)}
    if not layers:
        raise ValueError(
            f"model: got {type(model).__name__}, of which no linear layer has a plain weight with two "
            f"zeros in every four inputs and both dimensions a multiple of {MULTIPLE}. Train with a 2:4 mask first."
        )
    for name, layer in layers.items():
        _require_dtype(name, weight_of(layer))
        _require_gpu(name, weight_of(layer).device)
    for layer in layers.values():
        sparse = to_sparse_semi_structured(weight_of(layer).detach().contiguous())
        layer.weight = nn.Parameter(sparse, requires_grad=False)
    return list(layers)


def is_two_of_four(weight: Tensor) -> bool:
    """Returns whether at most two of every four neighbouring inputs of each output are not zero.

    Args:
        weight: The weight of a linear layer, (O, I): outputs, inputs.

    Example:
        >>> is_two_of_four(torch.tensor([[1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0]]))
        True
        >>> is_two_of_four(torch.tensor([[0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]]))
        False
    """
    if weight.shape[1] % 4:
        return False
    kept = (weight.detach().reshape(-1, 4) != 0).sum(dim=1)
    return bool((kept <= 2).all())


def _is_candidate(layer: nn.Module) -> bool:
    kind = LAYER_TYPES.get(type(layer))  # a subclass may compute something else with its weight
    if kind is None or not kind.has_semi_structured_kernel or is_parametrized(layer):
        return False
    weight = weight_of(layer)
    return all(size % MULTIPLE == 0 for size in weight.shape) and is_two_of_four(weight)


def _require_dtype(name: str, weight: Tensor) -> None:
    if weight.dtype not in DTYPES:
        raise ValueError(
            f"{name}.weight: got {weight.dtype}, allowed are {', '.join(map(str, DTYPES))}. "
            "Call model.to(torch.bfloat16) first."
        )


def _require_gpu(name: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"{name}.weight: got a weight on {device}, allowed is an NVIDIA GPU. Call model.cuda() first.")
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        raise ValueError(
            f"{torch.cuda.get_device_name(device)}: got compute capability {capability[0]}.{capability[1]}, allowed is "
            f"{MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} or later (Ampere). Leave the model as it is."
        )
