import copy
import io

import pytest
import torch
from micro import make_batch, make_model
from torch import nn
from torch.optim.swa_utils import AveragedModel

from asrsparse.masks import (
    Blocks,
    FeedForwardUnits,
    Global,
    LearnedMask,
    RandomMask,
    RigL,
    SparseAdamW,
    SparseMasks,
    Structured,
    Uniform,
)

NUM_STEPS = 20
UNITS = Structured([FeedForwardUnits("linear1", "linear2")])
PHASE = {"until": 0.4, "allocation": Uniform(), "granularity": UNITS, "regrowth_warmup": 3}
SPARSE = {**PHASE, "exit": "sparse"}
SMALL = {**SPARSE, "compact_at_exit": True}
REGROWN = {**PHASE, "exit": "dense", "compact_at_exit": True, "regrow_at": 0.7}


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, inputs):
        return inputs + self.linear2(torch.relu(self.linear1(inputs)))


def build():
    torch.manual_seed(0)
    return nn.Sequential(FeedForward(), nn.LayerNorm(8), FeedForward(), nn.Linear(8, 4))


def inputs_of(step):
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(step))


def start(method, make=torch.optim.AdamW, states=None, **settings):
    model = build()
    masks = SparseMasks.attach(model, method)
    if states is not None:
        masks.load_state_dict(states["masks"])
        model.load_state_dict(states["model"])
    optimizer = make(masks.param_groups(lr=0.01, weight_decay=0.1), **settings)
    if states is not None:
        optimizer.load_state_dict(states["optimizer"])
    return model, masks, optimizer


def update(model, masks, optimizer, step, accumulate=1, forward=None):
    for inputs in inputs_of(step).chunk(accumulate):
        ((forward or model)(inputs) - inputs[:, :4]).square().mean().div(accumulate).backward()
    masks.penalty().backward() if masks.penalty().requires_grad else None
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    left = masks.step(step / NUM_STEPS, optimizer)
    optimizer.zero_grad()
    return left


def train(method, last=NUM_STEPS, make=torch.optim.AdamW, accumulate=1, **settings):
    model, masks, optimizer = start(method, make, **settings)
    for step in range(1, last + 1):
        update(model, masks, optimizer, step, accumulate)
    return model, masks, optimizer


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def live(masks):
    """Which hidden units of the first module are kept."""
    return masks.weight_masks()["0.linear2.weight"][0]


