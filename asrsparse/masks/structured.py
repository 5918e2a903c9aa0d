"""Units of a model that can be removed whole: hidden units, attention heads, channels.

All that a unit computes passes through input columns of one weight, its *gate*:

    kind                 unit                                           gate             columns of a unit
    FeedForwardUnits     a hidden unit of a feed-forward module         w_2              1
    AttentionHeads       a head of an attention module                  linear_out       d_k
    ConvolutionChannels  a channel of a conformer's convolution module  pointwise_conv2  1
    SubsamplingChannels  a channel of a subsampling's convolution       conv.2           1
                         a channel of the last of them                  out.0            F', its frequencies

So a structured mask has to act on the gate alone: a unit whose columns are zero adds nothing to the output, whatever
the rest of it holds, and the rest of it gets no gradient. `keep` removes such units: the layers get smaller.

A kind knows modules by their attributes, ESPnet's by default. Those of another library are named in its fields:
`FeedForwardUnits("linear1", "linear2")` are the hidden units of `torch.nn.TransformerEncoderLayer`.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from asrsparse.masks.layers import bias_size, count_owners, keep_channels, kernel_dims_of, type_of, weight_of
from asrsparse.masks.surgery import child, children, kept_indices, present, shrink, spread


class UnitKind(ABC):
    """A kind of unit: which modules have it, and how a module shrinks to some of its units."""

    @property
    @abstractmethod
    def gate_name(self) -> str:
        """The module's attribute that holds the gate, or several joined by dots."""

    @abstractmethod
    def matches(self, module: nn.Module) -> bool:
        """Returns whether the module has units of this kind. The other methods are for modules that have."""

    @abstractmethod
    def parameters_per_unit(self, module: nn.Module) -> int:
        """Returns how many parameters leave the model with one unit, its gate columns included.

        What is also in another kind's gate counts there alone, so that no parameter counts twice.
        """

    @abstractmethod
    def keep(self, module: nn.Module, units: Tensor) -> None:
        """Shrinks the module's layers to some of its units.

        The parameters are replaced by new ones: do it before the optimiser is built, or build it anew.

        Args:
            module: A module that matches, with plain weights.
            units: True = keep, bool (number of units,); at least one is True, as kernels do not take empty layers.
        """

    def columns_per_unit(self, module: nn.Module) -> int:
        """Returns how many neighbouring input columns of the gate belong to one unit."""
        return 1

    def gate(self, module: nn.Module) -> nn.Module:
        """Returns the layer whose input columns take in what the units compute."""
        gate: nn.Module = child(module, self.gate_name)
        return gate

    def num_columns(self, module: nn.Module) -> int:
        """Returns the number of input columns of the gate."""
        gate = self.gate(module)
        return weight_of(gate).shape[type_of(gate).input_axis]

    def column_size(self, module: nn.Module) -> int:
        """Returns the number of parameters of one input column of the gate."""
        gate = self.gate(module)
        return type_of(gate).column_size(gate)

    def keep_columns(self, module: nn.Module, kept: Tensor) -> None:
        """Shrinks the gate to some of its input columns; `kept` has their indices, int64 (number of those kept,)."""
        gate = self.gate(module)
        type_of(gate).keep_inputs(gate, kept)

    def num_units(self, module: nn.Module) -> int:
        """Returns the number of units that the module has now."""
        return self.num_columns(module) // self.columns_per_unit(module)

    def live_units(self, module: nn.Module) -> Tensor:
        """Returns which units have a column that is not all zero, bool (number of units,)."""
        gate = self.gate(module)
        columns = weight_of(gate).detach().movedim(type_of(gate).input_axis, 0)
        return (columns.reshape(self.num_units(module), -1) != 0).any(dim=1)


