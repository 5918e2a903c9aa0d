"""The layer types that masks, compaction and the count of FLOPs know: one adapter for each, in one table.

Only `LAYER_TYPES` says which layers are known. A layer of another build (low-rank, block-diagonal) is one more
`LayerType` there, which overrides what differs from a layer with one weight. Every layer has an attribute `weight`; if
that is a parameter, a mask can stand before it.

Norms, biases and embeddings are not in the table, so that they never get a mask: they are few, or rarely updated.
`FURTHER_MATRICES` are weights of other names, which may get a mask but are neither compacted nor counted. Recurrent
layers are in neither table: they compute with a list of their weights of their own, which passes by a mask before them.

Shape legend: O outputs, I inputs (of one group, where a convolution has several), K... the sizes of the kernel, none
for a linear layer. A weight is (O, I, K...), a bias (O,).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from asrsparse.masks.surgery import shrink


@dataclass(frozen=True)
class LayerType:
    """The adapter of one type of layer; the methods here are those of a layer with one weight and one bias.

    Attributes:
        outputs: The layer's attribute with the number of outputs.
        inputs: The layer's attribute with the number of inputs.
        kernel_dims: The dimensions over which the layer slides: 0 for a linear layer, 2 for an image.
        output_axis: The axis of the weight along which the outputs lie.
        input_axis: The axis of the weight along which the inputs lie.
        has_semi_structured_kernel: Whether PyTorch computes 2:4 weights of this type on sparse tensor cores.
    """

    outputs: str
    inputs: str
    kernel_dims: int = 0
    output_axis: int = 0
    input_axis: int = 1
    has_semi_structured_kernel: bool = False

    def num_outputs(self, layer: nn.Module) -> int:
        """Returns the number of outputs of a layer."""
        return int(getattr(layer, self.outputs))

    def num_inputs(self, layer: nn.Module) -> int:
        """Returns the number of inputs of a layer, those of all groups."""
        return int(getattr(layer, self.inputs))

    def row_size(self, layer: nn.Module) -> int:
        """Returns the number of parameters of one output of a layer, its bias included."""
        return weight_of(layer).select(self.output_axis, 0).numel() + bias_size(layer)

    def column_size(self, layer: nn.Module) -> int:
        """Returns the number of parameters of one input of a layer."""
        return weight_of(layer).select(self.input_axis, 0).numel()

    def keep_outputs(self, layer: nn.Module, kept: Tensor) -> None:
        """Shrinks a layer to some of its outputs; `kept` has their indices, int64 (number of those kept,)."""
        shrink(layer, "weight", kept, axis=self.output_axis)
        shrink(layer, "bias", kept, axis=0)
        setattr(layer, self.outputs, len(kept))

    def keep_inputs(self, layer: nn.Module, kept: Tensor) -> None:
        """Shrinks a layer to some of its inputs; `kept` has their indices, int64 (number of those kept,)."""
        shrink(layer, "weight", kept, axis=self.input_axis)
        setattr(layer, self.inputs, len(kept))

    def num_products(self, layer: nn.Module, inputs: Sequence[Tensor]) -> int:
        """Returns how many products of the size of the forward pass a training step takes: that, and its gradients.

        Args:
            layer: The layer.
            inputs: The arguments of its forward pass, whose gradients count where they are wanted.
        """
        return 1 + weight_of(layer).requires_grad + any(value.requires_grad for value in inputs)


LAYER_TYPES: dict[type[nn.Module], LayerType] = {
    nn.Linear: LayerType("out_features", "in_features", has_semi_structured_kernel=True),
    nn.Conv1d: LayerType("out_channels", "in_channels", kernel_dims=1),
    nn.Conv2d: LayerType("out_channels", "in_channels", kernel_dims=2),
    nn.Conv3d: LayerType("out_channels", "in_channels", kernel_dims=3),
}
"""The known layer types, by their classes; a subclass is treated as its nearest base class that is listed."""


FURTHER_MATRICES: dict[type[nn.Module], str] = {nn.MultiheadAttention: "in_proj_weight"}
"""Modules with a weight (O, I) like that of a linear layer, by another name: their first parameter, if not None."""


def find_type(module: object) -> LayerType | None:
    """Returns the type of a layer, or None if the module is no layer of a known type."""
    return next((LAYER_TYPES[base] for base in type(module).__mro__ if base in LAYER_TYPES), None)


def type_of(layer: nn.Module) -> LayerType:
    """Returns the type of a layer.

    Raises:
        ValueError: If the module is no layer of a known type.
    """
    found = find_type(layer)
    if found is None:
        known = ", ".join(kind.__name__ for kind in LAYER_TYPES)
        raise ValueError(
            f"layer: got {type(layer).__name__}, allowed are {known}. "
            "Add an entry to asrsparse.masks.layers.LAYER_TYPES for another type."
        )
    return found


def kernel_dims_of(module: object) -> int | None:
    """Returns the dimensions over which a layer slides (0 for a linear layer), or None for what is no known layer."""
    found = find_type(module)
    return None if found is None else found.kernel_dims


def maskable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers of known types, by the names that their weights have in the plain model's state dict.

    Example:
        >>> list(maskable_layers(nn.Sequential(nn.Conv1d(80, 32, 3), nn.BatchNorm1d(32), nn.Linear(32, 10))))
        ['0.weight', '2.weight']
    """
    layers = ((name, module) for name, module in model.named_modules() if find_type(module) is not None)
    return {f"{name}.weight" if name else "weight": module for name, module in layers}


