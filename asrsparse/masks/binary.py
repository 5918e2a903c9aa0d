"""Masks of zeros and ones, chosen by scores: once (random, SNIP, magnitude), or again and again (SET, RigL, GraNet).

A method is a choice of four things: the saliency of the first masks, the one that decides which weights are dropped,
the one that decides which are regrown in their place, and how the density and the replaced share change. `BinaryMask`
takes them all; the methods of the literature (`methods.py`) are the same settings with other defaults.

Gradients come from the step before a choice, taken where they arrive, with the weights that are masked out at zero, and
are summed over batches that are accumulated and over ranks. All ranks draw the same random numbers.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.allocation import warn_of_emptied
from asrsparse.masks.fixed_zeros import FixedZeros
from asrsparse.masks.phases import Phase, SparsePhase, all_ones
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.saliency import MagnitudeSaliency, RandomSaliency, Saliency, SaliencyInputs, window_of
from asrsparse.masks.sensitivities import Sensitivities
from asrsparse.masks.settings import MaskSettings
from asrsparse.masks.sharding import full, is_sharded, join_like, sum_over_ranks
from asrsparse.masks.weights import Weight
from asrsparse.schedules import Constant, Cubic, Schedule


@dataclass(frozen=True, kw_only=True)
class BinaryMask(MaskSettings):
    """A method with masks of zeros and ones by any saliencies.

    Args:
        density: The share of the masked parameters that stays, in (0, 1].
        initial_density: The density at `start`, which then falls as a cubic to `density`; None for `density` at once.
        first: The saliency of the first masks.
        keep: The saliency by which weights stay when masks are chosen again.
        grow: The saliency by which others are regrown in the place of those replaced.
        replaced_share: The share of the kept weights that is replaced, as a function of the share of the phase that is
            done.
        every: The share of training between two choices, the last one at least that long before `until`; None for no
            second choice. If updates are so few that the last one made did not reach `density`, one more is due at
            `until`, which only drops.
        seed: The seed of random saliencies; all ranks must have the same.

    Raises:
        ValueError: If a value is outside its range.
    """

    density: float = 0.5
    initial_density: float | None = None
    first: Saliency = field(default_factory=RandomSaliency)
    keep: Saliency = field(default_factory=MagnitudeSaliency)
    grow: Saliency = field(default_factory=RandomSaliency)
    replaced_share: Schedule = field(default_factory=lambda: Constant(0.0))
    every: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("density", "initial_density", "every"):
            self._require_share(name)
        if self.initial_density is not None and self.every is None:
            raise ValueError(
                f"every: got None with initial_density={self.initial_density}, allowed is a share in (0, 1]: "
                "a density that falls needs choices again and again. Set every, or initial_density=None."
            )
        self._check_window("first", "start", self.start)
        if self.every is not None:
            self._check_window("keep", "every", self.every)

    def begin(self, model: nn.Module) -> Phase:
        """Enters the phase of this method; with `start=0` and no need of gradients it chooses the first masks."""
        return BinaryPhase(self, self.take_weights(model, self.density))

    def density_at(self, progress: float) -> float:
        """Returns the density to choose at this progress of training."""
        if self.initial_density is None:
            return self.density
        return Cubic(self.initial_density, self.density)(self._share_of_choices(progress))

    def choose(self, weights: Sequence[Weight], inputs: SaliencyInputs, progress: float) -> list[Tensor]:
        """Returns the first masks, bool, (U...) for each weight; True = keep."""
        return self.allocation.choose(weights, self.first(inputs), self.density_at(progress))

    def choose_again(
        self, weights: Sequence[Weight], inputs: SaliencyInputs, alive: Sequence[Tensor], progress: float
    ) -> list[Tensor]:
        """Returns the masks after those that are `alive` now: drops by `keep`, then fills up by `grow`."""
        density, replaced = self.density_at(progress), self.replaced_at(progress)
        scores = [score.masked_fill(~mask, -torch.inf) for score, mask in zip(self.keep(inputs), alive, strict=True)]
        survivors = self.allocation.choose(weights, scores, density * (1.0 - replaced))
        if replaced == 0.0:
            return survivors
        wanted = [score.masked_fill(mask, torch.inf) for score, mask in zip(self.grow(inputs), survivors, strict=True)]
        return self.allocation.choose(weights, wanted, density)

    def needs_gradient(self, is_first: bool, progress: float) -> bool:
        """Returns whether a choice of masks uses gradients."""
        if is_first:
            return self.first.needs_gradient
        return self.keep.needs_gradient or (self.replaced_at(progress) > 0.0 and self.grow.needs_gradient)

    def replaced_at(self, progress: float) -> float:
        """Returns the share of the kept weights to replace at this progress; from `until` on it is 0."""
        return self.replaced_share(self._share_of_choices(progress)) if progress < self.until else 0.0

    def window(self, is_first: bool) -> float | None:
        """Returns the share of training before a choice over which sensitivities are collected; None for none."""
        return window_of(self.first if is_first else self.keep)

    def _check_window(self, name: str, limiting: str, limit: float) -> None:
        window = window_of(getattr(self, name))
        if window is not None and window > limit:
            raise ValueError(
                f"{name}: got a saliency with window={window} and {limiting}={limit}, allowed is a window of at most "
                f"{limiting}: it comes before the choice. Use a shorter one (0 for one step), or a larger {limiting}."
            )

    def _share_of_choices(self, progress: float) -> float:
        """Returns the share of the time between the first choice and the last one that is over, in [0, 1]."""
        last = self.until - (self.every or 0.0)
        return min(max((progress - self.start) / (last - self.start), 0.0), 1.0) if last > self.start else 1.0


class BinaryPhase(SparsePhase):
    """The phase in which a `BinaryMask` chooses.

    Args:
        settings: The method.
        weights: The weights that get a mask.
    """

    def __init__(self, settings: BinaryMask, weights: Sequence[Weight]) -> None:
        super().__init__(weights, all_ones(weights), RegrownWeights(weights, settings.regrowth_warmup), optimizer=None)
        self.settings = settings
        self.exit, self.compacting = settings.exit, settings.compacting
        self._collecting = False
        self._chosen_density = 1.0  # that of the last choice
        self._sensitivities = Sensitivities(weights)
        if settings.start == 0.0 and not settings.first.needs_gradient:
            self._choose(0.0, None)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the phase: `"dense"`, and `"sparse"` from the first masks on."""
        return "sparse" if self.num_checks else "dense"

    @property
    def is_choosing(self) -> bool:  # type: ignore[override]
        """Whether the first masks are not there yet, or others will follow them."""
        return self.num_checks == 0 or self.settings.every is not None

    def step(self, progress: float, optimizer: Optimizer) -> bool:
        """Chooses masks if a choice is due; returns whether the phase is over."""
        if self.num_checks:
            super().step(progress, optimizer)
        if self._collecting or self._is_due(progress + (self._window or 0.0)):
            self._choose_or_collect(progress, optimizer)
        return progress >= self.settings.until and not self._collecting

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks, and how many times they were chosen."""
        return {
            **super().state_dict(),
            "num_checks": self.num_checks,
            "collecting": self._collecting,
            "changed_share": self.changed_share,
            "chosen_density": self._chosen_density,
            "sensitivities": self._sensitivities.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        super().load_state_dict(state)
        self.num_checks, self.changed_share = state["num_checks"], state["changed_share"]
        self._chosen_density = state.get("chosen_density", self.settings.density)  # earlier versions have none
        if state["collecting"]:
            self._collect()
        if "sensitivities" in state:  # checkpoints of earlier versions have none
            self._sensitivities.load_state_dict(state["sensitivities"])

    def _is_due(self, progress: float) -> bool:
        """Returns whether the first choice is due or, after it, the next one: by `every`, or to reach the density."""
        start, every, until = self.settings.start, self.settings.every, self.settings.until
        if self.num_checks == 0:
            return progress >= start
        if progress >= until:
            return self._chosen_density > self.settings.density
        return every is not None and progress >= start + self.num_checks * every

    @property
    def _window(self) -> float | None:
        return self.settings.window(is_first=self.num_checks == 0)

    def _choose_or_collect(self, progress: float, optimizer: Optimizer) -> None:
        if self._collecting and self._window is not None:
            self._sensitivities.add([zeros.product() for zeros in self._zeros])
        needed = self.settings.needs_gradient(self.num_checks == 0, progress)
        if needed and (not self._collecting or self._is_in_window(progress)):
            self._collect()
        else:
            self._choose(progress, optimizer)

    def _is_in_window(self, progress: float) -> bool:
        """Returns whether the choice for which sensitivities are collected is still to come."""
        return bool(self._window) and progress < self.settings.until and not self._is_due(progress)

    def _collect(self) -> None:
        self._collecting = True
        for zeros in self._zeros:
            zeros.collect(with_product=self._window is not None)

    def _choose(self, progress: float, optimizer: Optimizer | None) -> None:
        inputs = self._saliency_inputs()
        lacking = self._window is not None and not self._sensitivities.num_steps
        if lacking or not all(torch.isfinite(gradient).all() for gradient in inputs.gradients):
            self._collect()  # as after a step that a gradient scaler skipped
            return
        alive = [m.to(v.device) for m, v in zip(self._unit_masks, inputs.values, strict=True)]
        if self.num_checks == 0:
            masks = self.settings.choose(self.weights, inputs, progress)
        else:
            masks = self.settings.choose_again(self.weights, inputs, alive, progress)
        self.changed_share = _changed_share(self.weights, alive, masks)
        self._chosen_density = self.settings.density_at(progress)
        warn_of_emptied(self.weights, alive, masks)
        self.set_masks(masks, optimizer)
        every = self.settings.every
        passed = int((progress - self.settings.start) / every) if every is not None else 0
        self.num_checks = max(self.num_checks, passed) + 1
        self._sensitivities.clear()

    def _saliency_inputs(self) -> SaliencyInputs:
        gradients = [_gradient(zeros) for zeros in self._zeros] if self._collecting else []
        self._collecting = False
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.num_checks)
        values = [full(weight.parameter.detach()) for weight in self.weights]
        tilings, sensitivities = [weight.tiling for weight in self.weights], self._sensitivities.means()
        return SaliencyInputs(values, gradients, tilings, generator, sensitivities)


def _gradient(zeros: FixedZeros) -> Tensor:
    """Returns the gradient of a whole weight over the batches of all ranks, the same on each (averaged by FSDP2)."""
    if is_sharded(zeros.weight.parameter):
        return join_like(zeros.collected(), zeros.weight.parameter)
    return sum_over_ranks(zeros.collected())


def _changed_share(weights: Sequence[Weight], before: Sequence[Tensor], now: Sequence[Tensor]) -> float:
    """Returns the share of masked parameters whose bit changed, in [0, 1]."""
    changed = sum(int((b != n).sum()) * w.parameters_per_unit for w, b, n in zip(weights, before, now, strict=True))
    return changed / sum(weight.size for weight in weights)
