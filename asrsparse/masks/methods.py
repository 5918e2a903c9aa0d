"""The methods of the literature: each is `BinaryMask` with other defaults, and may take either exit.

method         first masks   dropped by      regrown by  density       from a given share of training to another
RandomMask     random                                    constant      0 to 1
SNIP           |w g|                                     constant      0 to 1
MagnitudeMask  |w|                                       constant      0.25 to 1
GMP            (dense)       |w|                         cubic         0.25 to 0.75
SET            random        |w|             random      constant      0 to 1
MEST           random        |w| and |g|     random      constant      0 to 1
RigL           random        |w|             |g|         constant      0 to 0.75
GraNet         (dense)       |w|             |g|         cubic         0 to 0.75

SNIP, GMP and GraNet rank the weights of all layers together; the others give layers their densities by ERK.
`docs/differences.md` compares each with the public code of its authors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asrsparse.masks.allocation import Allocation, Global, highest
from asrsparse.masks.binary import BinaryMask
from asrsparse.masks.saliency import (
    ConnectionSensitivity,
    GradientSaliency,
    MagnitudeAndGradientSaliency,
    MagnitudeSaliency,
    Saliency,
    SaliencyInputs,
)
from asrsparse.masks.weights import Weight
from asrsparse.schedules import Constant, Cosine, Schedule


@dataclass(frozen=True, kw_only=True)
class RandomMask(BinaryMask):
    """Random masks that stay as they are (https://arxiv.org/abs/2202.02643)."""


@dataclass(frozen=True, kw_only=True)
class SNIP(BinaryMask):
    """Keeps the weights to which the loss is most sensitive at the start (https://arxiv.org/abs/1810.02340).

    The gradient is that of the first step, which is made with all weights.
    """

    first: Saliency = field(default_factory=ConnectionSensitivity)
    allocation: Allocation = field(default_factory=Global)


@dataclass(frozen=True, kw_only=True)
class MagnitudeMask(BinaryMask):
    """One-shot magnitude pruning: from `start` on, the weights that are largest then stay."""

    first: Saliency = field(default_factory=MagnitudeSaliency)
    start: float = 0.25


@dataclass(frozen=True, kw_only=True)
class GMP(BinaryMask):
    """Gradual magnitude pruning (https://arxiv.org/abs/1710.01878), from 25 % to 75 % of training.

    The schedule of the density is Equation 1 of that paper; the times are those of https://arxiv.org/abs/2501.12486.
    Magnitudes of all layers are ranked together, as by `GMP` in the public code of GraNet; `allocation=Uniform()` is
    its `GMP_uniform`, but for the classifier, which it treats apart.
    """

    first: Saliency = field(default_factory=MagnitudeSaliency)
    allocation: Allocation = field(default_factory=Global)
    initial_density: float | None = 1.0
    every: float | None = 0.01
    start: float = 0.25
    until: float = 0.75


@dataclass(frozen=True, kw_only=True)
class SET(BinaryMask):
    """Replaces the smallest weights by random ones, again and again (https://arxiv.org/abs/1707.04780)."""

    replaced_share: Schedule = field(default_factory=lambda: Constant(0.3))
    every: float | None = 0.02


@dataclass(frozen=True, kw_only=True)
class RigL(BinaryMask):
    """Replaces the smallest weights by those of the largest gradient, ever fewer (https://arxiv.org/abs/1911.11134)."""

    grow: Saliency = field(default_factory=GradientSaliency)
    replaced_share: Schedule = field(default_factory=lambda: Cosine(0.3))
    every: float | None = 0.02
    until: float = 0.75


@dataclass(frozen=True, kw_only=True)
class MEST(BinaryMask):
    """Replaces weights of small magnitude and gradient by random ones, ever fewer (https://arxiv.org/abs/2110.14032).

    This is the paper's elastic mutation; its soft memory bound, which grows before it drops, is left out.
    """

    keep: Saliency = field(default_factory=MagnitudeAndGradientSaliency)
    replaced_share: Schedule = field(default_factory=lambda: Cosine(0.3))
    every: float | None = 0.02


@dataclass(frozen=True, kw_only=True)
class GraNet(BinaryMask):
    """Gradual pruning with regrowth by the largest gradient (GraNet, https://arxiv.org/abs/2106.10404).

    As in its public code, it prunes by one ranking of all layers, then replaces within each layer: half of what is left
    there at first.
    """

    allocation: Allocation = field(default_factory=Global)
    initial_density: float | None = 1.0
    grow: Saliency = field(default_factory=GradientSaliency)
    replaced_share: Schedule = field(default_factory=lambda: Cosine(0.5))
    every: float | None = 0.02
    until: float = 0.75

    def choose_again(
        self, weights: Sequence[Weight], inputs: SaliencyInputs, alive: Sequence[Tensor], progress: float
    ) -> list[Tensor]:
        """Returns the masks after those that are `alive` now: prunes by one ranking, then replaces in each layer."""
        if not isinstance(self.allocation, Global):  # others rank within each layer anyway
            return super().choose_again(weights, inputs, alive, progress)
        keep = [score.masked_fill(~mask, -torch.inf) for score, mask in zip(self.keep(inputs), alive, strict=True)]
        pruned = self.allocation.choose(weights, keep, self.density_at(progress))
        replaced = self.replaced_at(progress)
        if replaced == 0.0:
            return pruned
        return [_replace(*scores, replaced) for scores in zip(keep, self.grow(inputs), pruned, strict=True)]


def _replace(keep: Tensor, grow: Tensor, mask: Tensor, share: float) -> Tensor:
    """Returns the mask of one weight after a share of it was dropped by `keep`, and as much regrown by `grow`."""
    count = int(mask.sum())
    survivors = highest(keep.masked_fill(~mask, -torch.inf), count - math.ceil(share * count))
    return highest(grow.masked_fill(survivors, torch.inf), count)
