import copy

import pytest
import torch
from espnet.nets.pytorch_backend.conformer.convolution import ConvolutionModule
from espnet.nets.pytorch_backend.transformer.attention import (
    LegacyRelPositionMultiHeadedAttention,
    MultiHeadedAttention,
    RelPositionMultiHeadedAttention,
)
from espnet.nets.pytorch_backend.transformer.multi_layer_conv import MultiLayeredConv1d
from espnet.nets.pytorch_backend.transformer.positionwise_feed_forward import PositionwiseFeedForward
from espnet.nets.pytorch_backend.transformer.subsampling import (
    Conv2dSubsampling,
    Conv2dSubsampling1,
    Conv2dSubsampling2,
    Conv2dSubsampling6,
    Conv2dSubsampling8,
)
from espnet.nets.pytorch_backend.transformer.subsampling_without_posenc import Conv2dSubsamplingWOPosEnc
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from asrsparse.masks.structured import (
    DEFAULT_KINDS,
    AttentionHeads,
    ConvolutionChannels,
    FeedForwardUnits,
    SubsamplingChannels,
    find_units,
)

BATCH, TIME, WIDTH = 2, 5, 12
ROWS, CHANNELS, FREQUENCIES = 17, 6, 31


def attention(kind, positions=0, **settings):
    """An attention module, called on one input for all; `positions` is how many of them its variant asks for."""
    module = kind(4, WIDTH, 0.0, **settings)
    embedded = (torch.randn(1, positions, WIDTH),) if positions else ()
    return AttentionHeads(), module, lambda layer, inputs: layer(inputs, inputs, inputs, *embedded, None)


def convolution(**settings):
    module = ConvolutionModule(WIDTH, 3, nn.SiLU(), **settings)
    for values in (module.norm.running_mean, module.norm.weight, module.norm.bias):
        nn.init.normal_(values)
    nn.init.uniform_(module.norm.running_var, 0.5, 2.0)
    return ConvolutionChannels(), module, nn.Module.__call__


def subsampling(module, convolution, reader):
    """A subsampling, called on features; its biases are not zero, so that silent channels need a closed gate."""
    kind = SubsamplingChannels(convolution, reader)
    features = torch.randn(BATCH, ROWS, FREQUENCIES, generator=torch.Generator().manual_seed(2))
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, 0.1, 1.0)
    return kind, module, lambda layer, inputs: layer(features, None)[0]


def espnets(kind, convolution, reader):
    return subsampling(kind(FREQUENCIES, CHANNELS, 0.0), convolution, reader)


def without_positions(convolution, reader, num_layers):
    module = Conv2dSubsamplingWOPosEnc(FREQUENCIES, CHANNELS, 0.0, [3] * num_layers, [2] * num_layers)
    return subsampling(module, convolution, reader)


