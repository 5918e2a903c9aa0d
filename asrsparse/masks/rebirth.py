"""Reborn weights: those that were dropped and are trained again, each as new as at the start of a training.

Their moments are zero (`moments.clear_moments`), but an optimiser counts the steps of a whole tensor, so that it would
take zero moments for those of a long training: Adam's first steps would be up to sqrt(1 / (1 - beta2)) times too long,
where beta2 is near 1 (SMET, https://arxiv.org/abs/2606.00888, finds loss spikes). Here they count their own steps, and
their learning rate warms up. That is done for any optimiser, also a fused one, after its step: what it changed in a
reborn weight is scaled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.weights import Weight

_FADED = 0.95  # Adam's correction of its second moment, from which on a cohort is left to the optimiser alone


@dataclass
class _Cohort:
    """Weights of one tensor that were reborn in the same step.

    Attributes:
        number: Of the weight.
        indices: Into the flattened weight, int64.
        before: The values that they had before the optimiser's next step.
        age: Optimiser steps since.
    """

    number: int
    indices: Tensor
    before: Tensor
    age: int = 0

    def move_to(self, device: torch.device) -> None:
        """The model may move to another device after its masks were loaded."""
        self.indices, self.before = self.indices.to(device), self.before.to(device)


class Reborn:
    """The weights that are still new, in cohorts of the same age.

    Args:
        weights: The masked weights.
        warmup_steps: Optimiser steps in which the pace of a reborn weight rises linearly to that of the others.
    """

    def __init__(self, weights: Sequence[Weight], warmup_steps: int) -> None:
        self._weights = weights
        self._warmup_steps = warmup_steps
        self._cohorts: list[_Cohort] = []

    @property
    def num_weights(self) -> int:
        """How many are still new."""
        return sum(cohort.indices.numel() for cohort in self._cohorts)

    @torch.no_grad()
    def add(self, born: Sequence[Tensor]) -> None:
        """Takes in new weights, with the values that they have.

        Args:
            born: Bool, one for each masked weight, of its shape.
        """
        for number, newborn in enumerate(born):
            indices = newborn.flatten().nonzero().squeeze(1)
            if indices.numel():
                self._cohorts.append(_Cohort(number, indices, self._values(number, indices)))

    def drop(self, dead: Sequence[Tensor]) -> None:
        """Forgets those that are dropped again; `dead` as in `add`."""
        for cohort in self._cohorts:
            cohort.move_to(dead[cohort.number].device)
            alive = ~dead[cohort.number].flatten()[cohort.indices]
            cohort.indices, cohort.before = cohort.indices[alive], cohort.before[alive]
        self._cohorts = [cohort for cohort in self._cohorts if cohort.indices.numel()]

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """Scales what the optimiser's last step changed in them; to be called after each."""
        for cohort in self._cohorts:
            self._step(cohort, optimizer)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.indices.numel()]

    def _step(self, cohort: _Cohort, optimizer: Optimizer) -> None:
        parameter = self._weights[cohort.number].parameter
        cohort.move_to(parameter.device)
        correction = _BiasCorrection.of(parameter, optimizer)
        cohort.age += 1
        warmup = min(1.0, cohort.age / max(self._warmup_steps, 1))
        after = self._values(cohort.number, cohort.indices)
        cohort.before = torch.lerp(cohort.before, after, warmup * correction.factor(cohort.age))
        parameter.view(-1)[cohort.indices] = cohort.before
        if cohort.age >= self._warmup_steps and correction.has_faded(cohort.age):
            cohort.indices, cohort.before = cohort.indices[:0], cohort.before[:0]

    def _values(self, number: int, indices: Tensor) -> Tensor:
        return self._weights[number].parameter.detach().flatten()[indices]

    def state_dict(self) -> dict[str, Any]:
        """The cohorts: tensors and plain numbers."""
        return {"cohorts": [[c.number, c.indices, c.before, c.age] for c in self._cohorts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken; the weights may be loaded before or after."""
        self._cohorts = [_Cohort(*cohort) for cohort in state["cohorts"]]


@dataclass(frozen=True)
class _BiasCorrection:
    """Adam's division of its moments by 1 - beta^t (https://arxiv.org/abs/1412.6980, Algorithm 1).

    The defaults are those of an optimiser without it.

    Attributes:
        steps: The optimiser's t.
        beta1: Of the first moment.
        beta2: Of the second moment.
    """

    steps: float = math.inf
    beta1: float = 0.0
    beta2: float = 0.0

    @classmethod
    def of(cls, parameter: nn.Parameter, optimizer: Optimizer) -> "_BiasCorrection":
        """As the optimiser does it for this parameter."""
        state = optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in state or "step" not in state:
            return cls()
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        return cls(float(state["step"]), *(float(beta) for beta in group["betas"]))

    def factor(self, age: int) -> float:
        """The step for moments of `age` steps, over the one that the optimiser takes for them at its t."""
        first = (1.0 - self.beta1**self.steps) / (1.0 - self.beta1**age)
        second = (1.0 - self.beta2**age) / (1.0 - self.beta2**self.steps)
        return float(first * math.sqrt(second))

    def has_faded(self, age: int) -> bool:
        """Whether moments of this age need hardly any correction."""
        return self.beta2**age < 1.0 - _FADED**2
