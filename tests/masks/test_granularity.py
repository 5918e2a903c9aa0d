import pytest
import torch
from micro import make_batch, make_model
from torch import nn

from asrsparse.masks import (
    Blocks,
    FeedForwardUnits,
    LearnedMask,
    RandomMask,
    RigL,
    SparseMasks,
    Structured,
    Uniform,
    compact,
)
from asrsparse.masks.structured import find_units

NUM_STEPS = 12
COMMON = {"granularity": Structured(), "allocation": Uniform(), "exit": "sparse"}
METHODS = {
    "LearnedMask": LearnedMask(target_density=0.5, until=0.5, **COMMON),
    "RandomMask": RandomMask(density=0.5, **COMMON),
    "RigL": RigL(density=0.5, every=0.2, **COMMON),
}


def build():
    return make_model("model.encoder.attention_heads=4")


@pytest.fixture(scope="module", params=METHODS)
def trained(request):
    """A recogniser and its masks after a training in which the masks came and went to their exit."""
    model = build().train()
    masks = SparseMasks.attach(model, METHODS[request.param])
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.002, weight_decay=0.1))
    for step in range(1, NUM_STEPS + 1):
        optimizer.zero_grad()
        (model(make_batch([3, 5], seed=step)).total.mean() + masks.penalty()).backward()
        optimizer.step()
        masks.step(step / NUM_STEPS, optimizer)
    return model.eval(), masks


def shrink(model):
    """A compacted copy, and the report."""
    small = build().eval()
    small.load_state_dict(model.state_dict())
    return small, compact(small)


def outputs(model):
    batch = make_batch([3, 5])
    with torch.no_grad():
        losses = model(batch)
        return [model.encode(batch)[0], losses.ctc, losses.attention]


def kept_units(model, masks):
    """The units that the masks keep, and those that there are, by the names of their gates."""
    of_gates = {units.name: units for units in find_units(model)}
    counts = {}
    for name, weight_mask in masks.weight_masks().items():
        units = of_gates[name.removesuffix(".weight")]
        columns = weight_mask.transpose(0, 1).reshape(units.kind.num_units(units.module), -1)
        assert torch.equal(columns.any(dim=1), columns.all(dim=1)), name
        counts[units.name] = (int(columns.all(dim=1).sum()), len(columns))
    return counts


class TestStructured:
    def test_after_the_exit_the_model_shrinks_to_the_units_in_the_mask(self, trained):
        model, masks = trained
        small, report = shrink(model)
        assert masks.phase == "sparse"
        assert report.units == kept_units(model, masks)
        for after, before in zip(outputs(small), outputs(model), strict=True):
            assert torch.allclose(after, before, rtol=0, atol=1e-5)

    def test_half_of_the_masked_parameters_vanish(self, trained):
        model, masks = trained
        _, report = shrink(model)
        counted = (1.0 - masks.density) * masks.num_masked
        twice = 16 * 16 * 3 * 3  # kernels whose channels are dropped on both sides count as half of what vanishes
        assert masks.density == pytest.approx(0.5, abs=0.01)
        assert report.parameters_before - report.parameters_after == pytest.approx(counted + twice, rel=0.01)

    def test_patterns_match_the_names_of_gates(self):
        model = make_model()
        weights = Structured().weights(model, include=["encoder.*"], exclude=["encoder.embed.*", "*.1.*|*attn*"])
        branches = ["feed_forward.w_2", "feed_forward_macaron.w_2", "conv_module.pointwise_conv2"]
        assert [weight.name for weight in weights] == [f"encoder.encoders.0.{branch}.weight" for branch in branches]
        with pytest.raises(
            ValueError,
            match=r"got the pattern '\*.w_1.\*', which matches no weight. Weights: encoder.embed.conv.2.weight",
        ):
            Structured().weights(model, include=["*"], exclude=["*.w_1.*"])

    def test_units_are_whole_columns_and_count_what_vanishes_with_them(self):
        by_name = {weight.name: weight for weight in Structured().weights(make_model(), ["*"], [])}
        tiles = {name: (weight.tiling.tile, weight.num_units) for name, weight in by_name.items()}
        assert tiles["encoder.embed.conv.2.weight"] == ((32, 1, 3, 3), 32)
        assert tiles["encoder.embed.out.0.weight"] == ((32, 19), 32)
        assert tiles["encoder.encoders.0.self_attn.linear_out.weight"] == ((32, 16), 2)
        assert tiles["decoder.decoders.0.feed_forward.w_2.weight"] == ((32, 1), 64)
        assert by_name["encoder.embed.conv.2.weight"].parameters_per_unit == 32 * 3 * 3 + 3 * 3 + 1
        assert by_name["decoder.decoders.0.feed_forward.w_2.weight"].parameters_per_unit == 32 + 32 + 1

    def test_a_model_without_units_is_refused_with_what_was_looked_for(self):
        with pytest.raises(
            ValueError, match=r"got a Linear without units of the kinds FeedForwardUnits, .*FeedForwardUnits\('linear1'"
        ):
            Structured().weights(nn.Linear(4, 2), ["*"], [])
        layer = nn.TransformerEncoderLayer(8, 2, 32)
        named = Structured(kinds=[FeedForwardUnits("linear1", "linear2")])
        assert [weight.name for weight in named.weights(layer, ["*"], [])] == ["linear2.weight"]


class TestBlocks:
    @pytest.mark.parametrize("sizes", [{"rows": 0}, {"columns": -1}])
    def test_sizes_that_are_not_positive_are_refused(self, sizes):
        with pytest.raises(
            ValueError, match=r"^rows and columns: got rows=-?\d+ and columns=-?\d+, allowed is at least 1"
        ):
            Blocks(**sizes)

    def test_a_weight_that_no_block_divides_is_named_and_can_be_excluded(self):
        model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 10))
        with pytest.raises(
            ValueError, match=r"got blocks of 8 x 4 for 1.weight of 10 x 16; .* or exclude=\['1.weight', ...\]"
        ):
            Blocks(8, 4).weights(model, ["*"], [])
        assert [weight.name for weight in Blocks(8, 4).weights(model, ["*"], ["1.*"])] == ["0.weight"]

    def test_a_block_holds_the_whole_kernel(self):
        (weight,) = Blocks(8, 4).weights(nn.Conv1d(8, 16, 5), ["*"], [])
        assert (weight.tiling.tile, weight.num_units, weight.parameters_per_unit) == ((8, 4, 5), 4, 160)
