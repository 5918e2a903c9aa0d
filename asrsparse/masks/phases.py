"""The times of a training with masks: each is a `Phase`, and a method says with which one training begins.

    LearnedMask:            LearnedPhase --exit--> DensePhase or SparsePhase
    BinaryMask and others:  BinaryPhase  --exit--> DensePhase or SparsePhase
    DenseMask:              DensePhase

A phase answers for the masks (penalty, step, density, state), so that `SparseMasks` never asks which one is on.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.fixed_zeros import FixedZeros
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.sharding import full
from asrsparse.masks.weights import Weight, release

Exit = Literal["dense", "sparse"]


class MaskMethod(Protocol):
    """How masks come about."""

    def begin(self, model: nn.Module) -> "Phase":
        """Chooses the weights of `model` that get a mask, and enters the first phase."""


class Phase(ABC):
    """A time of training in which the masks of `weights` are treated in one way.

    The defaults are those of a phase without masks. Lists of tensors go by `weights`, in its order.

    Args:
        weights: The masked weights.
        regrown: Those parts of them that were zero before and are new.
    """

    name: str
    exit: Exit | None = None
    """Where the phase leads when its `step` says that it is over; `None` if it lasts until the end."""
    changed_share: float = 0.0
    """The share of mask bits that changed between the last two checks; 1.0 before the second check of a moving mask."""
    is_stable: bool = True
    """Whether the masks may be called final."""
    num_checks: int = 0
    """How often the masks were chosen or checked: after that, all ranks compare theirs."""

    def __init__(self, weights: Sequence[Weight], regrown: RegrownWeights) -> None:
        self.weights = list(weights)
        self.regrown = regrown

    @abstractmethod
    def unit_masks(self) -> list[Tensor]:
        """The binary masks now, bool, each of its weight's units; True = keep."""

    def weight_masks(self) -> list[Tensor]:
        """The binary masks now, bool, each of its weight's shape; True = keep."""
        return [weight.tiling.expand(mask) for weight, mask in zip(self.weights, self.unit_masks(), strict=True)]

    def num_kept(self) -> int:
        """How many of the parameters under masks are kept; cheap enough for every step."""
        pairs = zip(self.weights, self.unit_masks(), strict=True)
        return sum(int(mask.sum()) * weight.parameters_per_unit for weight, mask in pairs)

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

    def bind(self) -> None:
        """Goes on with the parameters that `fully_shard` has put in the place of whole ones; called once."""
        self.regrown.bind()

    def effective_weights(self) -> list[Tensor]:
        """The weights with which the model computes now, whole."""
        return [full(weight.parameter.detach()) for weight in self.weights]

    def summary(self) -> dict[str, float]:
        """Numbers of this phase to log, next to its density."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and Python scalars from which `load_state_dict` goes on exactly."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to do by default)
        """Takes over what `state_dict` gave."""


class DensePhase(Phase):
    """All weights are trained; no masks. This is the baseline's only phase, and the last one after the exit `dense`.

    Args:
        weights: Those that had masks.
        regrown: Those of them that were zero until now.
    """

    name = "dense"

    def __init__(self, weights: Sequence[Weight], regrown: RegrownWeights) -> None:
        super().__init__(weights, regrown)
        release(weights)

    def unit_masks(self) -> list[Tensor]:
        """Every unit is kept."""
        return all_ones(self.weights)

    def num_kept(self) -> int:
        """All, without building masks of ones."""
        return sum(weight.size for weight in self.weights)

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Lets regrown weights grow up."""
        self.regrown.step(optimizer)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Those that are still new."""
        return {"reborn": self.regrown.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self.regrown.load_state_dict(state["reborn"])


class SparsePhase(Phase):
    """Fixed masks: the weights that are masked out are zero and stay zero, bit for bit; the others are trained.

    Args:
        weights: The masked weights; their dead ones are zeroed now.
        unit_masks: Bool, one for each weight, of its units; True = keep.
        regrown: Those parts of them that are new; more are added where a subclass moves the masks.
        optimizer: The one that trains them, which forgets the dead ones; None where none exists yet.
    """

    name = "sparse"

    def __init__(
        self,
        weights: Sequence[Weight],
        unit_masks: Sequence[Tensor],
        regrown: RegrownWeights,
        optimizer: Optimizer | None,
    ) -> None:
        super().__init__(weights, regrown)
        self._zeros = [FixedZeros(weight) for weight in weights]
        self._unit_masks = all_ones(weights)
        self.set_masks(unit_masks, optimizer)

    def set_masks(self, unit_masks: Sequence[Tensor], optimizer: Optimizer | None) -> None:
        """Zeroes what the masks drop, and lets what they newly keep start anew, from zero."""
        triples = list(zip(self.weights, self._unit_masks, unit_masks, strict=True))
        live = [weight.tiling.expand(now) for weight, _, now in triples]
        born = [weight.tiling.expand(now & ~before.to(now.device)) for weight, before, now in triples]
        self.regrown.drop([~now for now in live])
        self.regrown.add(born)
        for zeros, now in zip(self._zeros, live, strict=True):
            zeros.set(now, optimizer)
        self._unit_masks = list(unit_masks)
        self._num_kept = super().num_kept()

    def num_kept(self) -> int:
        """Counted when the masks were set."""
        return self._num_kept

    def unit_masks(self) -> list[Tensor]:
        """The masks as they were set."""
        return self._unit_masks

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Writes the zeros again, and lets regrown weights grow up."""
        self.regrown.step(optimizer)
        for zeros in self._zeros:
            zeros.write()
        return False

    def bind(self) -> None:
        """Holds the zeros of this rank's parts of the weights."""
        super().bind()
        for zeros in self._zeros:
            zeros.bind()

    def end(self, optimizer: Optimizer | None) -> None:
        """Lets the gradients of the dead weights pass again."""
        for zeros in self._zeros:
            zeros.remove()

    def state_dict(self) -> dict[str, Any]:
        """The masks by the names of their weights, and those that are still new."""
        names = (weight.name for weight in self.weights)
        return {"unit_masks": dict(zip(names, self._unit_masks, strict=True)), "reborn": self.regrown.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over masks; the optimiser, loaded apart, has forgotten the dead weights already."""
        masks = [state["unit_masks"][w.name].to(w.parameter.device) for w in self.weights]
        self.set_masks(masks, None)
        self.regrown.load_state_dict(state["reborn"])


def all_ones(weights: Sequence[Weight]) -> list[Tensor]:
    """Masks that keep every unit."""
    return [torch.ones(w.tiling.units_shape, dtype=torch.bool, device=w.parameter.device) for w in weights]


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
        return DensePhase([], RegrownWeights([], warmup_steps=0))