CASES = {
    "feed-forward": lambda: (FeedForwardUnits(), PositionwiseFeedForward(WIDTH, 7, 0.0), nn.Module.__call__),
    "attention": lambda: attention(MultiHeadedAttention),
    "attention, torch's kernel": lambda: attention(MultiHeadedAttention, use_sdpa=True),
    "attention, queries and keys normed": lambda: attention(MultiHeadedAttention, qk_norm=True),
    "attention, relative positions": lambda: attention(RelPositionMultiHeadedAttention, positions=2 * TIME - 1),
    "attention, old relative positions": lambda: attention(LegacyRelPositionMultiHeadedAttention, positions=TIME),
    "convolution": convolution,
    "convolution without biases": lambda: convolution(bias=False),
    "subsampling, first": lambda: espnets(Conv2dSubsampling, "conv.0", "conv.2"),
    "subsampling, last": lambda: espnets(Conv2dSubsampling, "conv.2", "out.0"),
    "subsampling by 1, last": lambda: espnets(Conv2dSubsampling1, "conv.2", "out.0"),
    "subsampling by 2, last": lambda: espnets(Conv2dSubsampling2, "conv.2", "out.0"),
    "subsampling by 6, first": lambda: espnets(Conv2dSubsampling6, "conv.0", "conv.2"),
    "subsampling by 6, last": lambda: espnets(Conv2dSubsampling6, "conv.2", "out.0"),
    "subsampling by 8, first": lambda: espnets(Conv2dSubsampling8, "conv.0", "conv.2"),
    "subsampling by 8, second": lambda: espnets(Conv2dSubsampling8, "conv.2", "conv.4"),
    "subsampling by 8, last": lambda: espnets(Conv2dSubsampling8, "conv.4", "out"),
    "subsampling without positions, first": lambda: without_positions("conv.0", "conv.2", num_layers=2),
    "subsampling without positions, last": lambda: without_positions("conv.2", "out", num_layers=2),
    "subsampling without positions, last of three": lambda: without_positions("conv.4", "out", num_layers=3),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    torch.manual_seed(0)
    return CASES[request.param]()


def draw_units(data, kind, module):
    """Which units stay: any choice but none."""
    bits = data.draw(st.lists(st.booleans(), min_size=kind.num_units(module), max_size=kind.num_units(module)))
    bits[data.draw(st.integers(0, len(bits) - 1))] = True
    return torch.tensor(bits)


def without(kind, module, units):
    """A copy whose gate is zero for all other units, and a copy that has only these units."""
    simulated = copy.deepcopy(module)
    with torch.no_grad():
        kind.gate(simulated).weight[:, ~units.repeat_interleave(kind.columns_per_unit(module))] = 0.0
    small = copy.deepcopy(simulated)
    kind.keep(small, units)
    return simulated, small


def inputs():
    return torch.randn(BATCH, TIME, WIDTH, generator=torch.Generator().manual_seed(1))


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def in_other_gates(kind, module):
    """How many parameters are in the gates of the module's other kinds, which count them."""
    others = [units.kind for units in find_units(module) if units.module is module and units.kind != kind]
    return sum(other.gate(module).weight.numel() for other in others)


@pytest.mark.parametrize("training", [False, True])
@given(data=st.data())
@settings(max_examples=25)  # for each of twenty layers
def test_units_behind_a_closed_gate_can_go_and_the_output_stays(case, training, data):
    kind, module, call = case
    simulated, small = (copy.train(training) for copy in without(kind, module, draw_units(data, kind, module)))
    assert torch.allclose(call(small, inputs()), call(simulated, inputs()), rtol=0, atol=1e-5)


@given(data=st.data())
@settings(max_examples=25)  # for each of twenty layers
def test_what_goes_with_a_unit_is_counted(case, data):
    kind, module, _ = case
    units = draw_units(data, kind, module)
    _, small = without(kind, module, units)
    vanished = num_parameters(module) - num_parameters(small)
    counted_elsewhere = in_other_gates(kind, module) - in_other_gates(kind, small)
    assert vanished - counted_elsewhere == kind.parameters_per_unit(module) * int((~units).sum())
    assert kind.num_units(small) == int(units.sum())
    assert kind.matches(small)
    assert kind.parameters_per_unit(small) == kind.parameters_per_unit(module)


@given(data=st.data())
@settings(max_examples=25)  # for each of twenty layers
def test_units_behind_a_closed_gate_get_no_gradient_and_the_others_the_same(case, data):
    kind, module, call = case

    def gradients(layer):
        """The sum of each parameter's absolute gradients, but for the gate's, which a mask takes care of."""
        layer.train()
        call(layer, inputs()).square().sum().backward()
        gate = kind.gate(layer).weight
        return {name: p.grad.abs().sum() for name, p in layer.named_parameters() if p is not gate}

    simulated, small = map(gradients, without(kind, module, draw_units(data, kind, module)))
    assert simulated.keys() == small.keys()
    for name, total in simulated.items():
        assert torch.allclose(total, small[name], rtol=1e-4, atol=1e-3), name


@given(data=st.data())
@settings(max_examples=25)  # for each of twenty layers
def test_a_unit_is_live_if_any_of_its_columns_is_not_zero(case, data):
    kind, module, _ = case
    module, units = copy.deepcopy(module), draw_units(data, kind, module)
    column = data.draw(st.integers(0, kind.columns_per_unit(module) - 1))
    with torch.no_grad():
        kind.gate(module).weight.zero_()
        kind.gate(module).weight[-1, column :: kind.columns_per_unit(module)][units] = 1e-30
    assert torch.equal(kind.live_units(module), units)


def test_layers_say_their_new_sizes_and_parameters_stay_trainable_or_not(case):
    kind, module, _ = case
    units = torch.arange(kind.num_units(module)) < 2
    frozen = kind.gate(module).weight.requires_grad_(False)
    _, small = without(kind, module, units)
    frozen.requires_grad_(True)
    for name, layer in small.named_modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.shape == (layer.out_features, layer.in_features), name
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups), name
        if isinstance(layer, nn.BatchNorm1d):
            assert layer.running_var.shape == (layer.num_features,), name
    for name, parameter in small.named_parameters():
        assert parameter.is_contiguous(), name
        assert parameter.requires_grad == (name != f"{kind.gate_name}.weight"), name


