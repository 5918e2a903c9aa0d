"""Masks that follow the weights in each step, while all weights stay and are trained: mostly for N:M sparsity.

The model computes with the largest weights alone, and the others keep their values, so that they may return. Two ways
to train those: SR-STE passes the gradient straight through the mask and adds a weight decay; a decaying mask lets ever
less of them through. At the exit, they are zeroed as with any other method.

The weight decay is the gradient of a term of the loss (`penalty`), so that it counts the same where a scaler scales the
loss, or accumulation divides it.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.allocation import NM, Allocation
from asrsparse.masks.mask_changes import STATE_KEY, MaskChanges
from asrsparse.masks.parametrized_phase import ParametrizedPhase
from asrsparse.masks.phases import Phase, all_ones
from asrsparse.masks.saliency import MagnitudeSaliency, SaliencyInputs
from asrsparse.masks.settings import MaskSettings
from asrsparse.masks.sharding import full, shard_like, total
from asrsparse.masks.weights import Weight
from asrsparse.schedules import Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class FollowingMask(MaskSettings):
    """The base of the methods whose masks follow the weights.

    Args:
        density: The share of the masked parameters that the model computes with, in (0, 1].
        allocation: How the density is distributed over the weights; 2:4 by default.
        stable_share: The mask is stable once at most this share of its bits has changed between two checks.
        check_every: The share of training between two checks.

    Raises:
        ValueError: If a value is outside its range.
    """

    density: float = 0.5
    allocation: Allocation = field(default_factory=NM)
    stable_share: float = 0.001
    check_every: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("density", "check_every"):
            self._require_share(name)

    def begin(self, model: nn.Module) -> Phase:
        """Puts the masks before the weights, at once or when their time comes."""
        return FollowingPhase(self, self.take_weights(model, self.density))

    @abstractmethod
    def decay(self) -> float:
        """Returns the weight decay of dropped weights: the gradient of a dropped w gets w times this; 0 for none."""

    @abstractmethod
    def leak(self, share: float) -> float:
        """Returns the factor on dropped weights, in [0, 1], at a share of the phase that is done."""

    @property
    @abstractmethod
    def is_straight(self) -> bool:
        """Whether the gradient passes the mask as if it was not there (straight-through estimator)."""


@dataclass(frozen=True, kw_only=True)
class SRSTE(FollowingMask):
    """The sparse-refined straight-through estimator: w <- w - lr (dL/dw~ + lambda_W (1 - m) w), w~ = m w.

    SR-STE, https://arxiv.org/abs/2102.04010, Equation 9; with any optimiser, the weight decay is added to the gradient.

    Args:
        weight_decay: lambda_W, the weight decay of dropped weights, on top of the optimiser's own.
    """

    weight_decay: float = 2e-4

    def decay(self) -> float:
        """Returns lambda_W, the weight decay of dropped weights."""
        return self.weight_decay

    def leak(self, share: float) -> float:
        """Returns 0: the model computes without the dropped weights."""
        return 0.0

    @property
    def is_straight(self) -> bool:
        """True: dropped weights have gradients as if they were kept."""
        return True


@dataclass(frozen=True, kw_only=True)
class DecayingMask(FollowingMask):
    """A method whose dropped weights fade: a factor that decays scales them and their gradients.

    https://arxiv.org/abs/2402.04744.

    Args:
        fading: The factor as a function of the share of the phase that is done. At the exit dropped weights are zeroed,
            whatever the factor is by then.
    """

    fading: Schedule = field(default_factory=lambda: Linear(1.0, 0.0))

    def decay(self) -> float:
        """Returns 0: dropped weights have no weight decay of their own."""
        return 0.0

    def leak(self, share: float) -> float:
        """Returns the factor at a share of the phase that is done."""
        return self.fading(share)

    @property
    def is_straight(self) -> bool:
        """False: the gradients of dropped weights are scaled as the weights are."""
        return False


class LeakyMask(nn.Module):
    """Multiplies a weight by 1 where the mask keeps it, and by a factor in [0, 1) elsewhere.

    The bits and the factor are buffers that change in place, so that a compiled model is not compiled again; no state
    dict has them. Copies have their own, and `AveragedModel` keeps those of its copy up to date.

    Args:
        weight: The weight that gets the mask.
        leak: The factor, at first.
        settings: The method, which says how gradients pass.
    """

    def __init__(self, weight: Weight, leak: float, settings: FollowingMask) -> None:
        super().__init__()
        self.unit_mask: Tensor
        self.register_buffer("unit_mask", all_ones([weight])[0], persistent=False)
        self.leak: Tensor
        self.register_buffer("leak", torch.tensor(leak, device=self.unit_mask.device), persistent=False)
        self.tiling = weight.tiling
        self.is_straight = settings.is_straight

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the masked weight, (O, I, K...)."""
        mask = shard_like(self.tiling.expand(self.unit_mask), weight)
        if not self.is_straight:
            return torch.where(mask, weight, weight * self.leak.clone())  # DDP writes buffers anew in each forward pass
        masked = _StraightThrough.apply(weight, mask)  # type: ignore[no-untyped-call]
        return cast(Tensor, masked)


