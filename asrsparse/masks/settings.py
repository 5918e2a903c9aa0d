"""What all mask methods let a user set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from torch import nn

from asrsparse.masks.allocation import Allocation, ErdosRenyi
from asrsparse.masks.granularity import Granularity, SingleWeights
from asrsparse.masks.phases import Exit
from asrsparse.masks.weights import Weight, take


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """The settings that mask methods share.

    Args:
        start: The share of training after which masks come into being, in [0, 1); before it, the model is dense.
        until: The share of training after which they leave their phase, in (0, 1], not before `start`.
        exit: What follows: `"dense"` trains all weights from there, `"sparse"` keeps the zeros.
        include: Patterns of weights to mask, see `weights.select`.
        exclude: Patterns of weights to leave dense. For a recogniser of ESPnet parts, leave out the subsampling and the
            output layers: `["encoder.embed.*|ctc.*|decoder.output_layer.*"]`.
        granularity: What is kept or dropped at once.
        allocation: How the density is shared out over the weights.
        rebirth_warmup: Optimiser steps in which weights that come back warm up.

    Raises:
        ValueError: If a value is outside its range.
    """

    start: float = 0.0
    until: float = 1.0
    exit: Exit = "sparse"
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    granularity: Granularity = field(default_factory=SingleWeights)
    allocation: Allocation = field(default_factory=ErdosRenyi)
    rebirth_warmup: int = 50

    def __post_init__(self) -> None:
        if not (0.0 <= self.start < 1.0 and self.start <= self.until <= 1.0 and self.until > 0.0):
            raise self._wrong(f"start={self.start}, until={self.until}", "shares of training, 0 <= start <= until <= 1")
        if self.exit not in get_args(Exit):
            raise self._wrong(f"exit={self.exit!r}", ", ".join(get_args(Exit)))
        if self.rebirth_warmup < 0:
            raise self._wrong(f"rebirth_warmup={self.rebirth_warmup}", "optimiser steps from 0 on")

    def take_weights(self, model: nn.Module, density: float | None) -> list[Weight]:
        """The weights to mask, from now on under the masks of this method alone.

        Raises:
            ValueError: If the patterns, the granularity or the density do not fit the model, or it has masks already.
        """
        weights = self.granularity.weights(model, self.include, self.exclude)
        if density is not None:
            self.allocation.check(weights, density)
        take(weights)
        return weights

    def share(self, progress: float) -> float:
        """The share of the phase that is done, in [0, 1]; 0 before `start`."""
        if progress >= self.until:
            return 1.0
        return max(0.0, (progress - self.start) / (self.until - self.start)) if progress > self.start else 0.0

    def _wrong(self, got: str, allowed: str) -> ValueError:
        return ValueError(f"{type(self).__name__}: got {got}, allowed is {allowed}.")

    def _require_share(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not 0.0 < value <= 1.0:
            raise self._wrong(f"{name}={value}", "a share in (0, 1]")