def test_no_choice_among_the_units_is_refused(case):
    kind, module, _ = case
    num_units, before = kind.num_units(module), num_parameters(module)
    with pytest.raises(ValueError, match=rf"^units: got torch.* allowed is torch.bool, shape \({num_units},\)"):
        kind.keep(module, torch.zeros(num_units, dtype=torch.bool))
    assert num_parameters(module) == before


def test_no_parameter_of_a_subsampling_counts_twice():
    module = Conv2dSubsampling(FREQUENCIES, CHANNELS, 0.0)
    counted = sum(units.kind.num_units(module) * units.kind.parameters_per_unit(module) for units in find_units(module))
    assert counted == num_parameters(module) - CHANNELS  # the bias of the last layer is no unit's


class TestMatches:
    def test_each_kind_knows_its_modules_alone(self, case):
        kind, module, _ = case
        matching = [other for other in DEFAULT_KINDS if other.matches(module)]
        assert kind in matching
        assert {type(other) for other in matching} == {type(kind)}

    def test_modules_that_share_only_names_are_left_alone(self):
        assert not find_units(MultiLayeredConv1d(WIDTH, 7, 3, 0.0))
        uneven = PositionwiseFeedForward(WIDTH, 7, 0.0)
        uneven.w_2 = nn.Linear(14, WIDTH)  # as behind a gated linear unit
        layer_norm = ConvolutionModule(WIDTH, 3)
        layer_norm.norm = nn.LayerNorm(WIDTH)
        few_keys = MultiHeadedAttention(4, WIDTH, 0.0)
        few_keys.linear_k = nn.Linear(WIDTH, 3)
        assert not any(kind.matches(module) for kind in DEFAULT_KINDS for module in (uneven, layer_norm, few_keys))
        assert not any(kind.matches(nn.Linear(2, 2)) for kind in DEFAULT_KINDS)

    @pytest.mark.parametrize(
        ("convolutions", "columns"),
        [
            ([nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)], 16),
            ([nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)], 16),
            ([nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()], 18),
        ],
        ids=["a norm is last", "a norm is first, another convolution last", "groups, and no whole number of columns"],
    )
    def test_convolutions_that_are_tied_or_read_by_others_are_left_alone(self, convolutions, columns):
        module = nn.ModuleDict({"conv": nn.Sequential(*convolutions), "out": nn.Sequential(nn.Linear(columns, 3))})
        kinds = [SubsamplingChannels("conv.0", "conv.2"), SubsamplingChannels("conv.2", "out.0")]
        first_may_go = isinstance(convolutions[1], nn.ReLU) and convolutions[0].groups == 1
        assert [kind.matches(module) for kind in kinds] == [first_may_go, False]

    def test_attributes_of_other_libraries_can_be_named(self):
        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(8, 8) for _ in range(4))
                self.num_heads, self.head_dim = 2, 4

        kind = AttentionHeads(("q_proj", "k_proj", "v_proj"), "out_proj", "num_heads", "head_dim")
        module = Attention()
        assert kind.matches(module)
        kind.keep(module, torch.tensor([False, True]))
        assert (module.num_heads, module.q_proj.out_features, module.out_proj.in_features) == (1, 4, 4)


class TestFindUnits:
    def test_names_are_those_of_the_gates(self):
        model = nn.ModuleDict({"ff": PositionwiseFeedForward(4, 7, 0.0), "conv": ConvolutionModule(4, 3)})
        assert [units.name for units in find_units(model)] == ["ff.w_2", "conv.pointwise_conv2"]
        assert [units.name for units in find_units(model["ff"])] == ["w_2"]
        assert [units.name for units in find_units(model, [ConvolutionChannels()])] == ["conv.pointwise_conv2"]

    def test_a_subsampling_has_units_behind_each_of_its_convolutions(self):
        gates = {
            Conv2dSubsampling: ["conv.2", "out.0"],
            Conv2dSubsampling8: ["conv.2", "conv.4", "out"],
        }
        for kind, expected in gates.items():
            assert [units.name for units in find_units(kind(FREQUENCIES, 4, 0.0))] == expected

    def test_modules_that_share_parameters_are_left_alone(self):
        tied, alone = (PositionwiseFeedForward(4, 7, 0.0) for _ in range(2))
        reader = nn.Linear(4, 7)
        reader.weight = tied.w_1.weight
        assert [units.name for units in find_units(nn.ModuleList([tied, reader, alone]))] == ["2.w_2"]
