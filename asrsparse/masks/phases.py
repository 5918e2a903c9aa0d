"""The phases of a training with masks: each is a `Phase`, and a method says with which one training begins.

    LearnedMask:            LearnedPhase --exit--> DensePhase or SparsePhase
    SRSTE, DecayingMask:    FollowingPhase --exit--> DensePhase or SparsePhase
    BinaryMask and others:  BinaryPhase --exit--> DensePhase or SparsePhase
    ShrinkingMask:          ShrinkingPhase --exit--> DensePhase or SparsePhase
    DenseMask:              DensePhase

Structured masks may end in a smaller model: CompactedPhase, which RegrownPhase may follow (`compacted`).

Each phase has the same methods (penalty, step, density, state), so that `SparseMasks` never asks which phase it is.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.fixed_zeros import FixedZeros, write_zeros
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.sharding import full
from asrsparse.masks.structured import UnitKind
from asrsparse.masks.weights import Weight, release

Exit = Literal["dense", "sparse"]
"""What follows the masks: all weights are trained, or the zeros stay."""

_REGROWN = "reborn"  # the key in checkpoints, by which those of earlier versions load too


@dataclass(frozen=True)
class Compacting:
    """What becomes of a model whose structured masks leave, so that it trains faster from there.

    Attributes:
        kinds: The kinds of units that leave it.
        regrow_at: The share of training after which they come back; None if they do not.
    """

    kinds: Sequence[UnitKind]
    regrow_at: float | None = None


class MaskMethod(Protocol):
    """A method of masks: it chooses the weights that get a mask, and the phase in which training begins."""

    def begin(self, model: nn.Module) -> "Phase":
        """Chooses the weights of `model` that get a mask, and enters the first phase."""


class Phase(ABC):
    """A part of training in which the masks of `weights` are treated in one way.

    The defaults are those of a phase without masks. Lists of tensors have an item for each weight, in their order.

    Args:
        weights: The masked weights.
        regrown: Those of them that were zero before and still warm up.
    """

    name: str
    exit: Exit | None = None
    """The exit to take when `step` says that the phase is over; None if the phase lasts until the end."""
    compacting: Compacting | None = None
    """What is taken out of the model at that exit; None if it keeps its size."""
    changed_share: float = 0.0
    """The share of mask bits that changed between the last two checks; 1.0 before the second check of a moving mask."""
    is_stable: bool = True
    """Whether the masks may be called final."""
    is_choosing: bool = False
    """Whether masks will still be chosen, by weights that are trained."""
    num_checks: int = 0
    """The number of times that masks were chosen or checked; after each, all ranks compare their masks."""

    def __init__(self, weights: Sequence[Weight], regrown: RegrownWeights) -> None:
        self.weights = list(weights)
        self.regrown = regrown

    @abstractmethod
    def unit_masks(self) -> list[Tensor]:
        """Returns the binary masks now, bool, (U...) for each weight; True = keep."""

    def weight_masks(self) -> list[Tensor]:
        """Returns the binary masks now, bool, (O, I, K...) for each weight; True = keep."""
        return [weight.tiling.expand(mask) for weight, mask in zip(self.weights, self.unit_masks(), strict=True)]

    def num_kept(self) -> int:
        """Returns how many of the parameters under masks are kept; this is cheap enough for every step."""
        pairs = zip(self.weights, self.unit_masks(), strict=True)
        return sum(int(mask.sum()) * weight.parameters_per_unit for weight, mask in pairs)

    def num_kept_in(self, state: Mapping[str, Tensor]) -> int:
        """Returns how many parameters under masks are left in a state dict: by zeros, or by masks if it is smaller."""
        num_kept = 0
        for weight, unit_mask in zip(self.weights, self.unit_masks(), strict=True):
            values = state[weight.name]
            is_whole = tuple(values.shape) == weight.tiling.shape
            live = weight.tiling.pool((values != 0).float()) > 0 if is_whole else unit_mask
            num_kept += int(live.sum()) * weight.parameters_per_unit
        return num_kept

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns the groups of what the optimiser trains besides the model's parameters."""
        return []

    def penalty(self) -> Tensor:
        """Returns the sparse regularisation to add to the loss, a 0-d tensor."""
        return torch.zeros(())

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Does what is due after an optimiser step.

        Args:
            progress: The share of training that is done, in [0, 1].
            optimizer: The optimiser that trains the weights.

        Returns:
            Whether the phase is over.
        """
        return False

    def end(self, optimizer: Optimizer | None) -> None:  # noqa: B027 (nothing to do by default)
        """Makes the model plain again, with its weights as they are; `optimizer` is None if there is none yet."""

    def regrow(self, optimizer: Optimizer, seed: int) -> "Phase":
        """Returns the phase that follows one after the exit, if its `step` says that it is over."""
        return self

    def reset_regrown(self, dead: Sequence[Tensor], optimizer: Optimizer | None) -> None:
        """Gives weights that were masked out, and are trained from here on, their first values: zero by default.

        Args:
            dead: True for these weights, bool (O, I, K...) for each masked weight.
            optimizer: The optimiser, whose moments of them are zeroed; None if there is none yet.
        """
        write_zeros(self.weights, dead, optimizer)

    def bind(self) -> None:
        """Uses the parameters by which `fully_shard` replaced the whole ones from here on; called once."""
        self.regrown.bind()

    def sizes_before(self) -> dict[tuple[nn.Module, str], int]:
        """Returns the numbers of elements that tensors had before they got smaller, by module and name there."""
        return {}

    def effective_weights(self) -> list[Tensor]:
        """Returns the weights with which the model computes now, whole, (O, I, K...) each."""
        return [full(weight.parameter.detach()) for weight in self.weights]

    def summary(self) -> dict[str, float]:
        """Returns numbers of this phase to log, next to its density."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and Python scalars from which `load_state_dict` restores the phase exactly."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to do by default)
        """Restores what `state_dict` returned."""


