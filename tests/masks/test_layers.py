import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from asrsparse.masks import FeedForwardUnits, compact
from asrsparse.masks.layers import (
    LAYER_TYPES,
    LayerType,
    find_type,
    keep_channels,
    kernel_dims_of,
    maskable_layers,
    trained_weight,
    type_of,
)
from asrsparse.masks.surgery import shrink
from asrsparse.masks.weights import find_weights
from asrsparse.training.flops import count_flops

LAYERS = {
    "linear": nn.Linear(5, 7),
    "linear without biases": nn.Linear(5, 7, bias=False),
    "convolution over time": nn.Conv1d(5, 7, 3),
    "convolution over time and frequency": nn.Conv2d(5, 7, (3, 2)),
}


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_an_output_or_input_that_goes_takes_the_parameters_that_it_counts(kind):
    layer = LAYERS[kind]
    layer_type = type_of(layer)
    without_rows = copy.deepcopy(layer)
    layer_type.keep_outputs(without_rows, torch.tensor([6, 0, 2]))
    assert num_parameters(layer) - num_parameters(without_rows) == 4 * layer_type.row_size(layer)
    small = copy.deepcopy(without_rows)
    layer_type.keep_inputs(small, torch.tensor([4, 1]))
    assert num_parameters(without_rows) - num_parameters(small) == 3 * layer_type.column_size(without_rows)
    assert torch.equal(small.weight, layer.weight[[6, 0, 2]][:, [4, 1]])
    assert layer.bias is None or torch.equal(small.bias, layer.bias[[6, 0, 2]])
    assert small(torch.ones(1, 2, *[4] * (layer.weight.dim() - 2))).shape[1] == 3


def test_a_depthwise_convolution_keeps_its_channels():
    layer = nn.Conv1d(4, 4, 3, groups=4)
    whole = copy.deepcopy(layer)
    keep_channels(layer, torch.tensor([1, 3]))
    inputs = torch.randn(2, 4, 9)
    assert torch.allclose(layer(inputs[:, [1, 3]]), whole(inputs)[:, [1, 3]])


def test_a_layer_has_the_type_of_its_class_also_behind_a_parametrisation():
    assert [kernel_dims_of(kind(2, 2, 1)) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)] == [1, 2, 3]
    assert kernel_dims_of(nn.Linear(2, 2)) == 0
    derived = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert find_type(derived) is LAYER_TYPES[nn.Linear]
    assert trained_weight(derived) is None
    assert kernel_dims_of(nn.Embedding(2, 2)) is kernel_dims_of(None) is None


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"layer: got Embedding, allowed are Linear, Conv1d, Conv2d, Conv3d. Add an"):
        type_of(nn.Embedding(2, 2))


class LowRank(nn.Module):
    """A linear layer whose weight is the product of two factors."""

    def __init__(self, in_features, out_features, rank):
        super().__init__()
        self.in_features, self.out_features, self.bias = in_features, out_features, None
        self.left = nn.Parameter(torch.randn(out_features, rank))
        self.right = nn.Parameter(torch.randn(rank, in_features))

    @property
    def weight(self):
        return self.left @ self.right

    def forward(self, inputs):
        return inputs @ self.right.T @ self.left.T


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w_1, self.w_2 = LowRank(6, 8, rank=2), LowRank(8, 4, rank=3)

    def forward(self, inputs):
        return self.w_2(torch.relu(self.w_1(inputs)))


@dataclass(frozen=True)
class LowRankType(LayerType):
    def row_size(self, layer):
        return layer.left.shape[1]

    def column_size(self, layer):
        return layer.right.shape[0]

    def keep_outputs(self, layer, kept):
        shrink(layer, "left", kept, axis=0)
        layer.out_features = len(kept)

    def keep_inputs(self, layer, kept):
        shrink(layer, "right", kept, axis=1)
        layer.in_features = len(kept)


def test_one_entry_in_the_table_makes_a_layer_known_to_compaction_and_flops(monkeypatch):
    monkeypatch.setitem(LAYER_TYPES, LowRank, LowRankType("out_features", "in_features"))
    model = FeedForward()
    assert list(maskable_layers(model)) == ["w_1.weight", "w_2.weight"]
    assert find_weights(model) == []  # no mask can stand before a product
    inputs = torch.randn(5, 6)
    flops = count_flops(model, lambda: model(inputs).sum(), seconds=1.0)
    assert flops.layers == {"w_1.weight": 2.0 * 2 * 5 * (6 * 2 + 2 * 8), "w_2.weight": 3.0 * 2 * 5 * (8 * 3 + 3 * 4)}
    with torch.no_grad():
        model.w_2.right[:, 3:] = 0.0
    before = model(inputs)
    assert compact(model, [FeedForwardUnits()]).units == {"w_2": (3, 8)}
    assert (model.w_1.left.shape, model.w_2.right.shape) == ((3, 2), (3, 3))
    assert torch.allclose(model(inputs), before, atol=1e-6)
