"""Compaction amid a training: layers get smaller when structured masks leave, and may get back their size later.

    exit="sparse"                 CompactedPhase, until the end
    exit="dense", regrow_at=0.7   CompactedPhase, RegrownPhase from 70 % of the training on

Outputs are the same before and after either change, up to rounding. So are the steps that follow a compaction, but for
the random numbers of dropout.

**What comes back.** A unit that is regrown has a gate of zeros, so that it adds nothing at first, and fresh values in
all that feeds it. They are drawn from a normal distribution with the mean and the standard deviation of the values that
stayed in the same tensor: the scale at which the layer works by now. The random numbers follow from the masks, so that
all ranks and a resumed run draw the same. Moments are zero, and the learning rate warms up (`regrowth`).

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.fixed_zeros import write_zeros
from asrsparse.masks.phases import Compacting, DensePhase, Phase, SparsePhase
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.resizing import Cut, Owner, owners
from asrsparse.masks.structured import find_units
from asrsparse.masks.weights import Weight, parameter_of, release


class CompactedPhase(Phase):
    """A phase in which the units that were masked out have left the model.

    Masks stay of the size that they had, so that densities are those of the whole model.

    Args:
        model: The model, with plain weights; it is compacted now.
        before: The phase that has ended, which says what leaves the model, and when it comes back.
        unit_masks: The masks with which it ended, bool, (U...) for each weight.
        optimizer: The optimiser that trains the model, whose moments are cut; None if there is none yet.

    Raises:
        ValueError: If the phase before was not to end in a smaller model.
    """

    name = "compacted"

    def __init__(
        self,
        model: nn.Module,
        before: Phase,
        unit_masks: Sequence[Tensor],
        optimizer: Optimizer | None,
    ) -> None:
        super().__init__(before.weights, before.regrown)
        if before.compacting is None:
            raise ValueError(
                "compact_at_exit: got False, and the state of a model that is compacted; allowed is True there. Attach "
                "the method of the run that wrote the state."
            )
        self._model = model
        self._unit_masks = [mask.cpu() for mask in unit_masks]
        self._num_kept = super().num_kept()
        self._regrow_at = before.compacting.regrow_at
        dead = [weight.tiling.expand(~mask) for weight, mask in zip(self.weights, unit_masks, strict=True)]
        write_zeros(self.weights, dead, optimizer)
        self.regrown.drop(dead)
        release(self.weights)
        self._cut = _cut(model, self.weights, unit_masks, optimizer, before.compacting)
        self.regrown.cut([self._cut.places.get((weight.module, "weight")) for weight in self.weights])

    def unit_masks(self) -> list[Tensor]:
        """Returns the masks at the exit, which say which units are there."""
        return self._unit_masks

    def num_kept(self) -> int:
        """Returns how many of the parameters under masks were kept."""
        return self._num_kept

    def sizes_before(self) -> dict[Owner, int]:
        """Returns the numbers of elements that smaller tensors had before the compaction."""
        return {owner: shape.numel() for owner, shape in self._cut.shapes.items()}

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Warms up weights that were regrown before the compaction; returns whether units are due to come back."""
        self.regrown.step(optimizer)
        return self._regrow_at is not None and progress >= self._regrow_at

    def regrow(self, optimizer: Optimizer, seed: int) -> Phase:
        """Brings all units back, those that had left with a gate of zeros; returns the phase that follows.

        Args:
            optimizer: The optimiser that trains the model.
            seed: The seed of the fresh values, the same on all ranks.
        """
        new = self._cut.undo(optimizer, torch.Generator().manual_seed(seed))
        dead = [weight.tiling.expand(~mask) for weight, mask in zip(self.weights, self._unit_masks, strict=True)]
        write_zeros(self.weights, dead, optimizer)
        after = RegrownPhase(self._model, self.weights, self.regrown.warmup_steps)
        after.begin(new)
        return after

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks at the exit by the names of their weights, and the regrown weights that still warm up."""
        names = (weight.name for weight in self.weights)
        return {"unit_masks": dict(zip(names, self._unit_masks, strict=True)), "regrown": self.regrown.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, on a phase that began with its masks."""
        self.regrown.load_state_dict(state["regrown"])


class RegrownPhase(DensePhase):
    """The phase after units came back: all weights are trained.

    Args:
        model: The model of full size.
        weights: The weights that had masks.
        warmup_steps: The optimiser steps in which the learning rate of what came back rises.
    """

    name = "regrown"

    def __init__(self, model: nn.Module, weights: Sequence[Weight], warmup_steps: int) -> None:
        self._owners = owners(model)
        super().__init__(weights, RegrownWeights([_Parameter(*owner) for owner in self._owners], warmup_steps))

    def begin(self, new: dict[Owner, Tensor]) -> None:
        """Warms up the values that are new; `new` is True for them, for each tensor that grew."""
        none = torch.zeros((), dtype=torch.bool)
        self.regrown.add([new.get(owner, none) for owner in self._owners])


class _Parameter(NamedTuple):
    """A parameter by its module and its name there, since it may be replaced."""

    module: nn.Module
    name: str

    @property
    def parameter(self) -> nn.Parameter:
        return parameter_of(self.module, self.name)


def require_units(weights: Sequence[Weight], unit_masks: Sequence[Tensor]) -> None:
    """Checks that masks leave units in each module, as kernels do not take empty layers.

    Raises:
        ValueError: If a mask keeps none.
    """
    for weight, mask in zip(weights, unit_masks, strict=True):
        if not mask.any():
            raise ValueError(
                f"compact_at_exit: got masks that keep none of the {weight.num_units} units at {weight.name}, allowed "
                "is one at least: a layer cannot be empty. Use a higher density, allocation=Uniform(), or exclude the "
                "layer; with compact_at_exit=False it stays, as zeros."
            )


def _cut(
    model: nn.Module,
    weights: Sequence[Weight],
    unit_masks: Sequence[Tensor],
    optimizer: Optimizer | None,
    compacting: Compacting,
) -> Cut:
    """Takes the units out of a model that masks drop."""
    units_at = {f"{units.name}.weight": units for units in find_units(model, compacting.kinds)}
    cut = Cut()
    for weight, mask in zip(weights, unit_masks, strict=True):
        if not mask.all():
            cut.keep(units_at[weight.name], mask.flatten(), optimizer)
    return cut


def phase_after(
    name: str, model: nn.Module, before: Phase, unit_masks: Sequence[Tensor], optimizer: Optimizer | None
) -> Phase:
    """Begins the phase that follows the one of the masks.

    Args:
        name: The name of the phase to begin.
        model: The model, with plain weights.
        before: The phase that has ended.
        unit_masks: The masks with which it ended, bool, (U...) for each weight.
        optimizer: The optimiser that trains the model; None if there is none yet.
    """
    if name == SparsePhase.name:
        return SparsePhase(before.weights, unit_masks, before.regrown, optimizer)
    if name == CompactedPhase.name:
        return CompactedPhase(model, before, unit_masks, optimizer)
    if name == RegrownPhase.name:  # of a run that is resumed
        return RegrownPhase(model, before.weights, before.regrown.warmup_steps)
    dead = [weight.tiling.expand(~mask) for weight, mask in zip(before.weights, unit_masks, strict=True)]
    before.reset_regrown(dead, optimizer)
    before.regrown.add(dead)
    return DensePhase(before.weights, before.regrown)
