import io
import math

import pytest
import torch
from torch import nn
from toy import NUM_STEPS, attach, build, task_loss, train, trained

from asrsparse.masks import (
    GMP,
    MEST,
    NM,
    SET,
    SNIP,
    SRSTE,
    BinaryMask,
    Blocks,
    DecayingMask,
    ErdosRenyi,
    Global,
    GraNet,
    LearnedMask,
    MagnitudeMask,
    RandomMask,
    RigL,
    SparseMasks,
    Uniform,
)
from asrsparse.masks.saliency import GradientSaliency, MagnitudeSaliency
from asrsparse.schedules import Constant

METHODS = [RandomMask, SNIP, MagnitudeMask, GMP, SET, RigL, MEST, GraNet, LearnedMask, SRSTE, DecayingMask]
DYNAMIC = [SET, RigL, MEST, GraNet]


def of_density(method_type, density, **settings):
    name = "target_density" if method_type is LearnedMask else "density"
    if method_type in (SRSTE, DecayingMask):
        settings = {"allocation": Uniform(), **settings}
    return method_type(**{name: density}, **settings)


def zeros(model):
    return {layer: model[layer].weight == 0 for layer in (0, 4)}


@pytest.mark.parametrize("exit", ["dense", "sparse"])
@pytest.mark.parametrize("method_type", METHODS)
class TestAllMethods:
    @pytest.mark.integration
    @pytest.mark.parametrize("density", [0.5, 0.2])
    def test_the_density_is_reached_and_the_exit_taken(self, method_type, density, exit):
        model, masks, _ = trained(of_density(method_type, density, until=0.8, exit=exit))
        assert masks.phase == exit
        assert masks.exit_summary["density"] == pytest.approx(density, abs=0.02)
        share_of_zeros = sum(where.sum().item() for where in zeros(model).values()) / masks.num_masked
        assert share_of_zeros == (0.0 if exit == "dense" else pytest.approx(1 - density, abs=0.02))

    @pytest.mark.slow
    def test_a_resumed_run_ends_bitwise_as_an_uninterrupted_one(self, method_type, exit):
        method = of_density(method_type, 0.3, until=0.8, exit=exit)
        whole, whole_masks, whole_optimizer = trained(method)
        for stop in (1, 38, 85):
            model, masks, optimizer = trained(method, last=stop)
            file = io.BytesIO()
            torch.save([model.state_dict(), masks.state_dict(), optimizer.state_dict()], file)
            file.seek(0)
            states = torch.load(file, weights_only=True)
            model = build(seed=1)
            masks, optimizer = attach(model, method)
            masks.load_state_dict(states[1])
            model.load_state_dict(states[0])
            optimizer.load_state_dict(states[2])
            for _ in train(model, masks, optimizer, first=stop + 1):
                pass
            assert masks.fingerprint() == whole_masks.fingerprint()
            for name, value in whole.state_dict().items():
                assert torch.equal(model.state_dict()[name], value), (stop, name)
            for name, state in whole_optimizer.state_dict()["state"].items():
                assert all(
                    torch.equal(value, optimizer.state_dict()["state"][name][key]) for key, value in state.items()
                )


