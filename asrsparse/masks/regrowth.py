"""Regrown weights: weights that were dropped and are trained again from zero, as at the start of a training.

Their moments are zero (`moments.clear_moments`), but an optimiser counts the steps of a whole tensor, so that it would
take zero moments for those of a long training: Adam's first steps would be up to sqrt(1 / (1 - beta2)) times too long,
where beta2 is near 1 (SMET, https://arxiv.org/abs/2606.00888, finds loss spikes). Here they count their own steps, and
their learning rate warms up. That is done for any optimiser, also a fused one, after its step: what it changed in a
regrown weight is scaled.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
R regrown weights of one tensor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.sharding import is_sharded, join_like, local, part_of

_FADED = 0.95  # Adam's correction of its second moment, from which on a cohort is left to the optimiser alone


@dataclass
class _Cohort:
    """The weights of one tensor that were regrown in the same step.

    Attributes:
        number: The number of the tensor among the masked weights.
        indices: Their indices in the flattened weight, int64 (R,); with FSDP2, in this rank's part of it.
        before: The values that they had before the optimiser's next step, (R,).
        age: The number of optimiser steps since they were regrown.
    """

    number: int
    indices: Tensor
    before: Tensor
    age: int = 0

    def move_to(self, device: torch.device) -> None:
        """The model may move to another device after its masks were loaded."""
        self.indices, self.before = self.indices.to(device), self.before.to(device)


class HasParameter(Protocol):
    """What names a parameter of a model, which may be replaced: a masked `Weight`."""

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as it is now."""


