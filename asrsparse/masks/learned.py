"""Masks that are learned with the weights (MSRS, https://arxiv.org/abs/2406.17614).

Each weight theta has a logit phi; the model computes with theta * sigmoid(l * phi), and both are trained on the
task's loss plus a sparse regularisation, lambda * mean(phi). The temperature l grows until the mask is near-binary.
What the mask keeps in the end is phi > 0. The values of l and lambda, the length of the phase and the way to reach a
density are not given by the paper: they are decisions of this toolkit.

**How a target density is reached.** With Adam, the size of lambda hardly matters and the number of steps does, so that
no fixed lambda gives a wanted density. But the gradient of lambda * mean(phi) is the same for every logit: its descent
step is one shift of them all. As AdamW takes weight decay out of the loss, we take this regularisation out, and solve
for the lambda of each step: the shift that brings the logit at the wanted quantile to zero, in equal parts until
`reach_by`, and entirely in each step from then on. The task's loss alone decides which logits lie above it. Where an
allocation gives each layer a density of its own, or N:M each group of weights, each has a lambda of its own.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.allocation import Allocation, Global
from asrsparse.masks.grad_balance import GradBalance
from asrsparse.masks.mask_changes import STATE_KEY, MaskChanges
from asrsparse.masks.moments import forget, rescale_moments
from asrsparse.masks.parametrized import SoftMask
from asrsparse.masks.parametrized_phase import ParametrizedPhase
from asrsparse.masks.phases import Exit, Phase
from asrsparse.masks.regrown_values import RegrowFrom, RegrownValues
from asrsparse.masks.settings import MaskSettings, wrong
from asrsparse.masks.sharding import full, is_sharded, local, part_of, total
from asrsparse.masks.weights import Weight
from asrsparse.schedules import Geometric, Schedule

PenaltyOn = Literal["logits", "mask"]
PenaltyReduction = Literal["mean", "sum"]
DensityBy = Literal["shift", "grad_balance"]
MaskScaling = Literal["none", "initial", "current"]

_NEAR_BINARY = 0.05  # a mask this close to 0 or 1 counts as near-binary


@dataclass(frozen=True, kw_only=True)
class LearnedMask(MaskSettings):
    """The settings of learned masks (MSRS).

    `target_density` holds a density; `penalty_weight` adds the paper's regularisation to the loss. One of the two makes
    the masks sparse, and both may be used: then the penalty adds to what the logits learn, at the density that is held.

    Args:
        until: The share of training after which masks are no longer learned. The phase ends sooner if they are stable.
        target_density: The share of masked parameters to keep, in (0, 1]; None leaves it to `penalty_weight`.
        penalty_weight: lambda, at least 0.
        penalty_on: What the penalty is the mean of: `"logits"` (phi) or `"mask"` (sigmoid(l * phi), as in Continuous
            Sparsification, https://arxiv.org/abs/1912.04427, its L1 penalty on relaxed masks).
        penalty_reduction: `"mean"`, or `"sum"` as in both papers: a lambda for the sum is one of the mean divided by
            the number of units, `1e-4` of the sum over 3 million weights 300 of the mean.
        density_by: How `target_density` is held: `"shift"` moves all logits alike (see above), `"grad_balance"` finds a
            lambda that balances the gradients of task and penalty, see `GradBalance`.
        exit: What follows: `"dense"` zeroes the weights that are masked out and trains them all from there; `"sparse"`
            keeps them at zero.
        allocation: Where `target_density` holds; over the whole model by default, as the paper's penalty does.
        logit: The initial value of the logits, positive, so that all weights are in the mask at first.
        logit_lr: The learning rate of the logits, for an optimiser whose steps do not depend on the size of gradients
            (Adam's kind). Where a density is held, they only have to part from one another, and ten times this learning
            rate left a recogniser that learned far more slowly after the exit. A bare penalty must move them all to
            zero within the phase: `logit` over the number of its steps, and more.
        logit_lr_scale: The learning rate of the logits as a multiple of that of the weights, on whose schedule it then
            is too, warm-up and all; None leaves it at `logit_lr`, constant.
        max_logit: The logits are clamped to plus and minus this; None for no clamp: the penalty lowers them ever more.
        temperature: l, as a function of the share of the phase.
        mask_scaling: What divides the mask. `"none"`: nothing, so that the weights with which the model computes shrink
            by sigmoid(l * `logit`) at first, 0.73 by default. `"initial"`: that value, to the end, as in the public
            code of Continuous Sparsification; the exit multiplies 1 over it into the weights. `"current"`: that at the
            temperature of each step (our decision), so that a weight whose logit stays is as without a mask throughout.
        regrow_from: What the weights that were masked out are trained from after the exit `"dense"`: `"zero"`, which
            changes no output; `"kept"`, the values that they had behind the mask; `"initial"`, fresh random values.
        seed: The seed of fresh random values; all ranks must have the same.
        reach_by: The share of the phase after which the density is at its target, and the mask may be called stable.
        check_every: The share of the phase between two checks of the mask.
        stable_share: The mask is stable once at most this share of its bits has changed between two checks, and it is
            near-binary. No bit changes either as long as all masks are far from both 0 and 1.
        stable_near_binary: A mask is near-binary if at least this share of its values is within 0.05 of 0 or 1, at the
            temperature of that step: it only rises.

    Raises:
        ValueError: If a value is outside its range, or nothing would make the masks sparse.
    """

    until: float = 0.25
    exit: Exit = "dense"
    allocation: Allocation = field(default_factory=Global)
    target_density: float | None = 0.5
    penalty_weight: float = 0.0
    penalty_on: PenaltyOn = "logits"
    penalty_reduction: PenaltyReduction = "mean"
    density_by: DensityBy = "shift"
    logit: float = 1.0
    logit_lr: float = 0.003
    logit_lr_scale: float | None = None
    max_logit: float | None = 2.0
    temperature: Schedule = field(default_factory=lambda: Geometric(1.0, 100.0))
    mask_scaling: MaskScaling = "none"
    regrow_from: RegrowFrom = "zero"
    seed: int = 0
    reach_by: float = 0.5
    check_every: float = 0.05
    stable_share: float = 0.001
    stable_near_binary: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_density", "reach_by", "check_every"):
            self._require_share(name)
        if not 0.0 <= self.stable_near_binary <= 1.0:
            raise wrong("stable_near_binary", self.stable_near_binary, "is a share in [0, 1]")
        self._require_choice("penalty_on", PenaltyOn)
        self._require_choice("penalty_reduction", PenaltyReduction)
        self._require_choice("density_by", DensityBy)
        self._require_choice("mask_scaling", MaskScaling)
        self._require_choice("regrow_from", RegrowFrom)
        for name in ("logit", "logit_lr"):
            if not getattr(self, name) > 0.0:
                raise wrong(name, getattr(self, name), "is a positive value")
        for name in ("logit_lr_scale", "max_logit"):
            if getattr(self, name) is not None and not getattr(self, name) > 0.0:
                raise wrong(name, getattr(self, name), "is a positive value, or null")
        if self.penalty_weight < 0.0 or (self.target_density is None and self.penalty_weight == 0.0):
            raise ValueError(
                f"target_density and penalty_weight: got target_density={self.target_density} and penalty_weight="
                f"{self.penalty_weight}, allowed are a target_density in (0, 1], a positive penalty_weight, or both."
            )
        balances, may_balance = self.density_by == "grad_balance", self.target_density and not self.penalty_weight
        if balances and not (may_balance and self.penalty_on == "logits"):
            raise ValueError(
                f"density_by: got 'grad_balance' with target_density={self.target_density}, penalty_weight="
                f"{self.penalty_weight} and penalty_on={self.penalty_on!r}, allowed are a target_density in (0, 1], "
                "penalty_weight=0 (it is found) and penalty_on='logits'. Set them so, or density_by='shift'."
            )

    def begin(self, model: nn.Module) -> Phase:
        """Puts a soft mask on each chosen weight and begins to learn, at once or when its time comes."""
        return LearnedPhase(self, self.take_weights(model, self.target_density))

    def _require_choice(self, name: str, choices: Any) -> None:
        if getattr(self, name) not in get_args(choices):
            raise wrong(name, getattr(self, name), f"are {' and '.join(get_args(choices))}")


class LearnedPhase(ParametrizedPhase):
    """The phase in which masks are learned.

    Args:
        settings: The method.
        weights: The weights that get a mask.
    """

    def __init__(self, settings: LearnedMask, weights: Sequence[Weight]) -> None:
        super().__init__(settings, weights, MaskChanges(settings.check_every), settings.stable_share)
        self.settings = settings
        temperature, scale = settings.temperature(0.0), self._scale_at(0.0) if self._is_scaled else None
        self._soft_masks = [SoftMask(weight, settings.logit, temperature, scale) for weight in weights]
        self._num_units = sum(weight.num_units for weight in weights)
        self._balance = GradBalance() if settings.density_by == "grad_balance" else None
        self._regrown_values = RegrownValues(weights, settings.regrow_from, settings.seed)
        self._share = 0.0  # of the phase that is done
        self._near_binary_share = 0.0  # at the last check
        self._mean_shift = torch.zeros(())  # of the logits, in the last step
        if settings.start == 0.0:
            self._put_before_weights(self._soft_masks)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the phase: `"dense"`, and `"learning"` from `start` on."""
        return "learning" if self.is_open else "dense"

    @property
    def logits(self) -> list[nn.Parameter]:
        """The logits phi, (U...) for each weight."""
        return [soft_mask.logits for soft_mask in self._soft_masks]

    @property
    def is_stable(self) -> bool:  # type: ignore[override]
        """Whether hardly any bit changed between the last two checks, and the masks were near-binary at the last."""
        return super().is_stable and self._near_binary_share >= self.settings.stable_near_binary

    def unit_masks(self) -> list[Tensor]:
        """Returns the masks of the units whose logit is positive, bool, (U...) for each weight."""
        return [logits > 0.0 for logits in self._full_logits()]

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns one group, of the logits: with a learning rate of its own or a multiple, and no weight decay."""
        scale = self.settings.logit_lr_scale
        lr = {"lr": self.settings.logit_lr} if scale is None else {"lr_scale": scale}
        return [{"params": self.logits, **lr, "weight_decay": 0.0, "name": "mask_logits"}]

    @property
    def penalty_weight(self) -> float:
        """The penalty's weight lambda now, of the mean over all units."""
        if self._balance is not None:
            return self._balance.weight
        return self.settings.penalty_weight * (self._num_units if self.settings.penalty_reduction == "sum" else 1)

    def penalty(self) -> Tensor:
        """Returns the mean of phi or of sigmoid(l * phi) over all units, times lambda, 0-d."""
        if self.penalty_weight == 0.0 or not self.is_open:
            return super().penalty()
        on_logits = self.settings.penalty_on == "logits"
        totals = [total(soft.logits if on_logits else soft.mask()) for soft in self._soft_masks]
        return self.penalty_weight / self._num_units * torch.stack(totals).sum()

    @torch.no_grad()
    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Moves the logits to the target density, raises the temperature, and checks whether the mask is stable."""
        if not self.is_open:
            if progress >= self.settings.start:
                self._put_before_weights(self._soft_masks)
            return False
        share = self.settings.share(progress)
        if self._balance is not None:
            assert self.settings.target_density is not None
            self._balance.update(self._soft_masks, self.settings.target_density)
        else:
            self._shift_logits(share)
        self._clamp_logits()
        self._set_share(share)
        self._check(share)
        is_over = share >= 1.0 or (share >= self.settings.reach_by and self.is_stable)
        if is_over and self._balance is not None:
            self._shift_logits(1.0)  # what is left to the target, which the penalty only comes near
        return is_over

    @torch.no_grad()
    def end(self, optimizer: Optimizer | None) -> None:
        """Removes the soft masks; the logits and what the optimiser kept of them take no memory any more."""
        super().end(optimizer)
        if self._is_scaled and optimizer is not None:  # without one, a state is loaded: its weights have it
            scale = self._scale_at(self._share)
            for weight in self.weights:
                local(weight.parameter).mul_(scale)
                rescale_moments(optimizer, weight.parameter, 1.0 / scale)
        for logits in self.logits:
            logits.grad = None
            if not is_sharded(logits):  # those are FSDP2's
                logits.data = logits.data.new_empty(0)
            if optimizer is not None:
                forget(optimizer, logits)

    def reset_regrown(self, dead: Sequence[Tensor], optimizer: Optimizer | None) -> None:
        """Gives the weights that were masked out the values that `regrow_from` names."""
        self._regrown_values.write(dead, optimizer)

    @torch.no_grad()
    def effective_weights(self) -> list[Tensor]:
        """Returns the products theta * sigmoid(l * phi), (O, I, K...) for each weight."""
        if not self.is_open:
            return super().effective_weights()
        triples = zip(self.weights, self._soft_masks, self._full_logits(), strict=True)
        return [soft_mask.product(full(weight.parameter), logits).detach() for weight, soft_mask, logits in triples]

    def summary(self) -> dict[str, float]:
        """Returns the temperature, the share of near-binary masks, the penalty's weight, the last shift of logits."""
        return {
            "temperature": self.settings.temperature(self._share),
            "near_binary_share": self._measure_near_binary(),
            "penalty_weight": self.penalty_weight,
            "penalty_shift": self._mean_shift.item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns the logits by the names of their weights, the masks at the last check, and the share of the phase."""
        names = [weight.name for weight in self.weights]
        return {
            "logits": dict(zip(names, self._full_logits(), strict=True)),
            STATE_KEY: self._changes.state_dict(),
            "share": self._share,
            "near_binary_share": self._near_binary_share,
            "open": self.is_open,
            "balanced_weight": self._balance.weight if self._balance is not None else 0.0,
            "initial_stds": self._regrown_values.stds,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        if state["open"] and not self.is_open:
            self._put_before_weights(self._soft_masks)
        for weight, logits in zip(self.weights, self.logits, strict=True):
            local(logits).copy_(part_of(state["logits"][weight.name], logits))
        self._changes.load_state_dict(state[STATE_KEY])
        self._set_share(state["share"])
        self._near_binary_share = state.get("near_binary_share", 0.0)  # earlier versions had none
        if self._balance is not None:
            self._balance.weight = state["balanced_weight"]
        self._regrown_values.stds = state.get("initial_stds", self._regrown_values.stds)

    def _full_logits(self) -> list[Tensor]:
        return [full(logits.detach()) for logits in self.logits]

    def _check(self, share: float) -> None:
        """Measures how binary the masks are and how much they changed, if a check is due."""
        num_checks = self.num_checks
        self._changes.check(share, self.unit_masks)
        if self.num_checks != num_checks:
            self._near_binary_share = self._measure_near_binary()

    def _measure_near_binary(self) -> float:
        masks = [full(soft_mask.mask().detach()) for soft_mask in self._soft_masks]
        near = sum((mask - 0.5).abs().gt(0.5 - _NEAR_BINARY).sum().item() for mask in masks)
        return near / self._num_units

    def _set_share(self, share: float) -> None:
        """Sets the share of the phase that is done, and what depends on it alone: the masks' temperature and scale."""
        self._share = share
        temperature, scale = self.settings.temperature(share), self._scale_at(share)
        for soft_mask in self._soft_masks:
            soft_mask.temperature.fill_(temperature)
            if soft_mask.scale is not None:
                soft_mask.scale.fill_(scale)

    @property
    def _is_scaled(self) -> bool:
        return self.settings.mask_scaling != "none"

    def _scale_at(self, share: float) -> float:
        """Returns the factor on scaled masks: 1 / sigmoid(l * `logit`), with the first l or that of now."""
        temperature = self.settings.temperature(share if self.settings.mask_scaling == "current" else 0.0)
        return 1.0 + math.exp(-temperature * self.settings.logit)

    def _shift_logits(self, share: float) -> None:
        """Shifts the logits as `target_density` needs it; `share` is what is done of the phase."""
        target, reach_by = self.settings.target_density, self.settings.reach_by
        if target is None:
            return
        due = 1.0 if share >= reach_by else (share - self._share) / (reach_by - self._share)
        thresholds = self.settings.allocation.thresholds(self.weights, self._full_logits(), target)
        self._mean_shift = due * torch.stack([threshold.mean() for threshold in thresholds]).mean()
        for logits, threshold in zip(self.logits, thresholds, strict=True):
            local(logits).sub_(due * part_of(threshold, logits))

    def _clamp_logits(self) -> None:
        limit = self.settings.max_logit
        if limit is None:
            return
        for logits in self.logits:
            local(logits).clamp_(-limit, limit)