def maskable_places(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Returns all weights that a mask can stand before: name in the plain model's state dict, module, attribute.

    Example:
        >>> [name for name, _, _ in maskable_places(nn.TransformerEncoderLayer(8, 2, dim_feedforward=16))]
        ['self_attn.in_proj_weight', 'self_attn.out_proj.weight', 'linear1.weight', 'linear2.weight']
    """
    return [
        (f"{name}.{attribute}".lstrip("."), module, attribute)
        for name, module in model.named_modules()
        if (attribute := _masked_attribute(module)) is not None
    ]


def _masked_attribute(module: nn.Module) -> str | None:
    if find_type(module) is not None:
        return "weight"
    attribute = next((FURTHER_MATRICES[base] for base in type(module).__mro__ if base in FURTHER_MATRICES), None)
    return None if attribute is None or getattr(module, attribute) is None else attribute


def count_owners(model: nn.Module) -> Counter[int]:
    """Returns how many layers hold a parameter, by its id; a layer that has two names in the model counts once."""
    owned = (module.named_parameters(recurse=False, remove_duplicate=False) for module in model.modules())
    return Counter(id(parameter) for pairs in owned for _, parameter in pairs)


def weight_of(layer: nn.Module) -> Tensor:
    """Returns the weight with which a layer computes, (O, I, K...): under a mask, the masked one."""
    return cast(Tensor, layer.weight)


def trained_weight(layer: nn.Module) -> nn.Parameter | None:
    """Returns the parameter that is trained as the layer's weight, also where a mask stands before it.

    It is None for a layer whose weight is made of several parameters (weight normalisation).
    """
    own = dict(layer.named_parameters())
    return own.get("weight", own.get("parametrizations.weight.original"))


def bias_size(layer: nn.Module) -> int:
    """Returns the number of biases of one output of a layer: one, or zero."""
    return int(layer.bias is not None)


def keep_channels(layer: nn.Module, kept: Tensor) -> None:
    """Shrinks a depthwise convolution, each of whose outputs has one input, to some of its channels.

    Args:
        layer: A convolution with as many groups as inputs and outputs.
        kept: The indices of the channels to keep, int64 (number of those kept,).
    """
    kind = type_of(layer)
    kind.keep_outputs(layer, kept)
    for attribute in (kind.inputs, "groups"):
        setattr(layer, attribute, len(kept))