class RegrownWeights:
    """The regrown weights that still warm up, in cohorts of the same age.

    Args:
        weights: The masked weights, or other parameters.
        warmup_steps: The optimiser steps in which the learning rate of a regrown weight rises linearly to its full
            value.
    """

    def __init__(self, weights: Sequence[HasParameter], warmup_steps: int) -> None:
        self._weights = weights
        self.warmup_steps = warmup_steps
        self._cohorts: list[_Cohort] = []

    @property
    def num_weights(self) -> int:
        """The number of weights that still warm up, in this rank's parts of the weights."""
        return sum(cohort.indices.numel() for cohort in self._cohorts)

    @torch.no_grad()
    def add(self, regrown: Sequence[Tensor]) -> None:
        """Adds regrown weights, with the values that they have now.

        Args:
            regrown: True for the weights to add, bool (O, I, K...) for each masked weight.
        """
        for number, added in enumerate(regrown):
            if added.any():
                indices = part_of(added, self._weights[number].parameter).flatten().nonzero().squeeze(1)
                self._cohorts.append(_Cohort(number, indices, self._values(number, indices)))

    def drop(self, dead: Sequence[Tensor]) -> None:
        """Removes weights that are dropped again; `dead` is True for them, bool (O, I, K...) for each masked weight."""
        for cohort in self._cohorts:
            cohort.move_to(dead[cohort.number].device)
            held = part_of(dead[cohort.number], self._parameter(cohort))
            alive = ~held.flatten()[cohort.indices]
            cohort.indices, cohort.before = cohort.indices[alive], cohort.before[alive]
        self._cohorts = [cohort for cohort in self._cohorts if self._may_matter(cohort)]

    def cut(self, places: Sequence[Tensor | None]) -> None:
        """Follows weights that have shrunk.

        Args:
            places: For each masked weight, where its entries stood in the flattened weight before, int64, of its new
                shape; None if it is as before.
        """
        for cohort in self._cohorts:
            if (kept := places[cohort.number]) is not None:
                now = torch.full((int(max(kept.max(), cohort.indices.max())) + 1,), -1)
                now[kept.flatten().cpu()] = torch.arange(kept.numel())
                moved = now.to(cohort.indices.device)[cohort.indices]
                cohort.indices, cohort.before = moved[moved >= 0], cohort.before[moved >= 0]
        self._cohorts = [cohort for cohort in self._cohorts if self._may_matter(cohort)]

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """Scales what the optimiser's last step changed in them; to be called after each step of the optimiser."""
        self._cohorts = [cohort for cohort in self._cohorts if self._step(cohort, optimizer)]

    def _step(self, cohort: _Cohort, optimizer: Optimizer) -> bool:
        """Returns whether they still warm up."""
        parameter = self._parameter(cohort)
        cohort.move_to(parameter.device)
        correction = _BiasCorrection.of(parameter, optimizer)
        cohort.age += 1
        warmup = min(1.0, cohort.age / max(self.warmup_steps, 1))
        after = self._values(cohort.number, cohort.indices)
        cohort.before = torch.lerp(cohort.before, after, warmup * correction.factor(cohort.age))
        local(parameter).view(-1)[cohort.indices] = cohort.before
        return cohort.age < self.warmup_steps or not correction.has_faded(cohort.age)

    def _parameter(self, cohort: _Cohort) -> nn.Parameter:
        return self._weights[cohort.number].parameter

    def _values(self, number: int, indices: Tensor) -> Tensor:
        return local(self._weights[number].parameter.detach()).flatten()[indices]

    def _may_matter(self, cohort: _Cohort) -> bool:
        """Returns whether any rank may hold weights of a cohort: all ranks keep the same list of cohorts."""
        return cohort.indices.numel() > 0 or is_sharded(self._parameter(cohort))

    def bind(self) -> None:
        """Uses this rank's parts of the weights from here on, after `fully_shard` has cut them up."""
        self._cohorts = [_part(cohort, self._parameter(cohort)) for cohort in self._cohorts]

    def state_dict(self) -> dict[str, Any]:
        """Returns the cohorts of whole weights: tensors and plain numbers. All ranks must call this."""
        whole = [_whole(cohort, self._parameter(cohort)) for cohort in self._cohorts]
        return {"cohorts": [[c.number, c.indices, c.before, c.age] for c in whole if c.indices.numel()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; the weights may be loaded before or after."""
        self._cohorts = [_Cohort(*cohort) for cohort in state["cohorts"]]
        self.bind()


def _part(cohort: _Cohort, parameter: nn.Parameter) -> _Cohort:
    """Returns the weights of a cohort that are in this rank's part."""
    if not is_sharded(parameter):
        return cohort
    is_in = part_of(_spread(cohort.indices, torch.ones_like(cohort.before), parameter.shape), parameter)
    before = part_of(_spread(cohort.indices, cohort.before, parameter.shape), parameter)
    return _picked(cohort, is_in, before)


def _whole(cohort: _Cohort, parameter: nn.Parameter) -> _Cohort:
    """Returns the cohort of the whole weight of which this rank has a part."""
    if not is_sharded(parameter):
        return cohort
    shape = local(parameter.detach()).shape
    is_in = join_like(_spread(cohort.indices, torch.ones_like(cohort.before), shape), parameter)
    before = join_like(_spread(cohort.indices, cohort.before, shape), parameter)
    return _picked(cohort, is_in, before)


def _spread(indices: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Returns a tensor with the values at their indices, and zero elsewhere."""
    return values.new_zeros(shape.numel()).index_copy_(0, indices, values).view(shape)


def _picked(cohort: _Cohort, is_in: Tensor, before: Tensor) -> _Cohort:
    indices = is_in.flatten().nonzero().squeeze(1)
    return _Cohort(cohort.number, indices, before.flatten()[indices], cohort.age)


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
    def of(cls, parameter: nn.Parameter, optimizer: Optimizer) -> "_BiasCorrection":
        """Returns the correction that the optimiser makes for this parameter."""
        state = optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in state or "step" not in state:
            return cls()
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        return cls(float(state["step"]), *(float(beta) for beta in group["betas"]))

    def factor(self, age: int) -> float:
        """Returns the step due to moments of `age` steps, divided by the step that the optimiser takes at its t."""
        first = (1.0 - self.beta1**self.steps) / (1.0 - self.beta1**age)
        second = (1.0 - self.beta2**age) / (1.0 - self.beta2**self.steps)
        return float(first * math.sqrt(second))

    def has_faded(self, age: int) -> bool:
        """Returns whether moments of this age need hardly any correction."""
        return self.beta2**age < 1.0 - _FADED**2
