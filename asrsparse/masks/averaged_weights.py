"""An exponential moving average (EMA) of weights that goes through all phases of masks, and through their exit.

PyTorch's `AveragedModel` averages a model's parameters one by one. That goes wrong under masks: parameters come and go
with the masks, and an average of weights of which others are zero in each step has hardly a zero. Here the weights
are averaged with which the model computes, under its own names, and what is zero in the model is zero in the average.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from asrsparse.masks.sparse_masks import SparseMasks


class AveragedWeights:
    """The EMA of the weights with which a model under masks computes, a <- decay a + (1 - decay) w in each update.

    It begins with the weights at construction. A weight that is dropped is zero in the average from there on, also when
    it is regrown later: it begins anew there, as in the model. If layers change their size, the average begins anew.

    Args:
        masks: The masks of the model; `DenseMask` ones for an average without masks.
        decay: What is left of the average in each update, in [0, 1).

    Raises:
        ValueError: If `decay` is outside its range.

    Example:
        >>> from torch import nn
        >>> from asrsparse.masks import RandomMask, SparseMasks
        >>> model = nn.Linear(8, 4)
        >>> masks = SparseMasks.attach(model, RandomMask(density=0.25))
        >>> optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
        >>> averaged = AveragedWeights(masks, decay=0.9)
        >>> for step in range(1, 11):
        ...     model(torch.randn(2, 8)).square().mean().backward()
        ...     optimizer.step()
        ...     left = masks.step(step / 10, optimizer)
        ...     averaged.update()
        >>> plain = nn.Linear(8, 4)
        >>> plain.load_state_dict(averaged.state_dict())
        <All keys matched successfully>
        >>> masks.density_of(averaged.state_dict())
        0.25
    """

    def __init__(self, masks: SparseMasks, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay: got {decay}, allowed is a share in [0, 1). A usual one is 0.999.")
        self._masks = masks
        self.decay = decay
        self._averaged = _copy(masks.merged_state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights as they are now into the average; to be called after each `masks.step`."""
        now = self._masks.merged_state_dict()
        if _shapes(now) != _shapes(self._averaged):
            self._averaged = _copy(now)
            return
        for name, value in now.items():
            averaged = self._averaged[name]
            if value.is_floating_point():
                averaged.lerp_(value.to(averaged), 1.0 - self.decay)
            else:
                averaged.copy_(value)  # a counter
        for name in self._masks.masked_names:
            self._averaged[name].masked_fill_((now[name] == 0.0).to(self._averaged[name].device), 0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the average, in float32 or better; it loads strictly into the plain model."""
        return dict(self._averaged)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from the average that `state_dict` returned, of a run that is resumed.

        Raises:
            ValueError: If it is of another model.
        """
        if _shapes(state) != _shapes(self._averaged):
            raise ValueError(
                "state: got an average of other weights, allowed is one of this model. Build the model, and load its "
                "masks and weights, before the average of the same run."
            )
        for name, value in state.items():
            self._averaged[name].copy_(value)


def _copy(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns new tensors, in float32 at least: small steps of an average are lost in lower precision."""
    return {name: value.detach().to(_type_of(value), copy=True) for name, value in weights.items()}


def _type_of(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
