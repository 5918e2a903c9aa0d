"""Measures how much masks still change.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

STATE_KEY = "churn"
"""The key of the state of `MaskChanges` in checkpoints, by which those of earlier versions load too."""


class MaskChanges:
    """The share of mask bits that changed between two checks.

    It is the sparse architecture divergence of SR-STE (https://arxiv.org/abs/2102.04010), counted in bits.

    Args:
        check_every: The share of the phase, or of the training, between two checks.

    Example:
        >>> import torch
        >>> changes = MaskChanges(check_every=0.1)
        >>> for share, bits in ((0.1, [True, True]), (0.15, [False, False]), (0.2, [True, False])):
        ...     changes.check(share, lambda: [torch.tensor(bits)])
        >>> changes.num_checks, changes.changed_share
        (2, 0.5)
    """

    def __init__(self, check_every: float) -> None:
        self.check_every = check_every
        self.num_checks = 0
        self.changed_share = 1.0
        """The share of bits that changed between the last two checks, in [0, 1]; 1.0 before the second check."""
        self._checked: list[Tensor] = []

    def check(self, share: float, masks_now: Callable[[], Sequence[Tensor]]) -> None:
        """Compares the masks with those of the last check, if the next one is due.

        Args:
            share: The share of the phase, or of the training, that is done.
            masks_now: Returns the masks: bool, any number of tensors.
        """
        num_checks = int(share / self.check_every)
        if num_checks == self.num_checks:
            return
        masks = masks_now()
        if self._checked:
            pairs = zip(masks, self._checked, strict=True)
            changed = sum(int((now != before.to(now.device)).sum()) for now, before in pairs)
            self.changed_share = changed / sum(mask.numel() for mask in masks)
        self._checked, self.num_checks = [mask.clone() for mask in masks], num_checks

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks at the last check, and what it found."""
        return {"num_checks": self.num_checks, "changed_share": self.changed_share, "checked": list(self._checked)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.num_checks, self.changed_share = state["num_checks"], state["changed_share"]
        self._checked = [mask.clone() for mask in state["checked"]]