class TestSmaller:
    @pytest.mark.parametrize(
        ("make", "settings"),
        [
            (torch.optim.AdamW, {}),
            (torch.optim.AdamW, {"amsgrad": True, "foreach": True}),
            (torch.optim.AdamW, {"fused": True}),
            (torch.optim.SGD, {"momentum": 0.9}),
            (SparseAdamW, {}),
        ],
    )
    @pytest.mark.parametrize("method", [LearnedMask, RandomMask, RigL])
    def test_it_trains_on_as_the_sparse_model_would(self, method, make, settings):
        sparse, small = (train(method(**phase), make=make, **settings) for phase in (SPARSE, SMALL))
        assert (sparse[1].phase, small[1].phase) == ("sparse", "compacted")
        assert small[0][0].linear1.weight.shape == (16, 8)
        torch.testing.assert_close(small[0](inputs_of(99)), sparse[0](inputs_of(99)), rtol=1e-5, atol=1e-5)
        kept = live(sparse[1])
        torch.testing.assert_close(small[0][0].linear1.weight, sparse[0][0].linear1.weight[kept], rtol=1e-4, atol=1e-5)

    def test_outputs_at_the_exit_are_the_same(self):
        before, after = (train(LearnedMask(**phase), last=8)[0] for phase in (SPARSE, SMALL))
        assert num_parameters(after) < num_parameters(before)
        torch.testing.assert_close(after(inputs_of(99)), before(inputs_of(99)), rtol=1e-5, atol=1e-6)

    def test_moments_are_those_of_what_stays(self):
        (model, masks, whole), (small, _, cut) = (train(LearnedMask(**phase), last=8) for phase in (SPARSE, SMALL))
        kept = live(masks)
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(
                cut.state[small[0].linear1.weight][name], whole.state[model[0].linear1.weight][name][kept]
            )
            assert torch.equal(
                cut.state[small[0].linear2.weight][name], whole.state[model[0].linear2.weight][name][:, kept]
            )
        assert cut.state[small[0].linear1.weight]["step"] == 8
        assert len(cut.state) == len(whole.state)

    def test_groups_stay_as_they_are(self):
        model, masks, optimizer = start(LearnedMask(**SMALL))
        groups = [(id(group), group["name"], len(group["params"])) for group in optimizer.param_groups]
        for step in range(1, 9):
            update(model, masks, optimizer, step)
        assert [(id(group), group["name"], len(group["params"])) for group in optimizer.param_groups] == groups
        held = [parameter for group in optimizer.param_groups[:2] for parameter in group["params"]]
        assert {*map(id, held)} == {*map(id, model.parameters())}

    def test_gradients_are_cut_too(self):
        model, masks, optimizer = start(RandomMask(**SMALL))
        model(inputs_of(1)).sum().backward()
        optimizer.step()
        masks.step(0.4, optimizer)
        assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())

    def test_a_recogniser_trains_on_as_the_sparse_one_would(self):
        """All kinds of units, batch norms among them."""

        def losses(**more):
            model = make_model("model.encoder.attention_heads=4", "model.specaug=null")
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            phase = {"until": 0.5, "exit": "sparse", "allocation": Uniform(), "granularity": Structured()}
            masks = SparseMasks.attach(model, LearnedMask(**phase, **more))
            optimizer = torch.optim.AdamW(masks.param_groups(lr=0.001))
            found = []
            for step in range(1, 9):
                loss = model(make_batch([3, 5], seed=step)).total.mean()
                loss.backward()
                optimizer.step()
                masks.step(step / 8, optimizer)
                optimizer.zero_grad()
                found.append(loss.item())
            return found, num_parameters(model)

        (sparse, size), (small, smaller) = losses(), losses(compact_at_exit=True)
        assert smaller < 0.55 * size
        assert small == pytest.approx(sparse, rel=1e-5)

    def test_densities_are_those_of_the_whole_model(self):
        model, masks, _ = train(LearnedMask(**SMALL))
        whole = num_parameters(build())
        assert masks.density == 0.5
        assert masks.densities() == {"0.linear2.weight": 0.5, "2.linear2.weight": 0.5}
        assert masks.num_parameters == whole
        assert masks.overall_density == pytest.approx(num_parameters(model) / whole)
        assert masks.sizes_before_compaction() == {
            f"{layer}.{name}.weight": 256 for layer in (0, 2) for name in ("linear1", "linear2")
        }

    def test_what_has_no_mask_keeps_its_size(self):
        model, masks, optimizer = start(RandomMask(**SMALL, exclude=["2.*"]))
        model[2].linear2.weight.data.zero_()
        for step in range(1, NUM_STEPS + 1):
            update(model, masks, optimizer, step)
        assert [model[number].linear1.out_features for number in (0, 2)] == [16, 32]

    def test_accumulated_batches(self):
        one, several = (train(LearnedMask(**SMALL), accumulate=accumulate) for accumulate in (1, 4))
        torch.testing.assert_close(several[0](inputs_of(99)), one[0](inputs_of(99)), rtol=1e-3, atol=1e-4)

    def test_a_compiled_model_goes_on(self):
        plain, _, _ = train(LearnedMask(**REGROWN))
        model, masks, optimizer = start(LearnedMask(**REGROWN))
        compiled = torch.compile(model, backend="eager")
        for step in range(1, NUM_STEPS + 1):
            update(model, masks, optimizer, step, forward=compiled)
        assert masks.phase == "regrown"
        assert torch.allclose(compiled(inputs_of(99)), plain(inputs_of(99)), atol=1e-6)

    def test_an_average_is_made_anew(self):
        model, masks, optimizer = train(LearnedMask(**SMALL), last=8)
        average = AveragedModel(model)
        update(model, masks, optimizer, 9)
        average.update_parameters(model)
        assert num_parameters(average) == num_parameters(model)

    def test_other_masks_may_follow(self):
        model, _, _ = train(LearnedMask(**SMALL))
        assert SparseMasks.attach(model, RandomMask(density=0.5)).num_masked > 0

    def test_an_exit_by_hand_is_what_it_says(self):
        model, masks, optimizer = start(LearnedMask(**SMALL))
        masks.finish("dense", optimizer)
        assert (masks.phase, num_parameters(model)) == ("dense", num_parameters(build()))


class TestRegrown:
    def test_outputs_stay_the_same(self):
        model, masks, optimizer = train(LearnedMask(**REGROWN), last=13)
        before, kept = model(inputs_of(99)), live(masks)
        small = model[0].linear1.weight.detach().clone()
        assert masks.step(0.7, optimizer)
        assert masks.phase == "regrown"
        assert masks.density == 1.0
        assert num_parameters(model) == num_parameters(build())
        torch.testing.assert_close(model(inputs_of(99)), before, rtol=1e-5, atol=1e-6)
        assert torch.equal(model[0].linear1.weight[kept], small)
        assert model[0].linear2.weight[:, ~kept].count_nonzero() == 0
        assert model[0].linear2.in_features == 32
        fresh = model[0].linear1.weight.detach()[~kept]
        assert fresh.std() == pytest.approx(small.std().item(), rel=0.2)
        state = optimizer.state[model[0].linear1.weight]["exp_avg"]
        assert state[~kept].count_nonzero() == 0
        assert state[kept].count_nonzero() > 0

    def test_what_is_new_warms_up_and_is_trained(self):
        model, masks, optimizer = train(LearnedMask(**REGROWN), last=14)
        new = ~live(train(LearnedMask(**REGROWN), last=13)[1])
        before = copy.deepcopy(model[0].linear1.weight)
        update(model, masks, optimizer, 15)
        first = (model[0].linear2.weight[:, new]).abs().max().item()
        assert 0 < first <= 0.01 / 3 * 1.2  # one step, at a third of the learning rate
        assert not torch.equal(model[0].linear1.weight[:, :], before)
        for step in range(16, NUM_STEPS + 1):
            update(model, masks, optimizer, step)
        assert model[0].linear2.weight[:, new].abs().min() > 0

    def test_fresh_values_are_the_same_in_each_run_and_leave_the_random_numbers_alone(self):
        one, other = (train(LearnedMask(**REGROWN))[0].state_dict() for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)
        _, masks, optimizer = train(LearnedMask(**REGROWN), last=13)
        state = torch.get_rng_state()
        masks.step(0.7, optimizer)
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_recogniser_grows_to_its_size(self):
        model = make_model("model.encoder.attention_heads=4").eval()
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        phase = {**REGROWN, "granularity": Structured()}
        masks = SparseMasks.attach(model, RandomMask(**phase))
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.001))
        model(make_batch([3, 5])).total.sum().backward()
        optimizer.step()
        masks.step(0.5, optimizer)
        with torch.no_grad():
            before = model(make_batch([3, 5])).total
        assert model.encoder.encoders[0].self_attn.h == 2
        masks.step(0.7, optimizer)
        assert {name: value.shape for name, value in model.state_dict().items()} == shapes
        assert model.encoder.encoders[0].self_attn.h == 4
        with torch.no_grad():
            torch.testing.assert_close(model(make_batch([3, 5])).total, before, rtol=1e-5, atol=1e-5)