@dataclass(frozen=True)
class FeedForwardUnits(UnitKind):
    """The hidden units of `second(activation(first(x)))`, where the activation takes each unit by itself.

    Args:
        first: Attribute of the linear layer into the hidden units.
        second: Attribute of the linear layer out of them, the gate.

    Example:
        >>> layer = nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=32)
        >>> kind = FeedForwardUnits("linear1", "linear2")
        >>> kind.matches(layer), kind.num_units(layer), kind.parameters_per_unit(layer)
        (True, 32, 17)
        >>> kind.keep(layer, torch.arange(32) < 5)
        >>> layer.linear1, layer.linear2.weight.shape
        (Linear(in_features=8, out_features=5, bias=True), torch.Size([8, 5]))
    """

    first: str = "w_1"
    second: str = "w_2"

    @property
    def gate_name(self) -> str:
        """The attribute of the second layer."""
        return self.second

    def matches(self, module: nn.Module) -> bool:
        """Returns whether it has both linear layers, the first with as many outputs as the second has inputs."""
        first, second = children(module, (self.first, self.second))
        if not (kernel_dims_of(first) == kernel_dims_of(second) == 0):
            return False
        return type_of(first).num_outputs(first) == type_of(second).num_inputs(second)

    def parameters_per_unit(self, module: nn.Module) -> int:
        """Counts a row of the first layer with its bias, and a column of the second."""
        first = child(module, self.first)
        return type_of(first).row_size(first) + self.column_size(module)

    def keep(self, module: nn.Module, units: Tensor) -> None:
        """Shrinks both layers to the units that are kept."""
        kept = kept_indices(units, self.num_units(module))
        first = child(module, self.first)
        type_of(first).keep_outputs(first, kept)
        self.keep_columns(module, kept)


@dataclass(frozen=True)
class AttentionHeads(UnitKind):
    """The heads of an attention module, whose layers hold them one after another.

    By default those of ESPnet's `MultiHeadedAttention` and of its variants with relative positions. A norm of queries
    and keys (`qk_norm`) works within heads and is shared by them, so that it stays as it is.

    Args:
        projections: Attributes of the linear layers into queries, keys and values.
        output: Attribute of the linear layer out of the heads, the gate.
        num_heads: Attribute with the number of heads.
        head_size: Attribute with d_k, the width of a head.
        position_projections: Attributes of further linear layers into the heads, where a module has them.
        position_biases: Attributes of parameters (heads, d_k), where a module has them.
    """

    projections: Sequence[str] = ("linear_q", "linear_k", "linear_v")
    output: str = "linear_out"
    num_heads: str = "h"
    head_size: str = "d_k"
    position_projections: Sequence[str] = ("linear_pos",)
    position_biases: Sequence[str] = ("pos_bias_u", "pos_bias_v")

    @property
    def gate_name(self) -> str:
        """The attribute of the layer out of the heads."""
        return self.output

    def matches(self, module: nn.Module) -> bool:
        """Returns whether it has the linear layers, all as wide as its heads together."""
        heads, head_size = getattr(module, self.num_heads, None), getattr(module, self.head_size, None)
        output, *projections = children(module, (self.output, *self.projections))
        if not (isinstance(heads, int) and isinstance(head_size, int) and kernel_dims_of(output) == 0):
            return False
        width = heads * head_size
        fit = (kernel_dims_of(layer) == 0 and type_of(layer).num_outputs(layer) == width for layer in projections)
        return type_of(output).num_inputs(output) == width and all(fit)

    def columns_per_unit(self, module: nn.Module) -> int:
        """Returns the width of a head."""
        return int(getattr(module, self.head_size))

    def parameters_per_unit(self, module: nn.Module) -> int:
        """Counts the rows and columns of a head, and its biases of position."""
        rows = sum(type_of(layer).row_size(layer) for layer in self._projections(module))
        biases: int = sum(bias[0].numel() for bias in present(module, self.position_biases))
        return self.columns_per_unit(module) * (rows + self.column_size(module)) + biases

    def keep(self, module: nn.Module, units: Tensor) -> None:
        """Shrinks all layers, and the number of heads."""
        heads = kept_indices(units, self.num_units(module))
        rows = spread(heads, self.columns_per_unit(module))
        for layer in self._projections(module):
            type_of(layer).keep_outputs(layer, rows)
        for name in self.position_biases:
            shrink(module, name, heads, axis=0)
        self.keep_columns(module, rows)
        setattr(module, self.num_heads, len(heads))

    def _projections(self, module: nn.Module) -> list[Any]:
        return present(module, (*self.projections, *self.position_projections))


