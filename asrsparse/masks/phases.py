"""The times of a training with masks: each is a `Phase`, and a method says with which one training begins.

    LearnedMask:  LearnedPhase --exit--> DensePhase or SparsePhase
    DenseMask:    DensePhase

A phase answers for the masks (penalty, step, density, state), so that `SparseMasks` never asks which one is on.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.moments import clear_moments
from asrsparse.masks.weights import Weight, release

Exit = Literal["dense", "sparse"]


class MaskMethod(Protocol):
    """How masks come about. `LearnedMask` and `DenseMask` are the first ones."""

    def begin(self, model: nn.Module) -> "Phase":
        """Chooses the weights of `model` that get a mask, and enters the first phase."""


class Phase(ABC):
    """A time of training in which the masks of `weights` are treated in one way.

    The defaults are those of a phase without masks. Lists of tensors go by `weights`, in its order.
    """

    name: str
    exit: Exit | None = None
    """Where the phase leads when its `step` says that it is over; `None` if it lasts until the end."""
    changed_share: float = 0.0
    """The share of mask bits that changed between the last two checks; 1.0 before the second check of a moving mask."""

    def __init__(self, weights: Sequence[Weight]) -> None:
        self.weights = list(weights)

    @abstractmethod
    def weight_masks(self) -> list[Tensor]:
        """The binary masks now, bool, each of its weight's shape; True = keep."""

    def num_kept(self) -> int:
        """How many of the masked weights the masks keep; cheap enough for every step."""
        return sum(int(weight_mask.sum()) for weight_mask in self.weight_masks())

    def param_groups(self) -> list[dict[str, Any]]:
        """What the optimiser trains besides the model's parameters."""
        return []

    def penalty(self) -> Tensor:
        """The sparse regularisation to add to the loss, a 0-d tensor."""
        return torch.zeros(())

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Does what is due after an optimiser step; returns whether the phase is over."""
        return False

    def end(self, optimizer: Optimizer | None) -> None:  # noqa: B027 (nothing to do by default)
        """Leaves the model plain, with its weights as they are; `optimizer` is None where none exists yet."""

    def effective_weights(self) -> list[Tensor]:
        """The weights with which the model computes now."""
        return [weight.parameter.detach() for weight in self.weights]

    def summary(self) -> dict[str, float]:
        """Numbers of this phase to log, next to its density."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and Python scalars from which `load_state_dict` goes on exactly."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to do by default)
        """Takes over what `state_dict` gave."""


class DensePhase(Phase):
    """All weights are trained; no masks. This is the baseline's only phase, and the last one after the exit `dense`."""

    name = "dense"

    def __init__(self, weights: Sequence[Weight]) -> None:
        super().__init__(weights)
        release(weights)

    def weight_masks(self) -> list[Tensor]:
        """Every weight is kept."""
        return [torch.ones_like(weight.parameter, dtype=torch.bool) for weight in self.weights]

    def num_kept(self) -> int:
        """All, without building masks of ones."""
        return sum(weight.parameter.numel() for weight in self.weights)


class SparsePhase(Phase):
    """Fixed masks: the weights that are masked out are zero and stay zero, bit for bit; the others are trained.

    Three things hold them there. Their gradients are zeroed on arrival, before clipping or DDP see them; with no
    gradient and no moments Adam's step for a zero is zero, and so is its decay; and after each step zeros are written
    again, for optimisers of another build.

    Args:
        weights: The masked weights; their dead ones are zeroed now.
        weight_masks: Bool, one for each weight, of its shape; True = keep.
    """

    name = "sparse"

    def __init__(self, weights: Sequence[Weight], weight_masks: Sequence[Tensor]) -> None:
        super().__init__(weights)
        self._dead = [
            FixedZeros(weight.parameter, ~weight_mask.to(weight.parameter.device))
            for weight, weight_mask in zip(weights, weight_masks, strict=True)
        ]
        self._num_kept = super().num_kept()

    def num_kept(self) -> int:
        """Counted once, since the masks are fixed."""
        return self._num_kept

    def weight_masks(self) -> list[Tensor]:
        """The fixed masks."""
        return [~zeros.dead for zeros in self._dead]

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Writes the zeros again, in the weights and in the optimiser's moments."""
        for zeros in self._dead:
            zeros.write(optimizer)
        return False

    def end(self, optimizer: Optimizer | None) -> None:
        """Lets the gradients of the dead weights pass again."""
        for zeros in self._dead:
            zeros.remove()

    def state_dict(self) -> dict[str, Any]:
        """The masks by the names of their weights."""
        names = (weight.name for weight in self.weights)
        return {"weight_masks": dict(zip(names, self.weight_masks(), strict=True))}


class FixedZeros:
    """Keeps the dead weights of one parameter at zero, from construction until `remove`.

    Args:
        parameter: The parameter; its dead weights are zeroed now.
        dead: True where a weight is to stay zero, bool, of the parameter's shape.
    """

    def __init__(self, parameter: nn.Parameter, dead: Tensor) -> None:
        self.parameter = parameter
        self.dead = dead
        self._hook = parameter.register_hook(self._zero_gradient)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            parameter.masked_fill_(dead, 0.0)

    def write(self, optimizer: Optimizer) -> None:
        """Zeroes the dead weights and their moments."""
        self._follow(self.parameter)
        with torch.no_grad():
            self.parameter.masked_fill_(self.dead, 0.0)
        clear_moments(optimizer, self.parameter, self.dead)

    def remove(self) -> None:
        """Lets the gradients pass again."""
        self._hook.remove()

    def _zero_gradient(self, gradient: Tensor) -> Tensor:
        self._follow(gradient)
        return gradient.masked_fill(self.dead, 0.0)

    def _follow(self, tensor: Tensor) -> None:
        """The model may move to another device after its masks were loaded."""
        if self.dead.device != tensor.device:
            self.dead = self.dead.to(tensor.device)


@dataclass(frozen=True)
class DenseMask:
    """The null object: no masks. The same lines as with masks train the plain model, bit for bit.

    Example:
        >>> from asrsparse.masks import SparseMasks
        >>> masks = SparseMasks.attach(nn.Linear(4, 2), DenseMask())
        >>> masks.phase, masks.density, masks.penalty().item()
        ('dense', 1.0, 0.0)
    """

    def begin(self, model: nn.Module) -> Phase:
        """Begins, and stays, with no masks at all."""
        return DensePhase([])
