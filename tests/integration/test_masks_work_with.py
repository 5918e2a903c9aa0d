"""What people put around a model and its optimiser, with every family of methods, in and after its phase."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from toy import attach, build, task_loss, train

from asrsparse.masks import (
    NM,
    SNIP,
    SRSTE,
    BinaryMask,
    Blocks,
    DecayingMask,
    FeedForwardUnits,
    GraNet,
    LearnedMask,
    RandomMask,
    RigL,
    SparseMasks,
    Structured,
)
from asrsparse.schedules import Constant

EXITS = ["dense", "sparse"]
PHASE = {"until": 0.1, "regrowth_warmup": 3}  # 10 of 100 steps
LAST = 15  # the step at which the tests stop
METHODS = {
    "learned": lambda **more: LearnedMask(**PHASE, stable_share=0.0, **more),
    "learned 2:4": lambda **more: LearnedMask(**PHASE, allocation=NM(2, 4), **more),
    "late": lambda **more: LearnedMask(**PHASE, start=0.04, **more),
    "random": lambda **more: RandomMask(**PHASE, **more),
    "snip": lambda **more: SNIP(**PHASE, **more),
    "rigl": lambda **more: RigL(**PHASE, every=0.02, density=0.3, **more),
    "granet": lambda **more: GraNet(**PHASE, every=0.02, granularity=Blocks(2, 4), **more),
    "srste": lambda **more: SRSTE(**PHASE, weight_decay=0.1, **more),
    "decaying": lambda **more: DecayingMask(**PHASE, **more),
}
PARAMETRISED = ("learned", "learned 2:4", "late", "srste", "decaying")
of_all_methods = pytest.mark.parametrize("name", METHODS)
of_both_exits = pytest.mark.parametrize("exit", EXITS)


def zeros_of(model, masks):
    """The dead weights, one after another."""
    return torch.cat([model.state_dict()[name][~kept] for name, kept in masks.weight_masks().items()])


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class TestCompile:
    """A parametrisation that comes or goes is another model, and compiled once; nothing else is ever compiled again."""

    @of_all_methods
    @of_both_exits
    def test_each_phase_is_compiled_once(self, name, exit):
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward

        torch.compiler.reset()
        model = build()
        masks, optimizer = attach(model, METHODS[name](exit=exit))
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        for step in train(compiled, masks, optimizer, last=LAST):
            assert torch.allclose(task_loss(compiled, step), task_loss(model, step))
        assert len(graphs) == (2 if name in PARAMETRISED else 1)  # a late one finds the first graph again
        assert masks.phase == exit

    def test_units_of_a_model(self):
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True)
        units = Structured([FeedForwardUnits("linear1", "linear2")])
        masks = SparseMasks.attach(layer, LearnedMask(granularity=units, until=1.0, stable_share=0.0))
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
        compiles = torch._dynamo.testing.CompileCounter()
        compiled = torch.compile(layer, backend=compiles)
        for step in range(1, 6):
            compiled(torch.randn(2, 3, 8)).square().mean().backward()
            optimizer.step()
            masks.step(step / 10, optimizer)
        assert compiles.frame_count == 1


class TestPrecision:
    @of_all_methods
    @of_both_exits
    def test_autocast_reaches_the_density_with_weights_in_float32(self, name, exit):
        model = build()
        masks, optimizer = attach(model, METHODS[name](exit=exit))
        for step in range(1, LAST + 1):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert model[4](torch.ones(1, 64)).dtype == torch.bfloat16
                loss = task_loss(model, step) + masks.penalty()
            loss.backward()
            optimizer.step()
            masks.step(step / 100, optimizer)
        assert masks.phase == exit
        assert masks.exit_summary["density"] == pytest.approx(0.3 if name == "rigl" else 0.5, abs=0.03)
        assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())
        assert zeros_of(model, masks).count_nonzero() == 0

    @of_all_methods
    @of_both_exits
    def test_a_gradient_scaler_changes_nothing_and_may_skip_steps(self, name, exit):
        """Scales are powers of two, which float32 multiplies by without rounding."""
        scaled = trained_with_scales(METHODS[name](exit=exit), torch.amp.GradScaler("cpu", init_scale=2.0**12))
        plain = trained_with_scales(METHODS[name](exit=exit), torch.amp.GradScaler("cpu", enabled=False))
        assert same(scaled[0].state_dict(), plain[0].state_dict())
        assert scaled[1].fingerprint() == plain[1].fingerprint()
        assert scaled[1].phase == exit


def trained_with_scales(method, scaler):
    """Steps 3, 5 and 12 have infinite gradients: the scaler skips them, and so do we where there is none."""
    model = build()
    masks, optimizer = attach(model, method)
    for step in range(1, LAST + 1):
        optimizer.zero_grad()
        is_infinite = step in (3, 5, 12)
        scaler.scale((task_loss(model, step) + masks.penalty()) * (torch.inf if is_infinite else 1.0)).backward()
        if scaler.is_enabled():
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if scaler.is_enabled() or not is_infinite:
            scaler.step(optimizer)
            scaler.update()
        masks.step(step / 100, optimizer)
    return model, masks


class TestAverages:
    @of_all_methods
    @pytest.mark.parametrize("first", [5, 11], ids=["in the phase", "after it"])
    @of_both_exits
    def test_an_average_is_that_of_the_weights_and_loads_into_the_plain_model(self, name, first, exit):
        model = build()
        masks, optimizer = attach(model, METHODS[name](exit=exit))
        for _ in train(model, masks, optimizer, last=first - 1):
            pass
        average, seen = AveragedModel(model), []
        for _ in train(model, masks, optimizer, first=first, last=first + 4):
            average.update_parameters(model)
            seen.append({key: value.clone() for key, value in model.state_dict().items()})
        averaged = average.module.state_dict()
        plain = build(seed=1)
        plain.load_state_dict(averaged, strict=True)
        for key, value in plain.state_dict().items():
            assert torch.allclose(value, torch.stack([state[key] for state in seen]).mean(dim=0), atol=1e-6)
        if first == 11:
            assert zeros_of(plain, masks).count_nonzero() == 0
            assert torch.equal(task_loss(average, 0), task_loss(plain, 0))

    @of_all_methods
    def test_a_copy_stands_alone(self, name):
        model = build()
        masks, optimizer = attach(model, METHODS[name]())
        for _ in train(model, masks, optimizer, last=6):
            pass
        twin = copy.deepcopy(model)
        before, state = task_loss(twin, 0).item(), copy.deepcopy(twin.state_dict())
        assert before == task_loss(model, 0).item()
        for _ in train(model, masks, optimizer, first=7, last=LAST):
            pass
        assert task_loss(twin, 0).item() == before
        build().load_state_dict(twin.state_dict(), strict=True)
        assert same(twin.state_dict(), state)


class TestOptimiser:
    @of_all_methods
    def test_a_fused_adamw_leaves_the_dead_at_zero_without_moments(self, name):
        model = build()
        masks, optimizer = attach(model, METHODS[name](exit="sparse"), fused=True)
        for _ in train(model, masks, optimizer, last=LAST):
            if masks.phase != "sparse":
                continue
            assert zeros_of(model, masks).count_nonzero() == 0
            for weight, kept in zip((model[0].weight, model[4].weight), masks.weight_masks().values(), strict=True):
                for moment in ("exp_avg", "exp_avg_sq"):
                    assert optimizer.state[weight][moment][~kept].count_nonzero() == 0
        assert masks.density < 0.6

    @of_all_methods
    def test_a_fused_adamw_takes_the_steps_of_a_plain_one(self, name):
        paths = []
        for fused in (False, True):
            model = build()
            masks, optimizer = attach(model, METHODS[name](exit="dense"), fused=fused)
            for _ in train(model, masks, optimizer, last=LAST):
                pass
            paths.append(model.state_dict())
        assert all(torch.allclose(paths[0][key], paths[1][key], atol=1e-3) for key in paths[0])

    def test_clipping_counts_the_gradients_of_living_weights_alone(self):
        model = build()
        masks, _ = attach(model, RandomMask(density=0.3))
        plain = build()
        plain.load_state_dict(masks.merged_state_dict())
        for each in (model, plain):
            task_loss(each, 1).backward()
        for name, kept in masks.weight_masks().items():
            plain.get_parameter(name).grad *= kept
        expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.01)
        assert torch.allclose(nn.utils.clip_grad_norm_(model.parameters(), 0.01), expected)
        pairs = zip(model.parameters(), plain.parameters(), strict=True)
        assert all(torch.allclose(mine.grad, other.grad) for mine, other in pairs)


class Witness:
    """A score that keeps the gradients that it saw."""

    needs_gradient = True

    def __call__(self, inputs):
        self.gradients = [gradient.clone() for gradient in inputs.gradients]
        return inputs.pool([gradient.abs() for gradient in inputs.gradients])


class TestAccumulation:
    @pytest.mark.parametrize("num_batches", [1, 2, 5])
    @pytest.mark.parametrize("density", [0.2, 1.0])
    def test_a_choice_sees_the_gradient_of_the_unmasked_weights_over_all_batches(self, num_batches, density):
        witness = Witness()
        method = BinaryMask(density=density, grow=witness, replaced_share=Constant(0.1), every=0.1)
        model = build()
        masks, optimizer = attach(model, method)
        for _ in train(model, masks, optimizer, last=10, accumulate=num_batches):
            pass
        assert not hasattr(witness, "gradients")  # due at step 10, seen in step 11
        plain = build()
        plain.load_state_dict(model.state_dict())
        optimizer.zero_grad()
        for part in range(num_batches):
            for each in (model, plain):
                task_loss(each, 11 + part).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)  # changes what the optimiser sees, not the choice
        masks.step(0.11, optimizer)
        for gradient, layer in zip(witness.gradients, (0, 4), strict=True):
            assert torch.allclose(gradient, plain[layer].weight.grad, rtol=1e-4, atol=1e-7)

    @of_all_methods
    @of_both_exits
    def test_parts_of_a_batch_train_as_the_whole(self, name, exit):
        """In float64 (but for logits to come), so that sums of another order choose the same masks."""
        ends = []
        for num_parts in (1, 4):
            model = build()
            masks, optimizer = attach(model, METHODS[name](exit=exit))
            model.double()
            for step in range(1, LAST + 1):
                optimizer.zero_grad()
                inputs = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
                for part in inputs.chunk(num_parts):
                    loss = (model(part) - part.mean(2)).square().mean() + masks.penalty()
                    (loss / num_parts).backward()
                optimizer.step()
                masks.step(step / 100, optimizer)
            ends.append((masks.fingerprint(), model.state_dict()))
        assert ends[0][0] == ends[1][0]
        assert all(torch.allclose(ends[0][1][key], ends[1][1][key], rtol=1e-5, atol=1e-6) for key in ends[0][1])