@dataclass(frozen=True)
class ConvolutionChannels(UnitKind):
    """The channels of a conformer's convolution module (https://arxiv.org/abs/2005.08100, Section 2.2).

    A channel is what one filter of the depthwise convolution makes. Before it stand the two rows of the gated linear
    unit, after it a batch norm; a norm over all channels would tie them to each other, and does not match.

    Args:
        first: Attribute of the pointwise convolution into values and their gates (twice the channels).
        depthwise: Attribute of the depthwise convolution.
        norm: Attribute of the batch norm.
        second: Attribute of the pointwise convolution out of the channels, the gate.
    """

    first: str = "pointwise_conv1"
    depthwise: str = "depthwise_conv"
    norm: str = "norm"
    second: str = "pointwise_conv2"

    @property
    def gate_name(self) -> str:
        """The attribute of the second pointwise convolution."""
        return self.second

    def matches(self, module: nn.Module) -> bool:
        """Returns whether it has the three convolutions and a batch norm, on one number of channels."""
        *convolutions, norm = children(module, (self.first, self.depthwise, self.second, self.norm))
        if not (all(kernel_dims_of(layer) == 1 for layer in convolutions) and isinstance(norm, nn.BatchNorm1d)):
            return False
        first, depthwise, second = convolutions
        kind = type_of(depthwise)
        widths = (kind.num_inputs(depthwise), kind.num_outputs(depthwise), depthwise.groups, norm.num_features)
        doubled = type_of(first).num_outputs(first) / 2
        return first.groups == second.groups == 1 and {doubled, *widths} == {type_of(second).num_inputs(second)}

    def parameters_per_unit(self, module: nn.Module) -> int:
        """Counts two rows of the first convolution, a filter, the norm's parameters, and a column of the second."""
        first, depthwise, norm = children(module, (self.first, self.depthwise, self.norm))
        learned: int = sum(parameter[0].numel() for parameter in norm.parameters())
        rows = 2 * type_of(first).row_size(first) + type_of(depthwise).row_size(depthwise)
        return rows + learned + self.column_size(module)

    def keep(self, module: nn.Module, units: Tensor) -> None:
        """Shrinks the convolutions and the norm."""
        num_channels = self.num_units(module)
        channels = kept_indices(units, num_channels)
        first, depthwise, norm = children(module, (self.first, self.depthwise, self.norm))
        type_of(first).keep_outputs(first, torch.cat([channels, channels + num_channels]))  # values, then their gates
        keep_channels(depthwise, channels)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shrink(norm, name, channels, axis=0)
        norm.num_features = len(channels)
        self.keep_columns(module, channels)


