"""Masks that are learned with the weights (MSRS, https://arxiv.org/abs/2406.17614).

Each weight theta has a logit phi; the model computes with theta * sigmoid(l * phi), and both are trained on the
task's loss plus a sparse regularisation, lambda * mean(phi). The temperature l grows until the mask is near-binary.
What the mask keeps in the end is phi > 0. The values of l and lambda, the length of the phase and the way to reach a
density are not known of the paper: they are decisions of this toolkit.

**How a target density is reached.** With Adam, the size of lambda hardly matters and the number of steps does, so that
no fixed lambda gives a wanted density. But the gradient of lambda * mean(phi) is the same for every logit: its descent
step is one shift of them all. As AdamW takes weight decay out of the loss, we take this regularisation out, and solve
for the lambda of each step: the shift that brings the logit at the wanted quantile to zero, in equal parts until
`reach_by`, and entirely in each step from then on. Which logits lie above it, the task's loss alone decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.moments import forget
from asrsparse.masks.phases import Exit, Phase
from asrsparse.masks.soft_mask import SoftMaskedWeight
from asrsparse.masks.weights import Weight, select_weights, take
from asrsparse.schedules import Geometric, Schedule

PenaltyOn = Literal["logits", "mask"]

_SAMPLE_SIZE = 2**17  # logits that stand for all of them in the quantile: an error of 0.15 % of density
_NEAR_BINARY = 0.05  # a mask this close to 0 or 1 counts as near-binary


@dataclass(frozen=True)
class LearnedMask:
    """The settings of learned masks (MSRS).

    `target_density` holds a density; `penalty_weight` adds the paper's regularisation to the loss. One of the two makes
    the masks sparse, and both may be used: then the penalty adds to what the logits learn, at the density that is held.

    Args:
        until: The share of training in which masks are learned, in (0, 1]. The phase ends sooner if they are stable.
        target_density: The share of masked weights to keep, in (0, 1]; None leaves it to `penalty_weight`.
        penalty_weight: lambda, at least 0.
        penalty_on: What the penalty is the mean of: `"logits"` (phi) or `"mask"` (sigmoid(l * phi), as in Continuous
            Sparsification, https://arxiv.org/abs/1912.04427, Equation 6).
        exit: What follows: `"dense"` zeroes the weights that are masked out and trains them all from there; `"sparse"`
            keeps them at zero.
        exclude: Patterns of weights to leave dense, see `select_weights`. For a recogniser of ESPnet parts, leave out
            the subsampling and the output layers: `["encoder.embed.*", "decoder.output_layer.*", "ctc.*"]`.
        logit: The value at which the logits start, positive, so that all weights are in the mask at first.
        logit_lr: The learning rate of the logits, for an optimiser whose steps do not depend on the size of gradients
            (Adam's kind). A step is to be small next to `logit`, and all steps of the phase together large.
        max_logit: The logits are clamped to plus and minus this; without it the penalty would drive them ever lower.
        temperature: l, as a function of the share of the phase.
        reach_by: The share of the phase after which the density is at its target, and the mask may be called stable.
        check_every: The share of the phase between two checks of the mask.
        stable_share: The mask is stable once at most this share of its bits has changed between two checks.

    Raises:
        ValueError: If a value is outside its range, or nothing would make the masks sparse.
    """

    until: float = 0.25
    target_density: float | None = 0.5
    penalty_weight: float = 0.0
    penalty_on: PenaltyOn = "logits"
    exit: Exit = "dense"
    exclude: Sequence[str] = ()
    logit: float = 1.0
    logit_lr: float = 0.03
    max_logit: float = 2.0
    temperature: Schedule = field(default_factory=lambda: Geometric(1.0, 100.0))
    reach_by: float = 0.5
    check_every: float = 0.05
    stable_share: float = 0.001

    def __post_init__(self) -> None:
        for name in ("until", "target_density", "reach_by", "check_every"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"LearnedMask: got {name}={value}, allowed is a share in (0, 1].")
        for name, choices in (("exit", get_args(Exit)), ("penalty_on", get_args(PenaltyOn))):
            if getattr(self, name) not in choices:
                raise ValueError(f"LearnedMask: got {name}={getattr(self, name)!r}, allowed are {', '.join(choices)}.")
        for name in ("logit", "logit_lr", "max_logit"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"LearnedMask: got {name}={getattr(self, name)}, allowed are positive values.")
        if self.penalty_weight < 0.0 or (self.target_density is None and self.penalty_weight == 0.0):
            raise ValueError(
                f"LearnedMask: got target_density={self.target_density} and penalty_weight={self.penalty_weight}; "
                "allowed is a target_density in (0, 1], a positive penalty_weight, or both."
            )

    def begin(self, model: nn.Module) -> Phase:
        """Puts a soft mask on each chosen weight and begins to learn."""
        weights = select_weights(model, self.exclude)
        take(weights)
        return LearnedPhase(self, weights)


class LearnedPhase(Phase):
    """The time in which masks are learned.

    Args:
        settings: What was asked for.
        weights: The weights that get a mask.
    """

    name = "learning"

    def __init__(self, settings: LearnedMask, weights: Sequence[Weight]) -> None:
        super().__init__(weights)
        self.settings = settings
        self.exit = settings.exit
        self.changed_share = 1.0
        self._temperature = torch.tensor(settings.temperature(0.0))  # the masks share it
        self._masked = [SoftMaskedWeight(weight, settings.logit, self._temperature) for weight in weights]
        self._num_masked = sum(weight.parameter.numel() for weight in weights)
        self._share = 0.0  # of the phase that is done
        self._shift = torch.zeros(())  # of all logits, in the last step
        self._checked: list[Tensor] = []  # the masks at the last check
        self._num_checks = 0

    @property
    def logits(self) -> list[nn.Parameter]:
        """The logits phi, one tensor for each weight, of its shape."""
        return [masked.soft_mask.logits for masked in self._masked]

    def weight_masks(self) -> list[Tensor]:
        """The weights whose logit is positive."""
        return [logits.detach() > 0.0 for logits in self.logits]

    def param_groups(self) -> list[dict[str, Any]]:
        """The logits have their own learning rate and no decay, and may lie in the optimiser after their end."""
        return [{"params": self.logits, "lr": self.settings.logit_lr, "weight_decay": 0.0, "name": "mask_logits"}]

    def penalty(self) -> Tensor:
        """The mean of phi or of sigmoid(l * phi) over all masked weights, times lambda."""
        if self.settings.penalty_weight == 0.0:
            return super().penalty()
        on_logits = self.settings.penalty_on == "logits"
        totals = [(m.logits if on_logits else m.soft_mask.mask()).sum() for m in self._masked]
        return self.settings.penalty_weight / self._num_masked * torch.stack(totals).sum()

    @torch.no_grad()
    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Moves the logits to the target density, raises the temperature, and checks whether the mask is stable."""
        share = min(progress / self.settings.until, 1.0)
        self._shift_logits(share)
        self._temperature.fill_(self.settings.temperature(share))
        self._share = share
        self._check()
        return share >= 1.0 or (share >= self.settings.reach_by and self.changed_share <= self.settings.stable_share)

    def end(self, optimizer: Optimizer | None) -> None:
        """Removes the soft masks; the logits and what the optimiser kept of them take no memory any more."""
        for masked in self._masked:
            masked.remove()
            if optimizer is not None:
                forget(optimizer, masked.logits)

    def effective_weights(self) -> list[Tensor]:
        """The products theta * sigmoid(l * phi)."""
        return [masked.soft_mask(masked.weight.parameter).detach() for masked in self._masked]

    def summary(self) -> dict[str, float]:
        """The temperature, the share of near-binary masks, and the penalty: its weight, and the shift of the logits."""
        near = sum((m.soft_mask.mask().detach() - 0.5).abs().gt(0.5 - _NEAR_BINARY).sum().item() for m in self._masked)
        return {
            "temperature": self._temperature.item(),
            "near_binary_share": near / self._num_masked,
            "penalty_weight": self.settings.penalty_weight,
            "penalty_shift": self._shift.item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """The logits and the masks at the last check, by the names of their weights, and where the phase stands."""
        names = [weight.name for weight in self.weights]
        return {
            "logits": dict(zip(names, [logits.detach() for logits in self.logits], strict=True)),
            "checked": dict(zip(names, self._checked, strict=False)),
            "num_checks": self._num_checks,
            "share": self._share,
            "changed_share": self.changed_share,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        for weight, logits in zip(self.weights, self.logits, strict=True):
            logits.copy_(state["logits"][weight.name])
        self._checked = [checked.clone() for checked in state["checked"].values()]
        self._num_checks = state["num_checks"]
        self.changed_share = state["changed_share"]
        self._share = state["share"]
        self._temperature.fill_(self.settings.temperature(self._share))

    def _shift_logits(self, share: float) -> None:
        """The regularisation step that `target_density` asks for, then the clamp; `share` is that now reached."""
        target, reach_by = self.settings.target_density, self.settings.reach_by
        if target is not None:
            due = 1.0 if share >= reach_by else (share - self._share) / (reach_by - self._share)
            self._shift = due * _lowest_kept(self.logits, target)
        for logits in self.logits:
            logits.sub_(self._shift).clamp_(-self.settings.max_logit, self.settings.max_logit)

    def _check(self) -> None:
        """Compares the masks with those of the last check, where one is due: SR-STE's SAD, in bits (2102.04010)."""
        num_checks = int(self._share / self.settings.check_every)
        if num_checks == self._num_checks:
            return
        masks = self.weight_masks()
        if self._checked:
            pairs = zip(masks, self._checked, strict=True)
            changed = sum((now != before.to(now.device)).sum().item() for now, before in pairs)
            self.changed_share = changed / self._num_masked
        self._checked, self._num_checks = masks, num_checks


def _lowest_kept(logits: Sequence[Tensor], density: float) -> Tensor:
    """The logit above which lies a share `density` of all logits, from an even sample of them, as a 0-d tensor."""
    stride = math.ceil(sum(tensor.numel() for tensor in logits) / _SAMPLE_SIZE)
    stride |= 1  # odd, so that the sample visits all rows and columns, whose number mostly is a power of two
    sample = torch.cat([tensor.detach().flatten()[::stride] for tensor in logits])
    rank = round((1.0 - density) * sample.numel())
    return sample.kthvalue(rank).values if rank > 0 else sample.new_zeros(())
