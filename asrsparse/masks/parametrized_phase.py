"""The base of the phases in which a mask stands before each weight, as a parametrisation."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from asrsparse.masks.mask_changes import MaskChanges
from asrsparse.masks.parametrized import ParametrizedWeight, require_whole
from asrsparse.masks.phases import Phase
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.settings import MaskSettings
from asrsparse.masks.weights import Weight


class ParametrizedPhase(Phase):
    """A phase in which masks stand before the weights from `start` on, with checks of whether they are stable.

    Args:
        settings: The method.
        weights: The weights that get a mask.
        changes: Measures how much the masks change.
        stable_share: The masks are stable once at most this share of their bits has changed between two checks.
    """

    is_choosing = True

    def __init__(
        self, settings: MaskSettings, weights: Sequence[Weight], changes: MaskChanges, stable_share: float
    ) -> None:
        super().__init__(weights, RegrownWeights(weights, settings.regrowth_warmup))
        self.exit, self.compacting = settings.exit, settings.compacting
        self._changes = changes
        self._stable_share = stable_share
        self._masked: list[ParametrizedWeight] = []

    @property
    def is_open(self) -> bool:
        """Whether the masks stand before the weights."""
        return bool(self._masked)

    @property
    def changed_share(self) -> float:  # type: ignore[override]
        """The share of mask bits that changed between the last two checks."""
        return self._changes.changed_share

    @property
    def num_checks(self) -> int:  # type: ignore[override]
        """The number of checks until now."""
        return self._changes.num_checks

    @property
    def is_stable(self) -> bool:  # type: ignore[override]
        """Whether at most `stable_share` of the bits changed between the last two checks."""
        return self.changed_share <= self._stable_share

    def bind(self) -> None:
        """Checks that the masks stand before the weights already, as they cannot be put before sharded ones.

        Raises:
            ValueError: If a mask does not stand before its weight yet.
        """
        super().bind()
        for weight in () if self.is_open else self.weights:
            require_whole(weight)

    def end(self, optimizer: Optimizer | None) -> None:
        """Removes the masks before the weights."""
        for masked in self._masked:
            masked.remove()

    def _put_before_weights(self, masks: Sequence[nn.Module]) -> None:
        """Puts a parametrisation before each weight."""
        self._masked = [ParametrizedWeight(weight, mask) for weight, mask in zip(self.weights, masks, strict=True)]