@pytest.mark.parametrize("method_type", METHODS)
class TestInvariants:
    def test_dead_weights_have_no_value_no_gradient_and_no_moments(self, method_type):
        if method_type in (LearnedMask, SRSTE, DecayingMask):
            method = of_density(method_type, 0.3, until=0.4, exit="sparse", **_stable(method_type))
        else:
            method = of_density(method_type, 0.3)
        model = build()
        masks, optimizer = attach(model, method)
        for _ in train(model, masks, optimizer):
            if masks.phase != "sparse":
                continue
            for weight, kept in zip((model[0].weight, model[4].weight), masks.weight_masks().values(), strict=True):
                assert weight[~kept].count_nonzero() == 0
                for moment in ("exp_avg", "exp_avg_sq"):
                    assert optimizer.state[weight][moment][~kept].count_nonzero() == 0
        assert masks.density == pytest.approx(0.3, abs=0.03)

    def test_a_masked_checkpoint_loads_into_the_plain_model_and_back(self, method_type):
        model, masks, _ = trained(of_density(method_type, 0.5), last=60)
        plain = build(seed=1)
        plain.load_state_dict(masks.merged_state_dict(), strict=True)
        assert torch.equal(task_loss(plain, 0), task_loss(model, 0))
        model.load_state_dict(plain.state_dict(), strict=True)
        assert list(model.state_dict()) == list(plain.state_dict())

    def test_masks_that_start_late_leave_the_training_before_as_it_was(self, method_type):
        model = build()
        masks, optimizer = attach(model, of_density(method_type, 0.5, start=0.5, until=0.9))
        plain = build()
        matrices, vectors = [[p for p in plain.parameters() if (p.dim() >= 2) == wide] for wide in (True, False)]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        plain_optimizer = torch.optim.AdamW(groups, lr=0.01)
        for step in train(model, masks, optimizer, last=70):
            plain_optimizer.zero_grad()
            task_loss(plain, step).backward()
            plain_optimizer.step()
            if step < 50:
                assert (masks.phase, masks.densities()["0.weight"]) == ("dense", 1.0)
                assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=False))
        assert masks.phase != "dense"

    def test_accumulated_batches_choose_the_same_masks_as_one_large_batch(self, method_type):
        """The toy's loss is a mean over examples, so halves of a batch have half of its gradient each."""
        fingerprints = set()
        for accumulate in (1, 2):
            model = build()
            masks, optimizer = attach(model, of_density(method_type, 0.5))
            for step in range(1, 61):
                optimizer.zero_grad()
                inputs = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step))
                for part in inputs.chunk(accumulate):
                    ((model(part) - part.mean(2)).square().mean() / accumulate).backward()
                for parameter in model.parameters():  # so that sums of another order do not matter
                    if parameter.grad is not None:
                        parameter.grad.copy_(parameter.grad.sign() * parameter.grad.abs().ge(1e-6))
                if step <= 40:
                    optimizer.step()
                masks.step(step / NUM_STEPS, optimizer)
            fingerprints.add(masks.density)
        assert len(fingerprints) == 1


def _stable(method_type):
    return {"stable_share": 1.0} if method_type is LearnedMask else {}


class TestChoices:
    def test_random_masks_follow_the_allocation_and_the_seed(self):
        fingerprints = [
            attach(build(), RandomMask(density=0.2, allocation=allocation, seed=seed))[0].fingerprint()
            for allocation in (Uniform(), ErdosRenyi(), Global())
            for seed in (0, 1)
        ]
        assert len(set(fingerprints)) == 6
        assert attach(build(), RandomMask(density=0.2, allocation=Uniform()))[0].fingerprint() == fingerprints[0]
        masks, _ = attach(build(), RandomMask(density=0.2, allocation=ErdosRenyi()))
        wide, narrow = masks.densities()["4.weight"], masks.densities()["0.weight"]
        assert wide / narrow == pytest.approx((8 + 64) / (8 * 64) * (16 * 8 * 3) / (16 + 8 + 3), rel=0.02)
        assert masks.density == pytest.approx(0.2, abs=0.005)

    def test_magnitude_keeps_the_largest(self):
        model, _, _ = trained(MagnitudeMask(density=0.25, start=0.5, allocation=Uniform()), last=49)
        weights = {layer: model[layer].weight.detach().clone() for layer in (0, 4)}
        model, masks, optimizer = trained(MagnitudeMask(density=0.25, start=0.5, allocation=Uniform()), last=49)
        optimizer.zero_grad()
        masks.step(0.5, optimizer)
        for layer, before in weights.items():
            kept = model[layer].weight != 0
            assert kept.sum() == round(0.25 * before.numel())
            assert before[kept].abs().min() > before[~kept].abs().max()

    def test_snip_keeps_what_the_loss_is_most_sensitive_to(self):
        model = build()
        gradients = torch.autograd.grad(task_loss(model, 1), [model[0].weight, model[4].weight])
        masks, optimizer = attach(model, SNIP(density=0.3))
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.0
        assert masks.phase == "dense"
        masks.step(0.0, optimizer)  # no gradient yet: it is collected in the next step
        optimizer.zero_grad()
        task_loss(model, 1).backward()
        weights = [model[layer].weight.detach().clone() for layer in (0, 4)]
        masks.step(0.01, optimizer)
        worth = torch.cat([(w * g).abs().flatten() for w, g in zip(weights, gradients, strict=True)])
        kept = torch.cat([mask.flatten() for mask in masks.weight_masks().values()])
        assert kept.sum() == round(0.3 * worth.numel())
        assert worth[kept].min() >= worth[~kept].max()

    def test_rigl_replaces_the_smallest_by_those_of_the_largest_gradient(self):
        settings = {
            "density": 0.5,
            "every": 0.5,
            "replaced_share": Constant(0.2),
            "allocation": Uniform(),
            "until": 1.0,
        }
        model, masks, optimizer = trained(RigL(**settings), last=50)  # the choice is due, and made after step 51
        before = masks.weight_masks()["4.weight"].clone()
        optimizer.zero_grad()
        task_loss(model, 51).backward()
        dense = torch.autograd.grad(task_loss(model, 51), model[4].weight)[0]
        weight = model[4].weight.detach().clone()
        masks.step(0.51, optimizer)
        after = masks.weight_masks()["4.weight"]
        dropped, grown = before & ~after, after & ~before
        assert after.sum() == before.sum() == 256
        assert 0 < grown.sum() <= 51
        assert grown.sum() == dropped.sum()
        assert weight[dropped].abs().max() <= weight[before & after].abs().median()
        assert dense[grown].abs().min() >= dense[~before & ~after].abs().max()
        assert model[4].weight[grown].count_nonzero() == 0

    def test_gmp_prunes_along_a_cubic_and_nothing_returns(self):
        model = build()
        masks, optimizer = attach(model, GMP(density=0.2, start=0.2, until=0.8, every=0.05, allocation=Uniform()))
        densities, alive = [], torch.ones(8, 64, dtype=torch.bool)
        for _ in train(model, masks, optimizer):
            densities.append(masks.density)
            now = masks.weight_masks()["4.weight"]
            assert not (now & ~alive).any()
            alive = now
        assert densities[:20] == [1.0] * 20
        assert densities[44] == pytest.approx(0.2 + 0.8 * (1 - 0.25 / 0.55) ** 3, abs=0.01)
        assert densities[-1] == pytest.approx(0.2, abs=0.002)

    @pytest.mark.parametrize("method_type", [GMP, GraNet])
    @pytest.mark.parametrize("num_updates", [2, 3, 7, 12, 40])
    def test_the_density_is_reached_with_few_updates(self, method_type, num_updates):
        model = build()
        masks, optimizer = attach(model, method_type(density=0.2))
        for update in range(1, num_updates + 1):
            optimizer.zero_grad()
            task_loss(model, update).backward()
            optimizer.step()
            masks.step(update / num_updates, optimizer)
        assert masks.phase == "sparse"
        assert masks.density == pytest.approx(0.2, abs=0.002)

    def test_granet_prunes_by_one_ranking_and_replaces_half_within_each_layer(self):
        settings = {"density": 0.2, "every": 0.25, "until": 1.0, "replaced_share": Constant(0.5)}
        model, masks, optimizer = trained(GraNet(**settings), last=50)  # due at 0.5, made after step 51
        before = [mask.clone() for mask in masks.weight_masks().values()]
        optimizer.zero_grad()
        task_loss(model, 51).backward()
        weights = [model[layer].weight.detach().clone() for layer in (0, 4)]
        masks.step(0.51, optimizer)
        after = list(masks.weight_masks().values())
        density = 0.2 + 0.8 * (1 - 0.51 / 0.75) ** 3
        size = torch.cat([weight.abs().flatten() for weight in weights])
        threshold = size.sort(descending=True).values[round(density * size.numel()) - 1]
        for weight, was, now in zip(weights, before, after, strict=True):
            pruned = weight.abs() >= threshold
            assert now.sum() == pruned.sum()  # as many in each layer as the one ranking leaves
            survivors = pruned & now
            dropped = pruned & ~now
            assert (was | ~pruned).all()
            assert dropped.sum() <= math.ceil(0.5 * pruned.sum())
            assert weight[dropped].abs().max() <= weight[survivors].abs().median()
            assert (now & ~pruned).sum() == dropped.sum() > 0

    def test_one_ranking_that_empties_a_layer_is_warned_of_by_name(self, caplog):
        model = build()
        with torch.no_grad():
            model[0].weight.mul_(1e-6)
        attach(model, BinaryMask(density=0.2, first=MagnitudeSaliency(), allocation=Global()))
        assert "allocation: 1 of 2 masked weights have nothing left: 0.weight. Their layers" in caplog.text
        caplog.clear()
        attach(build(), BinaryMask(density=0.2, first=MagnitudeSaliency(), allocation=Global()))
        assert "nothing left" not in caplog.text

    @pytest.mark.parametrize("method_type", DYNAMIC)
    def test_dynamic_methods_move_and_keep_the_density(self, method_type):
        model = build()
        masks, optimizer = attach(model, of_density(method_type, 0.5))
        explored = torch.zeros(8, 64, dtype=torch.bool)
        fingerprints = set()
        for _ in train(model, masks, optimizer, last=60):
            explored |= masks.weight_masks()["4.weight"]
            fingerprints.add(masks.fingerprint())
            if method_type is not GraNet:
                assert masks.density == pytest.approx(0.5, abs=0.002)
        assert len(fingerprints) > 10
        assert explored.float().mean() > 0.6

    @pytest.mark.parametrize("method_type", METHODS)
    def test_n_of_m(self, method_type):
        name = "target_density" if method_type is LearnedMask else "density"
        settings = {"allocation": NM(1, 4), name: 0.25, "exit": "sparse"}
        model, masks, _ = trained(method_type(**settings), last=NUM_STEPS)
        assert masks.phase == "sparse"
        for layer in (0, 4):
            kept = (model[layer].weight != 0).movedim(1, -1).reshape(-1, 4).sum(1)
            assert kept.max() == 1
            assert (kept == 1).float().mean() > 0.95

    @pytest.mark.parametrize("method_type", METHODS)
    def test_blocks(self, method_type):
        model, masks, _ = trained(of_density(method_type, 0.5, granularity=Blocks(4, 8), exit="sparse"))
        blocks = (model[4].weight != 0).reshape(2, 4, 8, 8).float().mean(dim=(1, 3))
        assert set(blocks.unique().tolist()) <= {0.0, 1.0}
        assert masks.density == pytest.approx(0.5, abs=96 / 896)  # one of the larger blocks


