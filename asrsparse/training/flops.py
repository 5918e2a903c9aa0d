"""How many floating-point operations (FLOPs) a training takes, and would take if zeros of masks cost nothing.

A multiplication and an addition are two FLOPs. Counted are products of matrices and convolutions, forward and backward;
not counted are norms, activations, softmax, dropout, the losses, the FFT of the front-end and the optimiser, which are
small beside them, and the products by which a method decides what to mask.

**Effective FLOPs are simulated.** They scale each layer's share by the density of its mask, for the product of the
forward pass and both of the backward pass alike: three times a sparse forward pass, as RigL's paper counts static
masks (https://arxiv.org/abs/1911.11134). What that paper adds where masks move by the gradients of all weights, a dense
product in the steps in which they move, is not added here. Masks of single weights make nothing faster: the
measured seconds say how long a training took.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from asrsparse.masks.layers import maskable_layers, type_of


@dataclass(frozen=True)
class Flops:
    """The FLOPs of the training on one second of speech.

    Attributes:
        layers: The FLOPs of each layer whose weight may have a mask, by the weight's name.
        rest: The FLOPs of everything else: products in the attention, the mel filters.
    """

    layers: dict[str, float]
    rest: float

    @property
    def dense(self) -> float:
        """The FLOPs of all layers and of the rest."""
        return sum(self.layers.values()) + self.rest

    def effective(self, densities: Mapping[str, float]) -> float:
        """Returns the FLOPs that are left if zeros of masks cost nothing.

        Args:
            densities: The share of each weight that its mask keeps, by the weight's name; 1 where it has none.

        Example:
            >>> Flops({"linear.weight": 60.0, "conv.weight": 30.0}, rest=10.0).effective({"linear.weight": 0.5})
            70.0
        """
        return self.rest + sum(count * densities.get(name, 1.0) for name, count in self.layers.items())


def count_flops(model: nn.Module, loss: Callable[[], Tensor], seconds: float) -> Flops:
    """Counts the FLOPs of one training step, by taking it.

    The model is in evaluation mode meanwhile, and the gradients are thrown away: weights, gradients, buffers and random
    states are as before. Models whose evaluation computes other products than their training are counted wrongly.

    Args:
        model: Any module.
        loss: Calls the model on a batch and returns the loss, a 0-d tensor.
        seconds: The seconds of speech in that batch. Padding does not count as speech, while its FLOPs count.

    Returns:
        The FLOPs per second of speech.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> flops = count_flops(model, lambda: model(torch.ones(10, 8)).sum(), seconds=1.0)
        >>> flops.layers  # 2 x 10 x inputs x outputs, twice for the first layer and three times for the others
        {'0.weight': 1280.0, '2.weight': 480.0}
    """
    layers = maskable_layers(model)
    with _evaluating(model), torch.enable_grad():
        with _counter() as forward, _count_products(layers.values()) as products:
            value = loss()
        with _counter() as backward:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            torch.autograd.grad(value, trained, allow_unused=True)
    by_module, root = forward.get_flop_counts(), type(model).__name__
    of_layer = {
        name: products[module] * sum(by_module.get(f"{root}.{name}".removesuffix(".weight"), {}).values()) / seconds
        for name, module in layers.items()
    }
    total = (forward.get_total_flops() + backward.get_total_flops()) / seconds
    return Flops(of_layer, total - sum(of_layer.values()))


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    grad_shape: list[int],
    input_shape: list[int],
    weight_shape: list[int],
    *options: Any,
    out_shape: Any = None,
) -> int:
    """Returns the FLOPs of the gradients, each of which costs what the forward pass does.

    PyTorch's own formula leaves out the groups, as of depthwise layers.
    """
    *_, transposed, _, _, output_mask = options
    wanted = sum(output_mask[:2])  # of the input and of the weight; that of the bias is a sum
    return int(wanted * conv_flop_count(input_shape, weight_shape, grad_shape, transposed=transposed))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Sets evaluation mode: no dropout, augmentation, or batch statistics; each module's own mode is restored after."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _count_products(layers: Iterable[nn.Module]) -> Iterator[Mapping[nn.Module, int]]:
    """Counts each layer's products: forward, for the gradient of its weight, and for that of its input, if wanted.

    `FlopCounterMode` cannot part the backward pass among layers: it takes a layer whose input needs no gradient (the
    positions of a relative attention) to last until the end of the pass.
    """
    products: dict[nn.Module, int] = defaultdict(int)

    def count(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        products[module] = type_of(module).num_products(module, inputs)

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield products
    finally:
        for hook in hooks:
            hook.remove()
