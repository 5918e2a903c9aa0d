"""What a unit is worth: the scores by which masks of zeros and ones are chosen.

Each score is the mean over the weights of a unit, so that units of different sizes compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from asrsparse.masks.weights import Tiling


@dataclass(frozen=True)
class SaliencyInputs:
    """What a choice of masks may look at. Lists go by the masked weights.

    Attributes:
        values: The weights now.
        gradients: Their gradients in the last step, those of dead weights too, summed over ranks; empty if no score
            asked for them.
        tilings: How they are cut into units.
        generator: For random numbers; on the CPU, and the same on all ranks.
    """

    values: Sequence[Tensor]
    gradients: Sequence[Tensor]
    tilings: Sequence[Tiling]
    generator: torch.Generator

    def pool(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The means over the units."""
        pairs = zip(self.tilings, values, strict=True)
        return [tiling.pool(value) / tiling.weights_per_unit for tiling, value in pairs]


class Saliency(Protocol):
    """Says what the units are worth."""

    @property
    def needs_gradient(self) -> bool:
        """Whether it looks at `SaliencyInputs.gradients`."""

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """The scores of all units, one tensor for each weight, of its `units_shape`."""


@dataclass(frozen=True)
class RandomSaliency:
    """Any unit is worth as much as another."""

    needs_gradient = False

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Uniform random numbers."""
        pairs = zip(inputs.tilings, inputs.values, strict=True)
        return [torch.rand(t.units_shape, generator=inputs.generator).to(value.device) for t, value in pairs]


@dataclass(frozen=True)
class MagnitudeSaliency:
    """|w|."""

    needs_gradient = False

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """The mean magnitudes."""
        return inputs.pool([value.abs() for value in inputs.values])


@dataclass(frozen=True)
class GradientSaliency:
    """|dL/dw|: how fast a weight would grow."""

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """The mean magnitudes of gradients."""
        return inputs.pool([gradient.abs() for gradient in inputs.gradients])


@dataclass(frozen=True)
class ConnectionSensitivity:
    """|w dL/dw|: what the loss would lose with a weight.

    SNIP's connection sensitivity (https://arxiv.org/abs/1810.02340), before its division by the sum of all.
    """

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """The mean sensitivities."""
        return inputs.pool([(w * g).abs() for w, g in zip(inputs.values, inputs.gradients, strict=True)])


@dataclass(frozen=True)
class MagnitudeAndGradientSaliency:
    """|w| + lambda |dL/dw| (MEST, https://arxiv.org/abs/2110.14032, the salience by which it drops weights).

    Both are divided by their means over the layer first: that is our decision, since a gradient's size depends on that
    of the loss and, with a gradient scaler, on its scale.

    Args:
        gradient_weight: lambda.
    """

    gradient_weight: float = 1.0

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """The weighted sums."""
        pairs = zip(MagnitudeSaliency()(inputs), GradientSaliency()(inputs), strict=True)
        return [_normalised(w) + self.gradient_weight * _normalised(g) for w, g in pairs]


def _normalised(scores: Tensor) -> Tensor:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores
