import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import make_batch, make_model
from torch import nn

from asrsparse.decoding.decoders import GreedyCTC, JointBeamSearch
from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.masks.compact import compact, fit_to, widen
from asrsparse.masks.structured import FeedForwardUnits, find_units
from asrsparse.models.weight_files import load_weights, save_weights

ENCODER_GATES = ["self_attn.linear_out", "feed_forward.w_2", "feed_forward_macaron.w_2", "conv_module.pointwise_conv2"]
DECODER_GATES = ["self_attn.linear_out", "src_attn.linear_out", "feed_forward.w_2"]
GATES = {
    "encoder.embed.conv.2",
    "encoder.embed.out.0",
    *(f"encoder.encoders.{number}.{gate}" for number in range(2) for gate in ENCODER_GATES),
    *(f"decoder.decoders.0.{gate}" for gate in DECODER_GATES),
}
TORCH_LAYER = [FeedForwardUnits("linear1", "linear2")]


@pytest.fixture(scope="module")
def dense():
    """A recogniser of all kinds of units, whose statistics and norms are not those of a fresh one."""
    model = make_model("model.encoder.attention_heads=4", "model.specaug=null")
    with torch.no_grad():
        for units in find_units(model):
            if (norm := getattr(units.module, "norm", None)) is not None:
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
                norm.weight.normal_()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


def simulate(model, density, seed=0):
    """A copy with a share of all units behind closed gates: none at 1, all at 0."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for units in find_units(model):
            kept = torch.rand(units.kind.num_units(units.module), generator=generator) < density
            columns = kept.repeat_interleave(units.kind.columns_per_unit(units.module))
            units.kind.gate(units.module).weight[:, ~columns] = 0.0
    return model


def shrink(model):
    """A compacted copy."""
    small = copy.deepcopy(model)
    compact(small)
    return small


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def outputs(model):
    """Encoder frames and losses; those of training depend on the statistics of the batch."""
    batch = make_batch([3, 5])
    model = copy.deepcopy(model)
    with torch.no_grad():
        encoded, _ = model.encode(batch)
        losses = model(batch)
    return [encoded, losses.ctc, losses.attention]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("training", [False, True])
@settings(max_examples=10)
@given(density=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), seed=st.integers(0, 2**31))
def test_a_compacted_recogniser_computes_the_same(dense, training, density, seed):
    simulated = simulate(dense, density, seed).train(training)
    small = shrink(simulated)
    for before, after in zip(outputs(simulated), outputs(small), strict=True):
        assert torch.allclose(after, before, rtol=1e-5, atol=1e-5)


@settings(max_examples=10)
@given(density=st.floats(0.0, 1.0), seed=st.integers(0, 2**31))
def test_the_report_counts_what_is_there(dense, density, seed):
    model = simulate(dense, density, seed)
    live = {units.name: units.kind.live_units(units.module) for units in find_units(model)}
    costs = {units.name: units.kind.parameters_per_unit(units.module) for units in find_units(model)}
    report = compact(model)
    assert report.units.keys() == GATES
    assert report.units == {name: (max(1, int(bits.sum())), len(bits)) for name, bits in live.items()}
    assert (report.parameters_before, report.parameters_after) == (num_parameters(dense), num_parameters(model))
    removed = sum(costs[name] * (total - kept) for name, (kept, total) in report.units.items())
    kept_first, _ = report.units["encoder.embed.conv.2"]
    kept_last, total_last = report.units["encoder.embed.out.0"]
    between = kept_first * (total_last - kept_last) * 3 * 3  # kernels that go with the last convolution's channels
    assert report.parameters_before - report.parameters_after == removed + between


def test_names_and_classes_stay(dense):
    small = shrink(simulate(dense, 0.5))
    assert small.state_dict().keys() == dense.state_dict().keys()
    assert [type(module) for module in small.modules()] == [type(module) for module in dense.modules()]
    untouched = {
        "ctc.ctc_lo.weight",
        "decoder.output_layer.weight",
        "decoder.embed.0.weight",
        "encoder.embed.out.0.bias",
        "encoder.after_norm.weight",
    }
    assert all(small.state_dict()[name].shape == dense.state_dict()[name].shape for name in untouched)


def test_a_model_with_nothing_to_remove_stays_as_it_is(dense):
    model = copy.deepcopy(dense)
    parameters = list(model.parameters())
    report = compact(model)
    assert report.parameters_after == report.parameters_before == num_parameters(dense)
    assert all(kept == total for kept, total in report.units.values())
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert same(model.state_dict(), dense.state_dict())


def test_a_model_without_units_stays_as_it_is():
    model = nn.Sequential(nn.Linear(4, 2))
    assert compact(model).units == {}


def test_compacting_again_changes_nothing(dense):
    small = shrink(simulate(dense, 0.5))
    assert same(shrink(small).state_dict(), small.state_dict())


def test_a_channel_that_is_heard_by_others_alone_that_go_goes_with_them(dense):
    model = copy.deepcopy(dense)
    with torch.no_grad():
        model.encoder.embed.out[0].weight[:, : 5 * 19] = 0.0  # closes the gates of the last convolution's first five
        model.encoder.embed.conv[2].weight[5:, 7] = 0.0
    before = outputs(model)
    report = compact(model)
    assert list(report.units)[:2] == ["encoder.embed.conv.2", "encoder.embed.out.0"]
    assert [report.units[name] for name in list(report.units)[:2]] == [(31, 32), (27, 32)]
    for one, other in zip(outputs(model), before, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


class TestFitTo:
    @settings(max_examples=10)
    @given(density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers(0, 2**31))
    def test_a_file_of_a_compacted_model_loads_strictly(self, dense, tmp_path_factory, density, seed):
        small = shrink(simulate(dense, density, seed))
        path = tmp_path_factory.mktemp("model") / "model.safetensors"
        save_weights(path, small.state_dict())
        model = copy.deepcopy(dense)
        fit_to(model, load_weights(path))
        model.load_state_dict(load_weights(path), strict=True)
        assert same(model.state_dict(), small.state_dict())
        for one, other in zip(outputs(model), outputs(small), strict=True):
            assert torch.equal(one, other)

    def test_a_model_of_the_full_size_stays_as_it_is(self, dense):
        model = copy.deepcopy(dense)
        parameters = list(model.parameters())
        fit_to(model, simulate(dense, 0.5).state_dict())
        fit_to(model, {})
        assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))

    @pytest.mark.parametrize(
        ("gate", "columns", "allowed"),
        [
            ("decoder.decoders.0.feed_forward.w_2", 65, "1 to 64 times 1"),
            ("encoder.encoders.1.conv_module.pointwise_conv2", 0, "1 to 32 times 1"),
            ("encoder.encoders.1.self_attn.linear_out", 12, "1 to 4 times 8"),
            ("encoder.encoders.1.self_attn.linear_out", 40, "1 to 4 times 8"),
            ("encoder.embed.conv.2", 33, "1 to 32 times 1"),
            ("encoder.embed.out.0", 20, "1 to 32 times 19"),
        ],
    )
    def test_shapes_of_no_number_of_units_are_refused_and_change_nothing(self, dense, gate, columns, allowed):
        state = shrink(simulate(dense, 0.5)).state_dict()
        state[f"{gate}.weight"] = torch.zeros(32, columns)
        model = copy.deepcopy(dense)
        with pytest.raises(ValueError, match=rf"{gate}\.weight: got {columns} input columns, allowed are {allowed}"):
            fit_to(model, state)
        assert same(model.state_dict(), dense.state_dict())


class TestAfterwards:
    def test_it_trains(self, dense):
        model = shrink(simulate(dense, 0.5)).train()
        batch = make_batch([3, 5])
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = model(batch).total.mean()
            loss.backward()
            assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert compact(model).parameters_after == num_parameters(model)

    @pytest.mark.parametrize(
        "decoder", [GreedyCTC(), JointBeamSearch(beam_size=3, ctc_weight=0.3)], ids=lambda d: type(d).__name__
    )
    def test_it_decodes_to_the_same_tokens(self, dense, decoder):
        batch = make_batch([3, 5, 4, 2])
        simulated = simulate(dense, 0.5)

        @torch.inference_mode()
        def decode(model):
            return [best.tokens for best, *_ in decoder(model, *model.encode(batch))]

        tokens = decode(simulated)
        assert all(tokens)
        assert decode(shrink(simulated)) == tokens

    def test_it_can_be_copied(self, dense):
        small = shrink(simulate(dense, 0.5))
        copied = copy.deepcopy(small)
        for one, other in zip(outputs(copied), outputs(small), strict=True):
            assert torch.equal(one, other)


class TestMasks:
    def attach(self, dense):
        model = copy.deepcopy(dense)
        masks = SparseMasks.attach(model, LearnedMask(exit="sparse"))
        return model, masks, torch.optim.AdamW(masks.param_groups(lr=0.01))

    def test_masks_that_are_still_learned_are_refused(self, dense):
        model, _, _ = self.attach(dense)
        for change in (compact, lambda model: fit_to(model, dense.state_dict())):
            with pytest.raises(
                ValueError,
                match=r"encoder\.embed\.conv\.2: got a module under a mask .*finish\('sparse', optimizer\) first",
            ):
                change(model)

    def test_masks_that_have_left_are_not_in_the_way(self, dense):
        model, masks, optimizer = self.attach(dense)
        masks.finish("sparse", optimizer)
        assert compact(simulate(model, 0.5)).parameters_after < num_parameters(dense)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_of_torch_shrink_too(training, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first)
    layer.linear2.weight.data[:, ::3] = 0.0
    small = copy.deepcopy(layer)
    assert compact(small, TORCH_LAYER).units == {"linear2": (21, 32)}
    inputs = torch.randn(3, 7, 8)
    with torch.set_grad_enabled(training):
        before, after = layer.train(training)(inputs), small.train(training)(inputs)
    assert torch.allclose(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_a_compacted_model_in_full_size_computes_the_same(dense, density):
    small, full = shrink(simulate(dense, density)), copy.deepcopy(dense)
    before = copy.deepcopy(full.state_dict())
    wide = widen(full, small.state_dict())
    assert same(full.state_dict(), before)
    full.load_state_dict(wide)
    for one, other in zip(outputs(full), outputs(small), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_was_never_compacted_is_widened_to_itself(dense):
    assert same(widen(dense, dense.state_dict()), dense.state_dict())
