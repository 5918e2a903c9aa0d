"""Regrown weights: weights that were dropped and are trained again from zero, as at the start of a training.

Their moments are zero (`moments.clear_moments`), but an optimiser counts the steps of a whole tensor, so that it would
take zero moments for those of a long training: Adam's first steps would be up to sqrt(1 / (1 - beta2)) times too long,
where beta2 is near 1 (SMET, https://arxiv.org/abs/2606.00888, finds loss spikes). Here they count their own steps, and
their learning rate warms up. That is done for any optimiser, also a fused one, after its step: what it changed in a
regrown weight is scaled.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
R regrown weights of one tensor, of any age.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.sharding import is_sharded, join_like, local, part_of

_FADED = 0.95  # Adam's correction of its second moment, from which on regrown weights are left to the optimiser alone
_UNKNOWN = 2**30  # more steps than a training has


@dataclass
class _Regrown:
    """The regrown weights of one tensor that still warm up: one entry, however often some were added.

    Attributes:
        number: The number of the tensor among the masked weights.
        indices: Their indices in the flattened weight, int64 (R,); with FSDP2, in this rank's part of it.
        before: The values that they had before the optimiser's next step, (R,).
        ages: The optimiser steps since each was regrown, int32 (R,); they stop one after the last that matters.
        youngest: The least of them, the same on all ranks.
        last: The age at which a weight is scaled for the last time; it is known after a step.
    """

    number: int
    indices: Tensor
    before: Tensor
    ages: Tensor
    youngest: int = 0
    last: int = _UNKNOWN

    def move_to(self, device: torch.device) -> None:
        """The model may move to another device after its masks were loaded."""
        self.indices, self.before, self.ages = (t.to(device) for t in (self.indices, self.before, self.ages))

    def keep(self, kept: Tensor) -> None:
        """Removes the others; `kept` is bool (R,)."""
        self.indices, self.before, self.ages = self.indices[kept], self.before[kept], self.ages[kept]

    def extend(self, added: "_Regrown") -> None:
        """Adds younger ones, and removes those that are no longer scaled."""
        self.move_to(added.indices.device)
        self.keep(self.ages <= self.last)
        self.indices = torch.cat([self.indices, added.indices])
        self.before = torch.cat([self.before, added.before])
        self.ages = torch.cat([self.ages, added.ages])
        self.youngest = min(self.youngest, added.youngest)


class HasParameter(Protocol):
    """What names a parameter of a model, which may be replaced: a masked `Weight`."""

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as it is now."""