class DensePhase(Phase):
    """A phase without masks: all weights are trained. It is a baseline's only one, and follows the exit `dense`.

    Args:
        weights: The weights that had masks.
        regrown: Those of them that were zero until now.
    """

    name = "dense"

    def __init__(self, weights: Sequence[Weight], regrown: RegrownWeights) -> None:
        super().__init__(weights, regrown)
        release(weights)

    def unit_masks(self) -> list[Tensor]:
        """Returns masks that keep every unit."""
        return all_ones(self.weights)

    def num_kept(self) -> int:
        """Returns the number of all parameters that had masks, without building masks of ones."""
        return sum(weight.size for weight in self.weights)

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Warms up the regrown weights."""
        self.regrown.step(optimizer)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns the regrown weights that still warm up."""
        return {_REGROWN: self.regrown.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.regrown.load_state_dict(state[_REGROWN])


class SparsePhase(Phase):
    """A phase with fixed masks: weights that are masked out stay zero, bit for bit; the others are trained.

    Args:
        weights: The masked weights; their dead ones are zeroed now.
        unit_masks: The masks, bool, (U...) for each weight; True = keep.
        regrown: Those of them that still warm up; more are added if a subclass moves the masks.
        optimizer: The optimiser that trains them, whose moments of dead weights are zeroed; None if there is none yet.
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
        """Zeroes what the masks drop; what they keep and did not keep before is trained from zero."""
        triples = list(zip(self.weights, self._unit_masks, unit_masks, strict=True))
        live = [weight.tiling.expand(now) for weight, _, now in triples]
        regrown = [weight.tiling.expand(now & ~before.to(now.device)) for weight, before, now in triples]
        self.regrown.drop([~now for now in live])
        self.regrown.add(regrown)
        for zeros, now in zip(self._zeros, live, strict=True):
            zeros.set(now, optimizer)
        self._unit_masks = list(unit_masks)
        self._num_kept = super().num_kept()

    def num_kept(self) -> int:
        """Returns how many parameters are kept, counted when the masks were set."""
        return self._num_kept

    def unit_masks(self) -> list[Tensor]:
        """Returns the masks as they were set."""
        return self._unit_masks

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Warms up the regrown weights, and writes the zeros again."""
        self.regrown.step(optimizer)
        for zeros in self._zeros:
            zeros.write()
        return False

    def bind(self) -> None:
        """Holds the zeros of this rank's parts of the weights from here on."""
        super().bind()
        for zeros in self._zeros:
            zeros.bind()

    def end(self, optimizer: Optimizer | None) -> None:
        """Stops to hold the zeros: gradients reach all weights again."""
        for zeros in self._zeros:
            zeros.remove()

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks by the names of their weights, and the regrown weights that still warm up."""
        names = (weight.name for weight in self.weights)
        return {"unit_masks": dict(zip(names, self._unit_masks, strict=True)), _REGROWN: self.regrown.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; the optimiser is loaded apart, with dead weights' moments at zero."""
        masks = [state["unit_masks"][w.name].to(w.parameter.device) for w in self.weights]
        self.set_masks(masks, None)
        self.regrown.load_state_dict(state[_REGROWN])


def all_ones(weights: Sequence[Weight]) -> list[Tensor]:
    """Returns masks that keep every unit, bool, (U...) for each weight."""
    return [torch.ones(w.tiling.units_shape, dtype=torch.bool, device=w.parameter.device) for w in weights]


@dataclass(frozen=True)
class DenseMask:
    """The method without masks (null object): the same lines as with masks train the plain model, bit for bit.

    Example:
        >>> from asrsparse.masks import SparseMasks
        >>> masks = SparseMasks.attach(nn.Linear(4, 2), DenseMask())
        >>> masks.phase, masks.density, masks.penalty().item()
        ('dense', 1.0, 0.0)
    """

    def begin(self, model: nn.Module) -> Phase:
        """Enters the phase without masks, which lasts until the end."""
        return DensePhase([], RegrownWeights([], warmup_steps=0))
