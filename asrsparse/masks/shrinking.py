"""Units that are chosen early and shrink to zero before they are cut.

A cut of whole units at once changes what the model computes, and the training has to repair it. Here the weights of
the chosen units fade over the phase: after each step they are multiplied by f(s) / f(s'), where f falls from 1 to 0
over the phase, and s' and s are the shares of it that were done before and after the step. With the straight line this
is a weight decay of 1/n with n steps to go: one that grows, and falls on chosen units alone, so that the others are not
shrunk and have the rest of the phase to take over.

Growing regularisation (GReg-1, https://arxiv.org/abs/2012.09243) lets an L2 penalty grow on the weights to prune;
MaskSparsity (https://doi.org/10.1007/s11633-022-1353-0) puts an L1 penalty on chosen channels alone. Adam divides a
penalty in the loss by its second moment, so that its size says little. That ours is decoupled from the loss, as the
decay of AdamW, and ends at zero whatever the learning rate is, is our decision.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.binary import BinaryMask, BinaryPhase
from asrsparse.masks.phases import Phase
from asrsparse.masks.saliency import MagnitudeSaliency, Saliency
from asrsparse.masks.sharding import local, part_of
from asrsparse.masks.weights import Weight
from asrsparse.schedules import Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class ShrinkingMask(BinaryMask):
    """Chooses units at `start`, lets them fade until `until`, and cuts them there.

    Args:
        first: The saliency by which units are chosen.
        start: The share of training at which they are.
        until: The share of training at which they are zero and leave.
        left: What is left of them, as a function of the share of the phase that is done; it falls from 1 to 0.

    Raises:
        ValueError: If a value is outside its range, if units would be chosen again, or if there is no time to shrink.
    """

    first: Saliency = field(default_factory=MagnitudeSaliency)
    start: float = 0.1
    until: float = 0.25
    left: Schedule = field(default_factory=lambda: Linear(1.0, 0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every is not None:
            raise ValueError(f"every: got {self.every}, allowed is None: ShrinkingMask chooses once. Leave it out.")
        if self.start == self.until:
            raise ValueError(
                f"start and until: got {self.start} for both, allowed is start < until: units shrink in between. "
                "Start sooner, or use MagnitudeMask to cut them at once."
            )

    def begin(self, model: nn.Module) -> Phase:
        """Enters the phase of this method; with `start=0` and no need of gradients it chooses the units."""
        return ShrinkingPhase(self, self.take_weights(model, self.density))


class ShrinkingPhase(BinaryPhase):
    """The phase in which the units that a `ShrinkingMask` chose fade; its masks say what will be left.

    Args:
        settings: The method.
        weights: The weights that get a mask.
    """

    def __init__(self, settings: ShrinkingMask, weights: Sequence[Weight]) -> None:
        self._schedule = settings.left
        self._left = 1.0
        super().__init__(settings, weights)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the phase: `"dense"`, and `"shrinking"` once units are chosen."""
        return "shrinking" if self.num_checks else "dense"

    def set_masks(self, unit_masks: Sequence[Tensor], optimizer: Optimizer | None) -> None:
        """Notes what will be left; nothing is zero yet."""
        self._unit_masks = list(unit_masks)
        self._num_kept = Phase.num_kept(self)

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Chooses the units if that is due, and shrinks them from then on; returns whether the phase is over."""
        is_over = super().step(progress, optimizer)
        if self.num_checks:
            self._shrink(self._schedule(self.settings.share(progress)))
        return is_over

    def summary(self) -> dict[str, float]:
        """Returns what is left of the units that shrink, for the log."""
        return {"left": self._left}

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks, and how far their units have shrunk."""
        return {**super().state_dict(), "left": self._left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        super().load_state_dict(state)
        self._left = state["left"]

    @torch.no_grad()
    def _shrink(self, left: float) -> None:
        factor = left / self._left if self._left > 0.0 else 0.0
        self._left = left
        for weight, mask in zip(self.weights, self.unit_masks(), strict=True):
            held = local(weight.parameter)
            kept = part_of(weight.tiling.expand(mask), weight.parameter).to(held.device)
            held.mul_(torch.where(kept, 1.0, factor).to(held.dtype))