class RegrownWeights:
    """The regrown weights that still warm up.

    Args:
        weights: The masked weights, or other parameters.
        warmup_steps: The optimiser steps in which the learning rate of a regrown weight rises linearly to its full
            value.
    """

    def __init__(self, weights: Sequence[HasParameter], warmup_steps: int) -> None:
        self._weights = weights
        self.warmup_steps = warmup_steps
        self._regrown: dict[int, _Regrown] = {}

    @property
    def num_weights(self) -> int:
        """The number of weights that still warm up, in this rank's parts of the weights."""
        return sum(each.indices.numel() for each in self._regrown.values())

    @torch.no_grad()
    def add(self, regrown: Sequence[Tensor]) -> None:
        """Adds regrown weights, with the values that they have now.

        Args:
            regrown: True for the weights to add, bool (O, I, K...) for each masked weight.
        """
        for number, added in enumerate(regrown):
            if added.any():
                indices = part_of(added, self._weights[number].parameter).flatten().nonzero().squeeze(1)
                ages = torch.zeros_like(indices, dtype=torch.int32)
                self._insert(_Regrown(number, indices, self._values(number, indices), ages))

    def drop(self, dead: Sequence[Tensor]) -> None:
        """Removes weights that are dropped again; `dead` is True for them, bool (O, I, K...) for each masked weight."""
        for each in self._regrown.values():
            each.move_to(dead[each.number].device)
            held = part_of(dead[each.number], self._parameter(each))
            each.keep(~held.flatten()[each.indices])
        self._regrown = {number: each for number, each in self._regrown.items() if self._may_matter(each)}

    def cut(self, places: Sequence[Tensor | None]) -> None:
        """Follows weights that have shrunk.

        Args:
            places: For each masked weight, where its entries stood in the flattened weight before, int64, of its new
                shape; None if it is as before.
        """
        for each in self._regrown.values():
            if (kept := places[each.number]) is not None:
                now = torch.full((int(max(kept.max(), each.indices.max())) + 1,), -1)
                now[kept.flatten().cpu()] = torch.arange(kept.numel())
                moved = now.to(each.indices.device)[each.indices]
                each.keep(moved >= 0)
                each.indices = moved[moved >= 0]
        self._regrown = {number: each for number, each in self._regrown.items() if self._may_matter(each)}

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """Scales what the optimiser's last step changed in them; to be called after each step of the optimiser.

        Weights that are frozen meanwhile do not get older.
        """
        if self._regrown:
            factors = _Factors(optimizer, self.warmup_steps)
            self._regrown = {number: each for number, each in self._regrown.items() if self._step(each, factors)}

    def _step(self, each: _Regrown, factors: "_Factors") -> bool:
        """Returns whether any of them still warm up."""
        parameter = self._parameter(each)
        if not parameter.requires_grad:
            return True
        each.move_to(parameter.device)
        by_age = factors.of(parameter)
        each.last = len(by_age) - 2
        each.youngest += 1
        each.ages.add_(1).clamp_(max=len(by_age) - 1)
        after = self._values(each.number, each.indices)
        each.before = _interpolated(each.before, after, by_age.index_select(0, each.ages))
        _write(local(parameter), each.indices, each.before)
        return each.youngest < each.last

    def _insert(self, added: _Regrown) -> None:
        if added.number in self._regrown:
            self._regrown[added.number].extend(added)
        else:
            self._regrown[added.number] = added

    def _parameter(self, each: _Regrown) -> nn.Parameter:
        return self._weights[each.number].parameter

    def _values(self, number: int, indices: Tensor) -> Tensor:
        return local(self._weights[number].parameter.detach()).flatten()[indices]

    def _may_matter(self, each: _Regrown) -> bool:
        """Returns whether any rank may hold regrown weights of a tensor: all ranks keep the same tensors."""
        return each.indices.numel() > 0 or is_sharded(self._parameter(each))

    def bind(self) -> None:
        """Uses this rank's parts of the weights from here on, after `fully_shard` has cut them up."""
        self._regrown = {number: _part(each, self._parameter(each)) for number, each in self._regrown.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the regrown weights of whole tensors, and their ages. All ranks must call this."""
        whole = [_whole(each, self._parameter(each)) for each in self._regrown.values()]
        return {"cohorts": [[w.number, w.indices, w.before, w.ages] for w in whole if w.indices.numel()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; the weights may be loaded before or after.

        In checkpoints of earlier versions a tensor has several items, each with one age.
        """
        self._regrown = {}
        for number, indices, before, age in state["cohorts"]:
            ages = age.clone() if isinstance(age, Tensor) else torch.full_like(indices, age, dtype=torch.int32)
            self._insert(_Regrown(number, indices, before, ages, youngest=int(ages.min())))
        self.bind()


def _interpolated(before: Tensor, after: Tensor, factors: Tensor) -> Tensor:
    """Returns before + factors (after - before), (R,) each, computed in float32 at least."""
    precise = torch.promote_types(before.dtype, torch.float32)
    return torch.lerp(before.to(precise), after.to(precise), factors.to(precise)).to(before.dtype)


def _write(weight: Tensor, indices: Tensor, values: Tensor) -> None:
    """Writes values (R,) into a weight at indices of its flattened elements, in whatever order memory has them."""
    flat = weight.reshape(-1)  # of the same memory, if the order there is that of the axes
    flat[indices] = values
    if not weight.is_contiguous():
        weight.copy_(flat.view(weight.shape))


def _part(each: _Regrown, parameter: nn.Parameter) -> _Regrown:
    """Returns the regrown weights that are in this rank's part."""
    if not is_sharded(parameter):
        return each
    ages = part_of(_spread(each.indices, each.ages + 1, parameter.shape), parameter)
    before = part_of(_spread(each.indices, each.before, parameter.shape), parameter)
    return _picked(each, ages, before)


def _whole(each: _Regrown, parameter: nn.Parameter) -> _Regrown:
    """Returns the regrown weights of the whole tensor of which this rank has a part."""
    if not is_sharded(parameter):
        return each
    shape = local(parameter.detach()).shape
    ages = join_like(_spread(each.indices, each.ages + 1, shape), parameter)
    before = join_like(_spread(each.indices, each.before, shape), parameter)
    return _picked(each, ages, before)


def _spread(indices: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Returns a tensor with the values at their indices, and zero elsewhere."""
    return values.new_zeros(shape.numel()).index_copy_(0, indices, values).view(shape)


def _picked(each: _Regrown, ages: Tensor, before: Tensor) -> _Regrown:
    """Returns the regrown weights from tensors of the weight's shape, one more than their ages, and their values."""
    indices = ages.flatten().nonzero().squeeze(1)
    return replace(each, indices=indices, before=before.flatten()[indices], ages=ages.flatten()[indices] - 1)


class _Factors:
    """The factors on the optimiser's last step, by the age of a regrown weight.

    Args:
        optimizer: The optimiser.
        warmup_steps: The steps in which a learning rate rises.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int) -> None:
        self._optimizer = optimizer
        self.warmup_steps = warmup_steps
        self._groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        self._by_correction: dict[_BiasCorrection, Tensor] = {}  # most parameters have taken the same steps

    def of(self, parameter: nn.Parameter) -> Tensor:
        """Returns the factors for the ages 0, 1, ... until one after the last that needs one, which is 1."""
        state, group = self._optimizer.state.get(parameter, {}), self._groups.get(id(parameter), {})
        correction = _BiasCorrection.of(state, group)
        if correction not in self._by_correction:
            self._by_correction[correction] = correction.factors(self.warmup_steps)
        by_age = self._by_correction[correction]
        return by_age.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))


@dataclass(frozen=True)
class _BiasCorrection:
    """The division of Adam's moments by 1 - beta^t (https://arxiv.org/abs/1412.6980, Algorithm 1).

    The defaults stand for an optimiser without such a correction.

    Attributes:
        steps: The number of steps t that the optimiser counts.
        beta1: The decay of the first moment.
        beta2: The decay of the second moment.
    """

    steps: float = math.inf
    beta1: float = 0.0
    beta2: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Any], group: Mapping[str, Any]) -> "_BiasCorrection":
        """Returns the correction that an optimiser makes for a parameter with this state, in this group."""
        if "exp_avg_sq" not in state or "betas" not in group or not float(state.get("step", 0.0)):
            return cls()
        return cls(float(state["step"]), *(float(beta) for beta in group["betas"]))

    def factors(self, warmup_steps: int) -> Tensor:
        """Returns the warm-up times the step due to moments of that age, divided by the step that the optimiser takes.

        Returns:
            The factors for the ages from 0 on, float64; the last is 1, for all ages that follow.
        """
        ages = torch.arange(1, self._last_age(warmup_steps) + 1, dtype=torch.float64)
        first = (1.0 - self.beta1**self.steps) / (1.0 - self.beta1**ages)
        second = (1.0 - self.beta2**ages) / (1.0 - self.beta2**self.steps)
        warmup = (ages / max(warmup_steps, 1)).clamp(max=1.0)
        ends = ages.new_tensor([0.0]), ages.new_tensor([1.0])
        return torch.cat([ends[0], warmup * first * second.sqrt(), ends[1]])

    def _last_age(self, warmup_steps: int) -> int:
        """Returns the age from which on moments need hardly any correction, and the warm-up is over."""
        faded = math.floor(math.log(1.0 - _FADED**2) / math.log(self.beta2)) + 1 if self.beta2 > 0.0 else 1
        return max(faded, warmup_steps, 1)