class _StraightThrough(torch.autograd.Function):
    """Computes w m, with the gradient of the product as the gradient of w."""

    @staticmethod
    def forward(weight: Tensor, mask: Tensor) -> Tensor:
        return weight.masked_fill(~mask, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept for the gradient."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient, None


class FollowingPhase(ParametrizedPhase):
    """The phase in which masks follow the weights.

    Args:
        settings: The method.
        weights: The weights that get a mask.
    """

    def __init__(self, settings: FollowingMask, weights: Sequence[Weight]) -> None:
        super().__init__(settings, weights, MaskChanges(settings.check_every), settings.stable_share)
        self.settings = settings
        self._leak = settings.leak(0.0)
        self._masks = [LeakyMask(weight, self._leak, settings) for weight in weights]
        if settings.start == 0.0:
            self._open()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the phase: `"dense"`, and `"following"` from `start` on."""
        return "following" if self.is_open else "dense"

    def unit_masks(self) -> list[Tensor]:
        """Returns the masks of the next step, bool, (U...) for each weight."""
        return [mask.unit_mask for mask in self._masks]

    def penalty(self) -> Tensor:
        """Returns half the squares of dropped weights times their weight decay; the gradient of that is the decay."""
        weight_decay = self.settings.decay()
        if weight_decay == 0.0 or not self.is_open:
            return super().penalty()
        pairs = zip(self.weights, self._masks, strict=True)
        squares = [_sum_of_squares(weight, mask.unit_mask) for weight, mask in pairs]
        return 0.5 * weight_decay * torch.stack(squares).sum()

    @torch.no_grad()
    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Chooses the masks by the weights as they are now, and sets the factor on dropped weights."""
        if not self.is_open:
            if progress >= self.settings.start:
                self._open()
            return False
        self._set_leak(self.settings.leak(self.settings.share(progress)))
        self._follow()
        self._changes.check(progress - self.settings.start, self.unit_masks)
        return progress >= self.settings.until

    @torch.no_grad()
    def effective_weights(self) -> list[Tensor]:
        """Returns each weight times its mask, of its own shape."""
        if not self.is_open:
            return super().effective_weights()
        pairs = zip(self.weights, self._masks, strict=True)
        return [mask(full(weight.parameter)).detach() for weight, mask in pairs]

    def summary(self) -> dict[str, float]:
        """Returns the factor on dropped weights, for the log."""
        return {"leak": self._leak}

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks now and at the last check."""
        names = [weight.name for weight in self.weights]
        return {
            "unit_masks": dict(zip(names, self.unit_masks(), strict=True)),
            STATE_KEY: self._changes.state_dict(),
            "leak": self._leak,
            "open": self.is_open,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        if state["open"] and not self.is_open:
            self._open()
        for weight, mask in zip(self.weights, self._masks, strict=True):
            mask.unit_mask.copy_(state["unit_masks"][weight.name])
        self._changes.load_state_dict(state[STATE_KEY])
        self._set_leak(state["leak"])

    def _set_leak(self, leak: float) -> None:
        self._leak = leak
        for mask in self._masks:
            mask.leak.fill_(leak)

    @torch.no_grad()
    def _open(self) -> None:
        self._follow()
        self._put_before_weights(self._masks)

    def _follow(self) -> None:
        """Chooses masks that drop the smallest weights."""
        values = [full(weight.parameter.detach()) for weight in self.weights]
        inputs = SaliencyInputs(values, [], [weight.tiling for weight in self.weights], torch.Generator())
        chosen = self.settings.allocation.choose(self.weights, MagnitudeSaliency()(inputs), self.settings.density)
        for mask, unit_mask in zip(self._masks, chosen, strict=True):
            mask.unit_mask.copy_(unit_mask)


def _sum_of_squares(weight: Weight, unit_mask: Tensor) -> Tensor:
    """Returns the sum of the squares of the weights that the mask drops, a 0-d tensor."""
    kept = shard_like(weight.tiling.expand(unit_mask), weight.parameter)
    return total(weight.parameter.masked_fill(kept, 0.0).square())
