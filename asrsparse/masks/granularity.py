"""What a mask keeps or drops at once: single weights, blocks of them, or whole units of the model.

A granularity lists the weights of a model that can be masked, and gives each the tile that is its unit. N:M sparsity is
not one of them: its units are single weights, and `allocation.NM` says how many of them are kept where.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from asrsparse.masks.left_dense import choose
from asrsparse.masks.structured import DEFAULT_KINDS, UnitKind, Units, find_units
from asrsparse.masks.weights import Weight, find_weights


class Granularity(ABC):
    """Says what the units of a model's masks are."""

    @abstractmethod
    def weights(self, model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> list[Weight]:
        """Returns the weights to mask, with their tilings.

        Args:
            model: Any module.
            include: Patterns of weights to mask, see `weights.select`.
            exclude: Patterns of weights to leave dense.

        Raises:
            ValueError: If a pattern matches nothing, or no weight is left.
        """


@dataclass(frozen=True)
class SingleWeights(Granularity):
    """Each weight on its own. Simulated sparsity: zeros are multiplied like any other number."""

    def weights(self, model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> list[Weight]:
        """Returns all linear and convolutional weights that the patterns choose, each weight a unit of its own."""
        return choose(model, find_weights(model), include, exclude)


@dataclass(frozen=True)
class Blocks(Granularity):
    """Each block of `rows` x `columns` weights is a unit: outputs x inputs, with the whole kernel of a convolution.

    The zeros are multiplied here like any other number; other libraries have kernels that skip blocks of zeros.

    Args:
        rows: Output features of a block.
        columns: Input features of a block.

    Raises:
        ValueError: If one of them is not positive.
    """

    rows: int = 16
    columns: int = 16

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(
                f"rows and columns: got rows={self.rows} and columns={self.columns}, allowed is at least 1."
            )

    def weights(self, model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> list[Weight]:
        """Returns all linear and convolutional weights that the patterns choose, cut into blocks.

        Raises:
            ValueError: If a block does not divide one of them.
        """
        return [self._tiled(weight) for weight in choose(model, find_weights(model), include, exclude)]

    def _tiled(self, weight: Weight) -> Weight:
        kind, tile = weight.layer_type, list(weight.tiling.shape)  # the whole kernel
        rows, columns = tile[kind.output_axis], tile[kind.input_axis]
        if rows % self.rows or columns % self.columns:
            raise ValueError(
                f"rows and columns: got blocks of {self.rows} x {self.columns} for {weight.name} of {rows} x "
                f"{columns}; allowed are blocks that divide it. Choose smaller ones, or exclude=[{weight.name!r}, ...]."
            )
        tile[kind.output_axis], tile[kind.input_axis] = self.rows, self.columns
        return _tiled(weight, tile, math.prod(tile))


@dataclass(frozen=True)
class Structured(Granularity):
    """Each hidden unit of a feed-forward module, attention head, or channel of a convolution is a unit.

    All that a unit computes passes through input columns of one weight, its gate, and it is these that the mask drops;
    the names that patterns match are those of the gates. What feeds a dropped unit gets no gradient and has no effect.
    `compact(model)` then makes the layers smaller, on any device.

    Args:
        kinds: The kinds of units to look for.
    """

    kinds: Sequence[UnitKind] = DEFAULT_KINDS

    def weights(self, model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> list[Weight]:
        """Returns the gates that the patterns choose, in units of their input columns.

        Raises:
            ValueError: As `weights.select`; also if the model has no such units.
        """
        by_gate = {f"{units.name}.weight": units for units in find_units(model, self.kinds)}
        gates = [weight for weight in find_weights(model) if weight.name in by_gate]
        if not gates:
            raise ValueError(
                f"kinds: got a {type(model).__name__} without units of the kinds "
                f"{', '.join(type(kind).__name__ for kind in self.kinds)}. Name the attributes of its modules, as in "
                "kinds=[FeedForwardUnits('linear1', 'linear2')], or use SingleWeights()."
            )
        return [_in_columns(weight, by_gate[weight.name]) for weight in choose(model, gates, include, exclude, by_gate)]


def _in_columns(weight: Weight, units: Units) -> Weight:
    tile = list(weight.tiling.shape)
    tile[weight.layer_type.input_axis] = units.kind.columns_per_unit(units.module)
    return _tiled(weight, tile, units.kind.parameters_per_unit(units.module))


def _tiled(weight: Weight, tile: Sequence[int], parameters_per_unit: int) -> Weight:
    return replace(weight, tiling=replace(weight.tiling, tile=tuple(tile)), parameters_per_unit=parameters_per_unit)
