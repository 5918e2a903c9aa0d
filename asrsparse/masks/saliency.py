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
        sensitivities: The root mean squares, over the steps of the saliency's window, of the sums of w dL/dw over
            units, (U...) each; empty if the saliency has no window.
    """

    values: Sequence[Tensor]
    gradients: Sequence[Tensor]
    tilings: Sequence[Tiling]
    generator: torch.Generator
    sensitivities: Sequence[Tensor] = ()

    def pool(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Returns the means over the units: (O, I, K...) -> (U...) for each weight."""
        pairs = zip(self.tilings, values, strict=True)
        return [tiling.pool(value) / tiling.weights_per_unit for tiling, value in pairs]


class Saliency(Protocol):
    """Gives each unit a score; units of higher score are kept.

    One that uses `SaliencyInputs.sensitivities` also has the attribute `window`: the share of training, before the
    choice, over which their mean is taken; 0 for one step. It needs gradients.
    """

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
class TaylorSaliency:
    """Scores units by |sum of w dL/dw|: how much the loss would change without a unit, to first order.

    This is the importance of a structural set by Molchanov et al. (https://arxiv.org/abs/1906.10771, Section 3): the
    square of that sum, in its mean over many steps. Here the root is taken, and divided by the number of weights, as
    all scores are. The sum over the columns of a gate is exactly the derivative by a factor on all that the unit adds
    to the output, so that what feeds the unit counts, too.

    Args:
        window: The share of training, before the choice, over which the mean is taken; 0 for one step.

    Raises:
        ValueError: If it is not in [0, 1).
    """

    window: float = 0.05

    needs_gradient = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.window < 1.0:
            raise ValueError(f"window: got {self.window}, allowed is a share of training in [0, 1).")

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the root mean squares of the sums, divided by the weights of a unit, (U...) for each weight."""
        pairs = zip(inputs.tilings, inputs.sensitivities, strict=True)
        return [sensitivity / tiling.weights_per_unit for tiling, sensitivity in pairs]


@dataclass(frozen=True)
class RelativeSaliency:
    """Scores units by another saliency, divided by its mean in the same weight.

    A ranking over the whole model (`Global`) then compares units of different kinds and depths, of which some have
    larger weights than others. Within a weight the order stays. That division is our decision.

    Args:
        of: The saliency.
    """

    of: Saliency

    @property
    def needs_gradient(self) -> bool:
        """Whether the saliency uses gradients."""
        return self.of.needs_gradient

    @property
    def window(self) -> float | None:
        """The window of the saliency; None if it has none."""
        return window_of(self.of)

    def __call__(self, inputs: SaliencyInputs) -> list[Tensor]:
        """Returns the relative scores, (U...) for each weight."""
        return [_normalised(scores) for scores in self.of(inputs)]


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


def window_of(saliency: Saliency) -> float | None:
    """Returns the share of training over which a saliency wants sensitivities; None if it uses none."""
    window: float | None = getattr(saliency, "window", None)
    return window


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
