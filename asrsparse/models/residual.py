"""The residual branches of ESPnet's layers: how much each adds to its input when training starts.

A layer adds branch after branch to its input: x <- x + branch(norm(x)). In a conformer's encoder the branches are the
macaron feed-forward, self-attention, convolution and feed-forward modules; in the decoder self-attention, attention to
the encoder, and feed-forward.

Shape legend: B utterances, T positions, H model width.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from espnet.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer as ConformerLayer
from espnet.nets.pytorch_backend.transformer.decoder_layer import DecoderLayer
from espnet.nets.pytorch_backend.transformer.encoder_layer import EncoderLayer as TransformerLayer
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

_LAYERS = (ConformerLayer, TransformerLayer, DecoderLayer)
_BRANCHES = ("feed_forward_macaron", "self_attn", "src_attn", "conv_module", "feed_forward")
_LAST_LAYERS = ("w_2", "linear_out", "pointwise_conv2")
"""The last layers of feed-forward, attention and convolution modules."""


@dataclass(frozen=True)
class ResidualBranch:
    """A module whose output a layer adds to its input: (B, T, H) -> (B, T, H).

    Attributes:
        name: The name of the branch in the model.
        module: The branch, without the normalisation before it and the dropout behind it.
        last: The last linear or convolutional layer of the branch.
    """

    name: str
    module: nn.Module
    last: nn.Linear | nn.Conv1d


def residual_branches(model: nn.Module) -> list[ResidualBranch]:
    """Returns the branches of all of ESPnet's conformer and transformer layers of a model, in the order of adding.

    Raises:
        ValueError: If there is none, or one of another kind.
    """
    branches = []
    for name, layer in model.named_modules():
        if isinstance(layer, _LAYERS):
            branches += _branches_of(name, layer)
    if not branches:
        raise ValueError(
            f"Residual branches: {type(model).__name__} has none that are known; allowed are the layers of ESPnet's "
            "conformer and transformer. Leave model.layer_scale=null and model.residual_scale=1 for other encoders."
        )
    return branches


def add_layer_scale(model: nn.Module, initial: float) -> None:
    """Multiplies each residual branch by a learnable vector, one number for each of the H channels: LayerScale.

    x <- x + diag(lambda) branch(norm(x)), from CaiT (https://arxiv.org/abs/2103.17239). The classes and their forward
    code stay ESPnet's; the state dict gains a `layer_scale` (H,) for each branch.

    Args:
        model: Any module with layers of ESPnet's conformer or transformer.
        initial: The initial value of all vectors, positive. CaiT has 0.1 for 18 layers of two branches, 1e-5 for 24.

    Raises:
        ValueError: If `initial` is not positive, the branches are of an unknown kind, or are scaled already.

    Example:
        >>> from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
        >>> encoder = TransformerEncoder(input_size=80, output_size=8, num_blocks=1, input_layer="linear")
        >>> add_layer_scale(encoder, 0.1)
        >>> [name for name, _ in encoder.named_parameters() if "layer_scale" in name]
        ['encoders.0.self_attn.layer_scale', 'encoders.0.feed_forward.layer_scale']
    """
    if not 0.0 < initial < float("inf"):
        raise ValueError(
            f"model.layer_scale: got {initial}, allowed is a positive number, or null for no LayerScale. "
            "Branches that start at zero are model.residual_scale=0."
        )
    branches = residual_branches(model)
    scaled = [branch.name for branch in branches if hasattr(branch.module, "layer_scale")]
    if scaled:
        raise ValueError(f"{scaled[0]} has a layer_scale already; allowed is one. Call fold_layer_scale first.")
    for branch in branches:
        width = branch.last.weight.shape[:1]
        branch.module.register_parameter("layer_scale", nn.Parameter(branch.last.weight.new_full(width, initial)))
        branch.module.register_forward_hook(_multiply)


@torch.no_grad()
def fold_layer_scale(model: nn.Module) -> None:
    """Multiplies the vectors of `add_layer_scale` into the branches' last layers: a plain ESPnet model is left.

    It computes the same up to rounding, and its state dict has ESPnet's own keys.

    Raises:
        ValueError: If a branch has no `layer_scale`, or its last layer is parametrised.
    """
    branches = _writable_branches(model)
    plain = [branch.name for branch in branches if not hasattr(branch.module, "layer_scale")]
    if plain:
        raise ValueError(f"{plain[0]} has no layer_scale to fold; allowed are models with add_layer_scale.")
    for branch in branches:
        _scale(branch.last, cast(Tensor, branch.module.layer_scale))
        del branch.module.layer_scale
        _remove_hook(branch.module)


@torch.no_grad()
def scale_residual_branches(model: nn.Module, factor: float) -> None:
    """Multiplies the last layer of each residual branch by a number, once, so that branches start small, or at zero.

    With 0 each branch begins as zero and learns from its last layer on, as in Fixup (https://arxiv.org/abs/1901.09321).
    Unlike with LayerScale there are no further parameters: only the initial weights differ.

    Args:
        model: Any module with layers of ESPnet's conformer or transformer.
        factor: The number, at least 0.

    Raises:
        ValueError: If `factor` is negative or not finite, or the branches are of an unknown kind or parametrised.
    """
    if not 0.0 <= factor < float("inf"):
        raise ValueError(f"model.residual_scale: got {factor}, allowed are 0 and more; 1 leaves the initial weights.")
    for branch in _writable_branches(model):
        _scale(branch.last, torch.as_tensor(factor))


def _branches_of(name: str, layer: nn.Module) -> list[ResidualBranch]:
    if layer.concat_after:
        raise ValueError(
            f"{name}: got concat_after=true, where the output of attention is no residual branch; allowed is false."
        )
    modules = [(f"{name}.{kind}", getattr(layer, kind, None)) for kind in _BRANCHES]
    return [ResidualBranch(name, module, _last_layer(name, module)) for name, module in modules if module is not None]


def _last_layer(name: str, module: nn.Module) -> Any:
    for last in _LAST_LAYERS:
        if hasattr(module, last):
            return getattr(module, last)
    raise ValueError(
        f"{name}: got {type(module).__name__}, allowed are branches that end in one of {', '.join(_LAST_LAYERS)}: "
        "ESPnet's attention, its feed-forward modules, and its conformer's convolution module."
    )


def _writable_branches(model: nn.Module) -> list[ResidualBranch]:
    """Returns the residual branches, after a check that their last layers can be changed."""
    branches = residual_branches(model)
    masked = [branch.name for branch in branches if is_parametrized(branch.last)]
    if masked:
        raise ValueError(
            f"{masked[0]}: its last layer is parametrised, so that its weight cannot be set; allowed is a plain one. "
            "Leave masks first: masks.finish(...)."
        )
    return branches


def _scale(last: nn.Module, factor: Tensor) -> None:
    """Multiplies the output channels of a layer by a number, or by one number for each of them (H,)."""
    for parameter in last.parameters():  # the weight (H, ...) and the bias (H,)
        parameter.mul_(factor.view(-1, *[1] * (parameter.dim() - 1)))


def _multiply(branch: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Is the forward hook: under autocast the product is float32, as is the input of the layer to which it is added."""
    return output * cast(Tensor, branch.layer_scale)


def _remove_hook(module: nn.Module) -> None:
    """Removes `_multiply` by itself, not by its handle: a copy of a module has hooks of its own without handles."""
    for key in [key for key, hook in module._forward_hooks.items() if hook is _multiply]:
        del module._forward_hooks[key]
