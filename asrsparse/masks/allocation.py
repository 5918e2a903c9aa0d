"""How a density is distributed over the weights of a model: one setting for all methods.

An allocation picks units by their scores: a method gives the scores (magnitudes, gradients, logits, random numbers),
and the allocation says how many units are kept in each weight. Lists have an item for each weight, in one order.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asrsparse.masks.weights import Weight

_SAMPLE_SIZE = 2**17  # scores that stand for all of them in a quantile: an error of 0.15 % of density
_ROUNDING = 1e-9
_NUM_SHOWN = 8  # names in a warning

logger = logging.getLogger(__name__)


class Allocation(ABC):
    """Picks the units that a density leaves."""

    @abstractmethod
    def choose(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Returns the units of highest score, bool, for each weight (U...); True = keep.

        Args:
            weights: The masked weights.
            scores: The scores of the units, for each weight (U...); minus infinity for units that must not be kept.
            density: The share of the parameters to keep, in (0, 1].
        """

    @abstractmethod
    def thresholds(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Returns the scores above which units stay, estimated from a sample; they broadcast to the scores."""

    def check(self, weights: Sequence[Weight], density: float) -> None:  # noqa: B027 (nothing to check by default)
        """Checks before training whether the density can be reached.

        Raises:
            ValueError: If it cannot.
        """


@dataclass(frozen=True)
class Global(Allocation):
    """Keeps the highest scores of the whole model, wherever they are."""

    def choose(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Ranks the units of all weights together; each unit uses up as much of the density as it has parameters."""
        flat = torch.cat([tensor.flatten() for tensor in scores])
        if len({weight.parameters_per_unit for weight in weights}) == 1:
            kept = _highest(flat, density)
        else:
            kept = _highest_of_sizes(flat, _sizes(weights, scores), density)
        parts = torch.split(kept, [tensor.numel() for tensor in scores])
        return [part.view_as(tensor) for part, tensor in zip(parts, scores, strict=True)]

    def thresholds(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Returns one threshold for all weights, 0-d tensors."""
        if len({weight.parameters_per_unit for weight in weights}) == 1:
            return [_lowest_kept(scores, density)] * len(scores)
        flat = torch.cat([tensor.flatten() for tensor in scores])
        dropped = ~_highest_of_sizes(flat, _sizes(weights, scores), density)
        threshold = flat[dropped].max() if dropped.any() else flat.new_zeros(())
        return [threshold] * len(scores)


class Layerwise(Allocation):
    """Gives each weight a density of its own."""

    @abstractmethod
    def densities(self, weights: Sequence[Weight], density: float) -> list[float]:
        """Returns the density of each weight, so that all together keep `density` of the parameters."""

    def choose(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Ranks the units within each weight."""
        shares = self.densities(weights, density)
        return [_highest(tensor, share) for tensor, share in zip(scores, shares, strict=True)]

    def thresholds(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Returns a threshold for each weight, 0-d tensors."""
        shares = self.densities(weights, density)
        return [_lowest_kept([tensor], share) for tensor, share in zip(scores, shares, strict=True)]

    def check(self, weights: Sequence[Weight], density: float) -> None:
        """Checks that each weight keeps one unit at least.

        Raises:
            ValueError: If one does not.
        """
        for weight, share in zip(weights, self.densities(weights, density), strict=True):
            if round(share * weight.num_units) < 1:
                raise ValueError(
                    f"density: got {density:g}, with which {type(self).__name__} leaves {weight.name} none of its "
                    f"{weight.num_units} units (its share is {share:.3g}); allowed is one unit at least. Use a higher "
                    "density, another allocation, or exclude the layer."
                )


@dataclass(frozen=True)
class Uniform(Layerwise):
    """Gives every weight the same density."""

    def densities(self, weights: Sequence[Weight], density: float) -> list[float]:
        """Returns `density` for each weight."""
        return [density] * len(weights)


@dataclass(frozen=True)
class ErdosRenyi(Layerwise):
    """Makes wide layers sparser: the density of a weight is proportional to sum(sizes) / product(sizes), at most 1.

    SET (https://arxiv.org/abs/1707.04780, its initial random graph) counts inputs and outputs (ER), RigL
    (https://arxiv.org/abs/1911.11134, "Sparsity distribution") the kernel too (ERK). Weights that would need more than
    all their connections are dense, and the others make up for it.

    Args:
        kernel: Whether the sizes of a convolution's kernel count (ERK), or inputs and outputs alone (ER).

    Example:
        >>> from asrsparse.masks.weights import find_weights
        >>> model = torch.nn.Sequential(torch.nn.Linear(100, 400), torch.nn.Linear(400, 100), torch.nn.Linear(100, 10))
        >>> [round(share, 3) for share in ErdosRenyi().densities(find_weights(model), density=0.1)]
        [0.091, 0.091, 0.803]
    """

    kernel: bool = True

    def densities(self, weights: Sequence[Weight], density: float) -> list[float]:
        """Returns the densities by the factor that keeps `density` of all parameters."""
        raw = [self._raw(weight) for weight in weights]
        sizes = [weight.size for weight in weights]
        dense = [False] * len(weights)
        while True:
            left = density * sum(sizes) - sum(size for size, full in zip(sizes, dense, strict=True) if full)
            unit = sum(share * size for share, size, full in zip(raw, sizes, dense, strict=True) if not full)
            factor = left / unit if unit else 0.0
            shares = [1.0 if full else factor * share for share, full in zip(raw, dense, strict=True)]
            if max(shares) <= 1.0 + _ROUNDING:
                return [min(share, 1.0) for share in shares]
            dense = [full or share == max(shares) for share, full in zip(shares, dense, strict=True)]

    def _raw(self, weight: Weight) -> float:
        shape, kind = weight.tiling.shape, weight.layer_type
        sizes = shape if self.kernel else (shape[kind.output_axis], shape[kind.input_axis])
        return sum(sizes) / math.prod(sizes)


@dataclass(frozen=True)
class ByPattern(Layerwise):
    """Takes densities by the names of weights; the weights that no pattern matches share evenly what is left.

    Args:
        given: Patterns on names (see `weights.select`) to densities in (0, 1]; the first that matches counts.

    Raises:
        ValueError: If a density is outside its range.
    """

    given: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pattern, density in self.given.items():
            if not 0.0 < density <= 1.0:
                raise ValueError(f"given: got {pattern!r}: {density}, allowed is a density in (0, 1].")

    def densities(self, weights: Sequence[Weight], density: float) -> list[float]:
        """Returns the given densities, and for the other weights the one density that is left.

        Raises:
            ValueError: If a pattern matches no weight, or the rest cannot make up for what is given.
        """
        given = [self._of(weight) for weight in weights]
        self._require_matches(weights)
        fixed = sum(share * weight.size for share, weight in zip(given, weights, strict=True) if share is not None)
        free = sum(weight.size for share, weight in zip(given, weights, strict=True) if share is None)
        total = sum(weight.size for weight in weights)
        rest = (density * total - fixed) / free if free else density
        off = abs(fixed - density * total) > 0.01 * density * total if not free else not 0.0 < rest <= 1.0 + _ROUNDING
        if off:
            raise ValueError(
                f"density and given: got density={density:g} over all masked weights and {dict(self.given)}; these "
                f"leave {f'{rest:.3g} for the others' if free else f'{fixed / total:.3g} over all'}, allowed is "
                f"{'a share in (0, 1]' if free else f'density={fixed / total:.3g}'}. Change one of them."
            )
        return [min(rest, 1.0) if share is None else share for share in given]

    def _of(self, weight: Weight) -> float | None:
        return next((share for pattern, share in self.given.items() if weight.matches(pattern)), None)

    def _require_matches(self, weights: Sequence[Weight]) -> None:
        for pattern in self.given:
            if not any(weight.matches(pattern) for weight in weights):
                names = ", ".join(weight.name for weight in weights)
                raise ValueError(f"given: got {pattern!r}, which matches no masked weight. Weights: {names}.")


@dataclass(frozen=True)
class NM(Allocation):
    """Keeps at most n of each m neighbours along the input axis (2:4 runs on the sparse tensor cores of GPUs).

    At a density above n/m, as at the beginning of a gradual method, a whole number of each m still is kept; below it,
    as in the moment between dropping and growing, the lowest of the rest go, wherever they are.

    Args:
        n: The number of weights that are kept of each m neighbours.
        m: The number of neighbours in a group.

    Raises:
        ValueError: If not 1 <= n < m.

    Example:
        >>> from asrsparse.masks.weights import find_weights
        >>> weights = find_weights(torch.nn.Linear(4, 2))
        >>> NM(2, 4).choose(weights, [torch.tensor([[1.0, 3.0, 2.0, 0.0], [9.0, 8.0, 7.0, 6.0]])], density=0.5)[0].int()
        tensor([[0, 1, 1, 0],
                [1, 1, 0, 0]], dtype=torch.int32)
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise ValueError(f"n and m: got {self.n}:{self.m}, allowed is 1 <= n < m, as in 2:4.")

    def choose(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Ranks within each m neighbours, then within the weight if more than `density` are left."""
        pairs = zip(weights, scores, strict=True)
        return [self._choose(tensor, density, weight.layer_type.input_axis) for weight, tensor in pairs]

    def thresholds(self, weights: Sequence[Weight], scores: Sequence[Tensor], density: float) -> list[Tensor]:
        """Returns a threshold for each m neighbours, for each weight (U...)."""
        count, found = self._per_group(density), []
        for weight, tensor in zip(weights, scores, strict=True):
            axis = weight.layer_type.input_axis
            lower = _next_lower(self._groups(tensor, axis), count)
            found.append(self._ungroup(lower.expand(*lower.shape[:-1], self.m), tensor, axis))
        return found

    def check(self, weights: Sequence[Weight], density: float) -> None:
        """Checks that m divides the input axis of each weight, and that the density is n/m.

        Raises:
            ValueError: If not.
        """
        for weight in weights:
            inputs = weight.tiling.units_shape[weight.layer_type.input_axis]
            if inputs % self.m:
                raise ValueError(
                    f"n and m: got {self.n}:{self.m} for {weight.name} with {inputs} inputs; allowed is a number that "
                    f"{self.m} divides. Leave the layer out: exclude=[{weight.name!r}, ...]."
                )
        if abs(density - self.n / self.m) > _ROUNDING:
            raise ValueError(
                f"density: got {density:g} with {self.n}:{self.m}, allowed is density={self.n / self.m:g}. "
                "Change one of them."
            )

    def _choose(self, scores: Tensor, density: float, axis: int) -> Tensor:
        groups = self._groups(scores, axis)
        best = groups.topk(self._per_group(density), dim=-1).indices
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True)
        kept = self._ungroup(kept, scores, axis) & (scores > -math.inf)
        if density > self.n / self.m - _ROUNDING:
            return kept
        return kept & _highest(scores.masked_fill(~kept, -math.inf), density)

    def _per_group(self, density: float) -> int:
        return max(self.n, math.ceil(self.m * density - _ROUNDING))

    def _groups(self, scores: Tensor, axis: int) -> Tensor:
        """Returns the m neighbours along the axis of the inputs as a last one: (O, I, K...) -> (O, K..., I / m, m)."""
        last = scores.movedim(axis, -1)
        return last.reshape(*last.shape[:-1], -1, self.m)

    def _ungroup(self, groups: Tensor, like: Tensor, axis: int) -> Tensor:
        """Returns the values of `_groups` in the order and shape of the scores: (O, K..., I / m, m) -> (O, I, K...)."""
        return groups.flatten(-2).movedim(-1, axis).reshape(like.shape)


def warn_of_emptied(weights: Sequence[Weight], before: Sequence[Tensor], now: Sequence[Tensor]) -> None:
    """Warns of weights of which no unit is left, by name: one ranking of all may leave a layer nothing.

    Args:
        weights: The masked weights.
        before: The masks before a choice, bool, (U...) for each weight.
        now: The masks after it.
    """
    triples = zip(weights, before, now, strict=True)
    emptied = [weight.name for weight, was, is_now in triples if was.any() and not is_now.any()]
    if emptied:
        logger.warning(
            "allocation: %d of %d masked weights have nothing left: %s%s. Their layers give the same for any input. "
            "Use ErdosRenyi or Uniform in place of Global, a higher density, or exclude these weights.",
            len(emptied),
            len(weights),
            ", ".join(emptied[:_NUM_SHOWN]),
            f" and {len(emptied) - _NUM_SHOWN} more" if len(emptied) > _NUM_SHOWN else "",
        )


def highest(scores: Tensor, count: int) -> Tensor:
    """Returns the `count` highest scores, bool: never minus infinity, and of equal ones an arbitrary choice."""
    flat = scores.flatten()
    kept = torch.zeros_like(flat, dtype=torch.bool)
    if count == flat.numel():
        return torch.ones_like(scores, dtype=torch.bool) & (scores > -math.inf)
    kept[flat.topk(count, sorted=False).indices] = True
    return (kept & (flat > -math.inf)).view_as(scores)


def _highest(scores: Tensor, density: float) -> Tensor:
    return highest(scores, round(density * scores.numel()))


def _highest_of_sizes(scores: Tensor, sizes: Tensor, density: float) -> Tensor:
    """Returns the highest scores whose sizes add up to `density` of all sizes, bool; at least one."""
    order = scores.argsort(descending=True, stable=True)
    fits = sizes[order].cumsum(0) <= density * sizes.sum() * (1.0 + _ROUNDING)
    fits[0] = True
    return torch.zeros_like(fits).scatter_(0, order, fits) & (scores > -math.inf)


def _sizes(weights: Sequence[Weight], scores: Sequence[Tensor]) -> Tensor:
    """Returns the number of parameters of each unit, weight after weight, float64 (number of all units,)."""
    pairs = zip(weights, scores, strict=True)
    return torch.cat([torch.full_like(s.flatten(), w.parameters_per_unit, dtype=torch.float64) for w, s in pairs])


def _lowest_kept(scores: Sequence[Tensor], density: float) -> Tensor:
    """Returns the score above which lies a share `density` of all of them, from an even sample, as a 0-d tensor."""
    stride = math.ceil(sum(tensor.numel() for tensor in scores) / _SAMPLE_SIZE)
    stride |= 1  # odd, so that the sample visits all rows and columns, whose number mostly is a power of two
    sample = torch.cat([tensor.flatten()[::stride] for tensor in scores])
    rank = round((1.0 - density) * sample.numel())
    return sample.kthvalue(rank).values if rank > 0 else sample.new_zeros(())


def _next_lower(groups: Tensor, count: int) -> Tensor:
    """Returns the highest score that is not among the `count` highest of each group, else 0: (..., m) -> (..., 1)."""
    if count == groups.shape[-1]:
        return groups.new_zeros((*groups.shape[:-1], 1))
    return groups.topk(count + 1, dim=-1).values[..., -1:]
