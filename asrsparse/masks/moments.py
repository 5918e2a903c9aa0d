"""The moments that an optimiser keeps of a weight (Adam's moments, SGD's momentum), and how they are cleared.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.sharding import local


def clear_moments(optimizer: Optimizer, parameter: nn.Parameter, dead: Tensor) -> None:
    """Zeroes the moments of the dead weights, so that neither momentum nor an old scale moves them later.

    This goes for everything that the optimiser keeps in the shape of the weight (`exp_avg`, `exp_avg_sq`,
    `max_exp_avg_sq`, `momentum_buffer`, ...). SMET (https://arxiv.org/abs/2606.00888) finds loss spikes without it.

    Args:
        optimizer: Any torch optimiser.
        parameter: One of its parameters.
        dead: True where the mask is zero, bool, of the shape of this rank's part of the parameter.
    """
    for moment in optimizer.state.get(parameter, {}).values():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape:
            local(moment).masked_fill_(dead, 0.0)


def rescale_moments(optimizer: Optimizer, parameter: nn.Parameter, factor: float) -> None:
    """Scales the moments of a parameter whose gradients are `factor` times as large from here on.

    Args:
        optimizer: Any torch optimiser; those of its moments whose names end in `_sq` are of squared gradients.
        parameter: One of its parameters.
        factor: The factor on gradients.
    """
    for name, moment in optimizer.state.get(parameter, {}).items():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape:
            local(moment).mul_(factor * factor if name.endswith("_sq") else factor)


def forget(optimizer: Optimizer, parameter: nn.Parameter) -> None:
    """Drops the state of a parameter, which stays in its group, so that optimiser state dicts still load."""
    optimizer.state.pop(parameter, None)


def move_moments(
    optimizer: Optimizer, before: nn.Parameter, after: nn.Parameter, change: Callable[[Tensor], Tensor]
) -> None:
    """Puts a parameter in the place of another: in its group, and with its moments, counters as they are.

    Args:
        optimizer: Any torch optimiser; nothing happens if it does not hold the parameter.
        before: The parameter that leaves.
        after: The one that takes its place, of another shape.
        change: Makes a moment of the shape of the one that of the other.
    """
    for group in optimizer.param_groups:
        group["params"] = [after if parameter is before else parameter for parameter in group["params"]]
    if before not in optimizer.state:
        return
    optimizer.state[after] = {
        name: change(value) if isinstance(value, Tensor) and value.shape == before.shape else value
        for name, value in optimizer.state.pop(before).items()
    }


def require_movable(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Checks that all that an optimiser keeps of parameters is of their shape, or a number.

    Raises:
        ValueError: If it keeps something else, that cannot be cut with them.
    """
    for parameter in parameters:
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != parameter.shape:
                raise ValueError(
                    f"optimizer: got a {type(optimizer).__name__} whose {name} of a weight {tuple(parameter.shape)} is "
                    f"{tuple(value.shape)}; allowed are moments of the weight's shape, which shrink with it. Use one "
                    "that keeps such (AdamW, SGD, ...), or compact the finished model."
                )


def require_held(optimizer: Optimizer, parameters: Iterable[nn.Parameter], what: str) -> None:
    """Checks that the optimiser trains all these parameters.

    Args:
        optimizer: Any torch optimiser.
        parameters: The parameters that it must hold.
        what: A name of them for the message: `"mask logits"`.

    Raises:
        ValueError: If it does not hold one of them.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    wanted = list(parameters)
    lacking = sum(id(parameter) not in held for parameter in wanted)
    if lacking:
        name = getattr(optimizer, "name", type(optimizer).__name__)  # several in one have a name
        raise ValueError(
            f"{name} does not hold {lacking} of {len(wanted)} {what}. "
            "Build the optimiser from masks.param_groups(lr=..., weight_decay=...)."
        )
