"""A weight behind a mask, under the model's own names.

While a mask stands before a weight, `torch.nn.utils.parametrize` makes `module.weight` the masked weight, and moves the
weight itself to `module.parametrizations.weight.original` (for a weight of another name, that name). The hooks below
undo this in state dicts: those of the model, and of any module that contains it, have the model's own keys and load
strictly, as if there was no mask. The `Parameter` stays the same object throughout, so that an optimiser may hold it
before, during and after.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from asrsparse.masks.sharding import is_sharded
from asrsparse.masks.weights import Tiling, Weight

_ORIGINAL = "parametrizations.{}.original"
_LOGITS = "parametrizations.{}.0.logits"


class SoftMask(nn.Module):
    """Multiplies a weight by the mask sigmoid(l * phi) (MSRS, https://arxiv.org/abs/2406.17614, Section 2).

    The logits phi are in float32 even for a weight of lower precision, since their steps are small next to their size.
    The temperature l is a tensor, so that a compiled model reads its value and is not compiled again when it changes.
    It is a buffer that no state dict has: copies have their own, and `AveragedModel` keeps that of its copy up to date.

    Args:
        weight: The weight that gets the mask.
        logit: The initial value of all logits.
        temperature: l, at first.
        scale: A factor on the product, at first; None for none.
    """

    temperature: Tensor
    scale: Tensor | None

    def __init__(self, weight: Weight, logit: float, temperature: float, scale: float | None = None) -> None:
        super().__init__()
        start = torch.full(weight.tiling.units_shape, logit, dtype=torch.float32, device=weight.parameter.device)
        self.logits = nn.Parameter(start)
        self.register_buffer("temperature", torch.tensor(temperature, device=start.device), persistent=False)
        of_product = None if scale is None else torch.tensor(scale, device=start.device)
        self.register_buffer("scale", of_product, persistent=False)
        self.tiling = weight.tiling

    def mask(self) -> Tensor:
        """Returns the mask in (0, 1), without the scale, (U...)."""
        return torch.sigmoid(self._temperature_now() * self.logits)  # not in place: a penalty may be taken of it

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the masked weight (O, I, K...) in the weight's precision; autocast casts it as a plain weight."""
        return self.product(weight, self.logits)

    def product(self, weight: Tensor, logits: Tensor) -> Tensor:
        """Returns the weight (O, I, K...) under the mask of the given logits (U...)."""
        masked = _MaskedProduct.apply(weight, logits, self._temperature_now(), self.tiling)  # type: ignore[no-untyped-call]
        return cast(Tensor, masked if self.scale is None else masked * self.scale.clone())

    def _temperature_now(self) -> Tensor:
        return self.temperature.clone()  # autograd keeps it, and DDP writes buffers anew in each forward pass


class _MaskedProduct(torch.autograd.Function):
    """Computes theta * sigmoid(l * phi), and the mask again for the gradients rather than keeping it in memory.

    With G the gradient of the product, those of theta and phi are G m and l m (1 - m) (G theta). The product is not
    made in place: of such a forward pass, `torch.compile` makes gradients of zero, for weights and logits alike.
    """

    @staticmethod
    def forward(theta: Tensor, logits: Tensor, temperature: Tensor, tiling: Tiling) -> Tensor:
        return tiling.expand(_soft_mask(logits, temperature)).to(theta.dtype) * theta

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        theta, logits, temperature, ctx.tiling = inputs
        ctx.save_for_backward(theta, logits, temperature)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        theta, logits, temperature = ctx.saved_tensors
        (gradient,) = gradients
        mask = _soft_mask(logits, temperature)
        of_logits = ctx.tiling.pool(gradient * theta).to(mask.dtype) * mask
        of_logits = torch.addcmul(of_logits, of_logits, mask, value=-1.0) * temperature
        return ctx.tiling.expand(mask).to(theta.dtype) * gradient, of_logits, None, None


def _soft_mask(logits: Tensor, temperature: Tensor) -> Tensor:
    return (temperature * logits).sigmoid_()


class ParametrizedWeight:
    """A weight of the model behind a parametrisation (a mask), from construction until `remove`.

    Args:
        weight: The weight.
        parametrization: A module that maps the weight to the one with which the model computes, of the same shape; it
            may have the parameter `logits`.

    Raises:
        ValueError: If the weight is sharded already.
    """

    def __init__(self, weight: Weight, parametrization: nn.Module) -> None:
        require_whole(weight)
        self.weight = weight
        parametrize.register_parametrization(weight.module, weight.attribute, parametrization)
        save = partial(_save_under_own_name, weight.attribute)
        load = partial(_load_from_own_name, weight.attribute)
        self._hooks = (
            weight.module.register_state_dict_post_hook(save),  # type: ignore[no-untyped-call]
            weight.module.register_load_state_dict_pre_hook(load),  # type: ignore[no-untyped-call]
        )

    def remove(self) -> None:
        """Makes the module plain again, with the plain weight.

        Under FSDP2, the place of the weight has to stay, since it is there that its parts are put together: the module
        keeps a parametrisation that passes the weight on, under the plain names.
        """
        if is_sharded(self.weight.parameter):
            place = f"parametrizations.{self.weight.attribute}"
            masks = cast(nn.ModuleList, self.weight.module.get_submodule(place))
            masks[0] = nn.Identity()
            return
        for hook in self._hooks:
            hook.remove()
        _restore_plain_module(self.weight)


def require_whole(weight: Weight) -> None:
    """Checks that a mask may still be put before a weight.

    Raises:
        ValueError: If `fully_shard` has cut the weight up: FSDP2 puts its parts together where it found it.
    """
    if is_sharded(weight.parameter):
        raise ValueError(
            f"{weight.name}: got a weight that fully_shard has sharded before its mask was there; allowed is a mask of "
            "this method that is there first. Call SparseMasks.attach before fully_shard, and use start=0."
        )


def _restore_plain_module(weight: Weight) -> None:
    """Undoes the parametrisation, and the change of the order of parameters that came with it.

    `parametrize.remove_parametrizations` would also empty the module's temporary class, which copies of the module (an
    average of weights, say) still use.
    """
    module, parameter = weight.module, weight.parameter
    others = list(module.named_parameters(recurse=False))
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, _ in others:
        delattr(module, name)
    for name, value in [(weight.attribute, parameter), *others]:
        module.register_parameter(name, value)


def _save_under_own_name(
    attribute: str, module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """Renames the weight in a state dict, leaves the logits out, and puts the weight first, as in the plain module."""
    state.pop(prefix + _LOGITS.format(attribute), None)
    weight = state.pop(prefix + _ORIGINAL.format(attribute))
    others = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
    state[prefix + attribute] = weight
    state.update(others)


def _load_from_own_name(
    attribute: str,
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Renames the weight for loading, and lets the logits, which a model's state dict never has, stay as they are."""
    own, original, logits = dict(module.named_parameters()), _ORIGINAL.format(attribute), _LOGITS.format(attribute)
    if prefix + attribute in state:
        state[prefix + original] = state.pop(prefix + attribute)
    else:
        missing.append(prefix + attribute)  # under the name that the user knows, in place of torch's own report
        state[prefix + original] = own[original].data
    if logits in own:
        state[prefix + logits] = own[logits].data
