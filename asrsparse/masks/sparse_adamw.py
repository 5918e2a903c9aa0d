"""AdamW that keeps moments of live weights only.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

_LIVE = "live"  # the key in the optimiser's state

_live_weights = WeakTensorKeyDictionary()
"""Which of a parameter's weights the masks keep: bool, of its shape; a parameter that is not in it is all alive."""


def set_live_weights(parameter: nn.Parameter, live: Tensor | None) -> None:
    """Says which weights of a parameter `SparseAdamW` remembers.

    Args:
        parameter: One of the parameters that the optimiser trains.
        live: True for the weights that the mask keeps, bool, of the parameter's shape; None for all of them.
    """
    if live is None:
        _live_weights.pop(parameter, None)  # type: ignore[no-untyped-call]
    else:
        _live_weights[parameter] = live


class SparseAdamW(Optimizer):
    """AdamW (https://arxiv.org/abs/1711.05101, Algorithm 2) that keeps the moments of live weights alone.

    The steps are those of `torch.optim.AdamW`; with fixed masks of density d, the moments take d of its memory, and
    one byte for each weight says whether it is live. Gathering live weights costs time (`benchmarks/mask_overhead.py`
    measures both). If masks change, weights that stay keep their moments, and new ones begin with zero moments.

    Args:
        params: Parameters or groups, as of any optimiser: `masks.param_groups(lr=..., weight_decay=...)`.
        lr: The learning rate.
        betas: The decays of the two moments.
        eps: A number that is added to the root of the second moment.
        weight_decay: The weight decay, decoupled from the gradient.

    Example:
        >>> from asrsparse.masks import RandomMask, SparseMasks
        >>> model = nn.Linear(40, 100, bias=False)
        >>> masks = SparseMasks.attach(model, RandomMask(density=0.2))
        >>> optimizer = SparseAdamW(masks.param_groups(lr=0.01))
        >>> model(torch.ones(1, 40)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[model.weight]["exp_avg"].shape
        torch.Size([800])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes a step with the gradients of the parameters that have one.

        Args:
            closure: Computes the loss again, if it is given.

        Returns:
            The loss of `closure`, or None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def remember_all(self, parameter: nn.Parameter) -> None:
        """Keeps the moments of all weights of a parameter from here on; new ones are zero.

        It is done before the parameter gets another shape, since its moments have that shape then.
        """
        set_live_weights(parameter, None)
        if self.state.get(parameter):
            del self._state_for(parameter, None)[_LIVE]

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        live = _live_weights.get(parameter)  # type: ignore[no-untyped-call]
        state = self._state_for(parameter, live)
        state["step"] += 1
        assert parameter.grad is not None
        if live is None:
            _adamw(parameter, parameter.grad, state, group)
            return
        weights = parameter[live]
        _adamw(weights, parameter.grad[live], state, group)
        parameter.masked_scatter_(live, weights)

    def _state_for(self, parameter: nn.Parameter, live: Tensor | None) -> dict[str, Any]:
        """Returns the state of a parameter, with the moments of those weights that are alive now."""
        state: dict[str, Any] = self.state[parameter]
        alive = (torch.ones_like(parameter, dtype=torch.bool) if live is None else live).flatten()
        if not state:
            zeros = torch.zeros_like(parameter if live is None else parameter[live])
            state.update({"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone(), _LIVE: alive})
        elif not torch.equal(state.setdefault(_LIVE, torch.ones_like(alive)), alive):
            before = state[_LIVE].bool()  # of the weights' type, where an optimiser has loaded it
            for name in ("exp_avg", "exp_avg_sq"):
                whole = torch.zeros_like(parameter).flatten()
                whole[before] = state[name].flatten()
                state[name] = whole.view_as(parameter) if live is None else whole[alive]
            state[_LIVE] = alive
        return state


def _adamw(weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Takes one step in place, with weights, gradient and moments of one shape."""
    (beta1, beta2), step = group["betas"], float(state["step"])
    state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    root = (state["exp_avg_sq"].sqrt() / math.sqrt(1.0 - beta2**step)).add_(group["eps"])
    weights.mul_(1.0 - group["lr"] * group["weight_decay"])
    weights.addcdiv_(state["exp_avg"], root, value=-group["lr"] / (1.0 - beta1**step))
