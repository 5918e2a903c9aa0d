"""Saliencies: the scores of units by which masks of zeros and ones are chosen.

Each score is the mean over the weights of a unit, so that units of different sizes compare.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from asrsparse.masks.weights import Tiling


@dataclass(frozen=True)
class SaliencyInputs:
    """The tensors that a saliency may use. Each list has an item for each masked weight, in one order.

    Attributes:
        values: The weights now, (O, I, K...) each.
        gradients: Their gradients in the last step, (O, I, K...) each, those of dead weights too, summed over ranks;
            empty if no saliency needs them.
        tilings: How the weights are cut into units.
        generator: The generator of random numbers; it is on the CPU, and the same on all ranks.
    """

    values: Sequence[Tensor]
    gradients: Sequence[Tensor]
    tilings: Sequence[Tiling]
    generator: torch.Generator

    def pool(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Returns the means over the units: (O, I, K...) -> (U...) for each weight."""
        pairs = zip(self.tilings, values, strict=True)
        return [tiling.pool(value) / tiling.weights_per_unit for tiling, value in pairs]


class Saliency(Protocol):
    """Gives each unit a score; units of higher score are kept."""

    @property
    def needs_gradient(self) -> bool:
        """Whether it uses `SaliencyInputs.gradients`."""

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the scores of all units, (U...) for each weight."""


@dataclass(frozen=True)
class RandomSaliency:
    """Scores units by random numbers, so that masks are random."""

    needs_gradient = False

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns uniform random numbers in [0, 1), (U...) for each weight."""
        pairs = zip(inputs.tilings, inputs.values, strict=True)
        return [torch.rand(t.units_shape, generator=inputs.generator).to(value.device) for t, value in pairs]


@dataclass(frozen=True)
class MagnitudeSaliency:
    """Scores units by the mean of |w|."""

    needs_gradient = False

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the mean magnitudes, (U...) for each weight."""
        return inputs.pool([value.abs() for value in inputs.values])


@dataclass(frozen=True)
class GradientSaliency:
    """Scores units by the mean of |dL/dw|: how fast a weight would grow from zero."""

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the mean magnitudes of gradients, (U...) for each weight."""
        return inputs.pool([gradient.abs() for gradient in inputs.gradients])


@dataclass(frozen=True)
class ConnectionSensitivity:
    """Scores units by the mean of |w dL/dw|: how much the loss would change without a weight, to first order.

    This is the connection sensitivity of SNIP (https://arxiv.org/abs/1810.02340, Equation 5), without its division by
    the sum of all, which does not change the order.
    """

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the mean sensitivities, (U...) for each weight."""
        return inputs.pool([(w * g).abs() for w, g in zip(inputs.values, inputs.gradients, strict=True)])


@dataclass(frozen=True)
class MagnitudeAndGradientSaliency:
    """Scores units by |w| + lambda |dL/dw|, by which MEST (https://arxiv.org/abs/2110.14032) drops weights.

    Both are divided by their means over the layer first: that is our decision, since the size of a gradient depends on
    that of the loss and, with a gradient scaler, on its scale.

    Args:
        gradient_weight: lambda, the weight of the gradient.
    """

    gradient_weight: float = 1.0

    needs_gradient = True

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the weighted sums, (U...) for each weight."""
        pairs = zip(MagnitudeSaliency()(inputs), GradientSaliency()(inputs), strict=True)
        return [_normalised(w) + self.gradient_weight * _normalised(g) for w, g in pairs]


def _normalised(scores: Tensor) -> Tensor:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


_OLD_NAMES = {
    "Gradient": "GradientSaliency",
    "Magnitude": "MagnitudeSaliency",
    "MagnitudeAndGradient": "MagnitudeAndGradientSaliency",
    "Random": "RandomSaliency",
    "Score": "Saliency",
    "Seen": "SaliencyInputs",
    "Sensitivity": "ConnectionSensitivity",
}


def __getattr__(name: str) -> Any:
    """Returns a class by the name that it had in an earlier version, with a warning."""
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"{__name__}.{name} is an old name, which the next release will not know. Write {_OLD_NAMES[name]}."
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[_OLD_NAMES[name]]
