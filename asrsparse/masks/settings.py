"""The arguments that all mask methods have."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from torch import nn

from asrsparse.masks.allocation import Allocation, ErdosRenyi
from asrsparse.masks.granularity import Granularity, SingleWeights, Structured
from asrsparse.masks.phases import Compacting, Exit
from asrsparse.masks.weights import Weight, require_ready, take


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """The settings that mask methods share.

    Args:
        start: The share of training after which masks come into being, in [0, 1) and not after `until`; before it, the
            model is dense. Methods whose masks stand before the weights (learned ones, SR-STE, decaying) need
            `start=0` under FSDP2.
        until: The share of training after which they leave their phase, in (0, 1], not before `start`.
        exit: What follows: `"dense"` trains all weights from there, `"sparse"` keeps the zeros.
        include: Patterns of weights to mask, see `weights.select`.
        exclude: Patterns of weights to leave dense. For a recogniser of ESPnet parts, leave out the subsampling and the
            output layers: `["encoder.embed.*|ctc.*|decoder.output_layer.*"]`.
        granularity: What is kept or dropped at once: single weights, blocks, or whole units of the model.
        allocation: How the density is distributed over the weights.
        regrowth_warmup: The optimiser steps in which the learning rate of regrown weights rises to that of the others.
        compact_at_exit: Whether units that are masked out leave the model at the exit, so that all later steps are as
            fast as a small model's (`compacted`); for `Structured` granularity. With `exit="dense"` they are away until
            `regrow_at`; without that they are trained on at once, and nothing gets smaller.
        regrow_at: The share of training after which all units are there again, after `until`; for `exit="dense"`.

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
    regrowth_warmup: int = 50
    compact_at_exit: bool = False
    regrow_at: float | None = None

    def __post_init__(self) -> None:
        if not (0.0 <= self.start < 1.0 and self.start <= self.until <= 1.0 and self.until > 0.0):
            raise ValueError(
                f"start and until: got start={self.start} and until={self.until}, allowed are shares of training with "
                "0 <= start <= until <= 1, start < 1 and until > 0. Move until, too."
            )
        if self.exit not in get_args(Exit):
            raise wrong("exit", self.exit, f"are {' and '.join(get_args(Exit))}")
        if self.regrowth_warmup < 0:
            raise wrong("regrowth_warmup", self.regrowth_warmup, "are optimiser steps from 0 on")
        if self.compact_at_exit and not isinstance(self.granularity, Structured):
            raise ValueError(
                f"compact_at_exit: got True with granularity={type(self.granularity).__name__}, allowed is Structured: "
                "its units can leave the model, zeros of weights or blocks cannot. Set granularity=Structured()."
            )
        if self.regrow_at is not None:
            self._check_regrow_at(self.regrow_at)

    @property
    def compacting(self) -> Compacting | None:
        """What leaves the model at the exit; None if it keeps its size."""
        if not self.compact_at_exit or (self.exit == "dense" and self.regrow_at is None):
            return None
        assert isinstance(self.granularity, Structured)
        return Compacting(self.granularity.kinds, self.regrow_at)

    def take_weights(self, model: nn.Module, density: float | None) -> list[Weight]:
        """Returns the weights to mask, which no other method may mask from here on.

        Raises:
            ValueError: If the patterns, the granularity or the density do not fit the model, or it has masks already,
                or is not ready for them.
        """
        require_ready(model)
        weights = self.granularity.weights(model, self.include, self.exclude)
        if density is not None:
            self.allocation.check(weights, density)
        take(weights)
        return weights

    def share(self, progress: float) -> float:
        """Returns the share of the phase that is done, in [0, 1]; 0 before `start`."""
        if progress >= self.until:
            return 1.0
        return max(0.0, (progress - self.start) / (self.until - self.start)) if progress > self.start else 0.0

    def _check_regrow_at(self, regrow_at: float) -> None:
        if self.exit != "dense" or not self.compact_at_exit:
            raise ValueError(
                f"regrow_at: got {regrow_at} with exit={self.exit!r} and compact_at_exit={self.compact_at_exit}, "
                'allowed is None: only a compacted model is regrown. Set exit="dense" and compact_at_exit=True.'
            )
        if not self.until < regrow_at < 1.0:
            raise ValueError(
                f"regrow_at: got {regrow_at} with until={self.until}, allowed is a share of training between until, "
                "when the model is compacted, and 1."
            )

    def _require_share(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not 0.0 < value <= 1.0:
            raise wrong(name, value, "is a share in (0, 1]")


def wrong(argument: str, got: object, allowed: str) -> ValueError:
    """Returns the error of a constructor about one of its arguments.

    Example:
        >>> raise wrong("density", 2.0, "is a share in (0, 1]")
        Traceback (most recent call last):
            ...
        ValueError: density: got 2.0, allowed is a share in (0, 1].
    """
    return ValueError(f"{argument}: got {got!r}, allowed {allowed}.")