class TestSteps:
    def test_a_step_with_infinite_gradients_chooses_nothing(self):
        model, masks, optimizer = trained(
            RigL(density=0.5, every=0.5, until=1.0, replaced_share=Constant(0.2)), last=50
        )
        before = masks.fingerprint()
        optimizer.zero_grad()
        (task_loss(model, 51) * torch.inf).backward()
        masks.step(0.51, optimizer)
        assert masks.fingerprint() == before
        optimizer.zero_grad()
        task_loss(model, 52).backward()
        masks.step(0.52, optimizer)
        assert masks.fingerprint() != before

    def test_a_fused_optimiser_holds_zeros_too(self):
        model, masks, _ = trained(RigL(density=0.3), fused=True)
        assert all(
            (model[layer].weight != 0).sum() <= masks.weight_masks()[f"{layer}.weight"].sum() for layer in (0, 4)
        )
        assert masks.density == pytest.approx(0.3, abs=0.01)

    def test_a_method_is_made_of_any_scores(self):
        method = BinaryMask(
            density=0.4,
            first=MagnitudeSaliency(),
            keep=GradientSaliency(),
            grow=MagnitudeSaliency(),
            replaced_share=Constant(0.1),
            every=0.1,
        )
        _, masks, _ = trained(method, last=60)
        assert masks.density == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("build_method", "message"),
    [
        (lambda: RandomMask(density=0.0), r"^density: got 0.0, allowed is a share in \(0, 1\]"),
        (lambda: RigL(every=1.5), r"^every: got 1.5, allowed is a share in \(0, 1\]"),
        (
            lambda: GMP(start=0.8, until=0.5),
            r"^start and until: got start=0.8 and until=0.5, allowed are shares of training",
        ),
        (lambda: SET(exit="off"), r"^exit: got 'off', allowed are dense and sparse"),
        (lambda: GMP(every=None), r"^every: got None with initial_density=1.0, allowed is a share in"),
        (lambda: RandomMask(regrowth_warmup=-1), r"^regrowth_warmup: got -1, allowed are optimiser steps from 0 on"),
    ],
)
def test_bad_settings_are_named(build_method, message):
    with pytest.raises(ValueError, match=message):
        build_method()


def test_a_density_that_leaves_a_layer_nothing_is_refused_before_training():
    with pytest.raises(
        ValueError, match=r"^density: got 0.0005, with which Uniform leaves 0.weight none of its 384 units"
    ):
        SparseMasks.attach(build(), RandomMask(density=0.0005, allocation=Uniform()))
    attach(model := build(), RandomMask(density=0.5))  # and the model was left free
    assert isinstance(model, nn.Module)