class TestResume:
    @pytest.mark.parametrize("stop", [3, 7, 8, 9, 13, 14, 15, 19])
    @pytest.mark.parametrize(
        "method", [LearnedMask(**REGROWN), RigL(**REGROWN, every=0.1)], ids=lambda m: type(m).__name__
    )
    @pytest.mark.parametrize("make", [torch.optim.AdamW, SparseAdamW])
    def test_bit_for_bit_on_both_sides_of_each_border(self, make, method, stop):
        whole, whole_masks, _ = train(method, make=make)
        model, masks, optimizer = train(method, last=stop, make=make)
        file = io.BytesIO()
        torch.save(
            {"model": model.state_dict(), "masks": masks.state_dict(), "optimizer": optimizer.state_dict()}, file
        )
        file.seek(0)
        model, masks, optimizer = start(method, make, states=torch.load(file, weights_only=True))
        for step in range(stop + 1, NUM_STEPS + 1):
            update(model, masks, optimizer, step)
        assert (masks.phase, masks.fingerprint()) == ("regrown", whole_masks.fingerprint())
        assert masks.exit_summary == whole_masks.exit_summary
        for name, value in whole.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name

    def test_the_model_gets_the_size_of_the_checkpoint(self):
        small, masks, _ = train(LearnedMask(**SMALL))
        model, resumed, _ = start(LearnedMask(**SMALL), states={**states_of(small, masks)})
        assert num_parameters(model) == num_parameters(small)
        assert resumed.density == 0.5

    def test_a_method_that_does_not_compact(self):
        _, masks, _ = train(LearnedMask(**SMALL))
        with pytest.raises(ValueError, match=r"compact_at_exit: got False, and the state of a model that is compacted"):
            SparseMasks.attach(build(), LearnedMask(**SPARSE)).load_state_dict(masks.state_dict())


def states_of(model, masks):
    plain = torch.optim.AdamW(masks.param_groups(lr=0.01))
    return {"model": model.state_dict(), "masks": masks.state_dict(), "optimizer": plain.state_dict()}


class TestBadInput:
    def test_masks_that_leave_a_layer_empty(self):
        method = RandomMask(**{**SMALL, "allocation": Global()}, density=0.5)
        _, masks, _ = start(method)
        empty = copy.deepcopy(masks.state_dict())
        empty["unit_masks"]["2.linear2.weight"] = torch.zeros(1, 32, dtype=torch.bool)
        model, masks, optimizer = start(method)
        masks.load_state_dict(empty)
        with pytest.raises(
            ValueError,
            match=r"compact_at_exit: got masks that keep none of the 32 units at 2\.linear2\.weight, allowed",
        ):
            masks.step(0.4, optimizer)
        assert num_parameters(model) == num_parameters(build())

    @pytest.mark.parametrize("granularity", [Blocks(8, 8), None])
    def test_masks_that_are_not_of_units(self, granularity):
        settings = {} if granularity is None else {"granularity": granularity}
        with pytest.raises(ValueError, match=r"compact_at_exit: got True with granularity=.*, allowed is Structured: "):
            LearnedMask(compact_at_exit=True, **settings)

    @pytest.mark.parametrize("regrow_at", [0.1, 0.4, 1.0, 1.5])
    def test_a_regrowth_before_the_compaction(self, regrow_at):
        with pytest.raises(ValueError, match=rf"regrow_at: got {regrow_at} with until=0\.4, allowed is a share"):
            LearnedMask(**{**REGROWN, "regrow_at": regrow_at})

    @pytest.mark.parametrize("change", [{"exit": "sparse"}, {"compact_at_exit": False}])
    def test_a_regrowth_without_a_compaction_to_undo(self, change):
        with pytest.raises(
            ValueError, match=r"regrow_at: got 0\.7 with exit='\w+' and compact_at_exit=\w+, allowed is"
        ):
            LearnedMask(**{**REGROWN, **change})

    def test_a_model_without_units(self):
        with pytest.raises(ValueError, match=r"kinds: got a Linear without units of the kinds FeedForwardUnits"):
            SparseMasks.attach(nn.Linear(8, 8), LearnedMask(**SMALL))

    def test_an_optimiser_whose_moments_cannot_be_cut(self):
        with pytest.raises(ValueError, match=r"optimizer: got a Adafactor whose row_var of a weight \(32, 8\) is"):
            train(LearnedMask(**SMALL), make=torch.optim.Adafactor)