@dataclass(frozen=True)
class SubsamplingChannels(UnitKind):
    """The channels of one convolution of a subsampling over time and frequency, as ESPnet's `Conv2dSubsampling`.

    The layer that reads them stands next, behind a ReLU. It is another convolution, or a linear layer for which the
    channels of a frame were laid end to end: F' neighbouring columns, one for each frequency that is left, are those of
    a channel.

    The kernels between two convolutions vanish with the channels of either. They are the gate of the first one's, and
    count there: with half the channels of both, half of them are counted as kept, and a quarter is there.

    Args:
        convolution: Attribute of the convolution.
        reader: Attribute of the layer that reads its channels, the gate.

    Example:
        >>> convolutions = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        >>> module = nn.ModuleDict({"conv": convolutions, "out": nn.Linear(8 * 19, 16)})
        >>> kinds = SubsamplingChannels("conv.0", "conv.2"), SubsamplingChannels("conv.2", "out")
        >>> [(kind.matches(module), kind.columns_per_unit(module), kind.parameters_per_unit(module)) for kind in kinds]
        [(True, 1, 82), (True, 19, 305)]
        >>> for kind in kinds:
        ...     kind.keep(module, torch.arange(8) < 3)
        >>> convolutions[2].weight.shape, module["out"].in_features
        (torch.Size([3, 3, 3, 3]), 57)
    """

    convolution: str
    reader: str

    @property
    def gate_name(self) -> str:
        """The attribute of the layer that reads the channels."""
        return self.reader

    def matches(self, module: nn.Module) -> bool:
        """Returns whether it has both layers with nothing but a ReLU between them, on one number of channels."""
        convolution, reader = children(module, (self.convolution, self.reader))
        if kernel_dims_of(convolution) != 2 or kernel_dims_of(reader) not in (0, 2):
            return False
        channels, columns = type_of(convolution).num_outputs(convolution), self.num_columns(module)
        fit = columns == channels or (kernel_dims_of(reader) == 0 and columns % channels == 0)
        layers = _innermost(module)
        between = layers[layers.index(convolution) + 1 : layers.index(reader)]
        return fit and convolution.groups == 1 and [type(layer) for layer in between] == [nn.ReLU]

    def columns_per_unit(self, module: nn.Module) -> int:
        """Returns the number of frequencies if a linear layer reads the channels, else 1."""
        convolution = child(module, self.convolution)
        return self.num_columns(module) // type_of(convolution).num_outputs(convolution)

    def parameters_per_unit(self, module: nn.Module) -> int:
        """Counts a filter with its bias, and its columns; of a filter that reads other channels, only the bias."""
        convolution = child(module, self.convolution)
        is_first = _innermost(module)[0] is convolution
        own = type_of(convolution).row_size(convolution) if is_first else bias_size(convolution)
        return own + self.columns_per_unit(module) * self.column_size(module)

    def keep(self, module: nn.Module, units: Tensor) -> None:
        """Shrinks both layers to the units that are kept."""
        channels = kept_indices(units, self.num_units(module))
        columns = spread(channels, self.columns_per_unit(module))
        convolution = child(module, self.convolution)
        type_of(convolution).keep_outputs(convolution, channels)
        self.keep_columns(module, columns)


DEFAULT_KINDS: tuple[UnitKind, ...] = (
    FeedForwardUnits(),
    AttentionHeads(),
    ConvolutionChannels(),
    SubsamplingChannels("conv.0", "conv.2"),
    SubsamplingChannels("conv.2", "out.0"),
    SubsamplingChannels("conv.2", "out"),  # without positions
    SubsamplingChannels("conv.2", "conv.4"),  # of three convolutions: one frame in 80 ms
    SubsamplingChannels("conv.4", "out"),
)
"""The units of ESPnet's transformers and conformers."""


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one module.

    Attributes:
        name: The name of their gate in the model.
        module: The module that has the units.
        kind: The kind of the units.
    """

    name: str
    module: nn.Module
    kind: UnitKind


def find_units(model: nn.Module, kinds: Sequence[UnitKind] = DEFAULT_KINDS) -> list[Units]:
    """Returns the modules of a model that have units, in the model's order.

    Left alone are modules that share a parameter or a layer with others: they would no longer share it.

    Args:
        model: Any module.
        kinds: The kinds of units to look for.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, dim_feedforward=32))
        >>> [(units.name, units.kind.num_units(units.module))
        ...  for units in find_units(model, [FeedForwardUnits("linear1", "linear2")])]
        [('1.linear2', 32)]
    """
    owners = count_owners(model)
    places = Counter(id(layer) for parent in model.modules() for layer in parent._modules.values())

    def is_alone(module: nn.Module) -> bool:
        layers = [layer for layer in list(module.modules())[1:] if any(True for _ in layer.parameters())]
        return all(places[id(each)] == 1 for each in layers) and all(owners[id(p)] == 1 for p in module.parameters())

    return [
        Units(f"{name}.{kind.gate_name}".lstrip("."), module, kind)
        for name, module in model.named_modules()
        for kind in kinds
        if kind.matches(module) and is_alone(module)
    ]


def _innermost(module: nn.Module) -> list[nn.Module]:
    """Returns the layers of a module that hold no others, in order; masks before their weights do not count."""
    return [
        layer
        for name, layer in module.named_modules()
        if "parametrizations" not in name and (is_parametrized(layer) or not any(True for _ in layer.children()))
    ]
