import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from asrsparse.masks import DenseMask, LearnedMask, SparseMasks

NUM_STEPS = 40
EXITS = ["dense", "sparse"]


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.LayerNorm(40), nn.Linear(40, 4))


def method(exit="dense", **settings):
    return LearnedMask(**{"until": 0.5, "exit": exit, "stable_share": 0.0, **settings})


def attach(model, mask_method):
    masks = SparseMasks.attach(model, mask_method)
    return masks, torch.optim.AdamW(masks.param_groups(lr=0.01, weight_decay=0.1))


def task_loss(model, step):
    inputs = torch.randn(16, 6, 5, generator=torch.Generator().manual_seed(step))
    return (model(inputs) - inputs.mean(2)[:, :4]).square().mean()


def train(model, masks, optimizer, first, last):
    for step in range(first, last + 1):
        optimizer.zero_grad()
        (task_loss(model, step) + masks.penalty()).backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        masks.step(step / NUM_STEPS, optimizer)


def trained(mask_method, last=NUM_STEPS):
    model = build()
    masks, optimizer = attach(model, mask_method)
    train(model, masks, optimizer, 1, last)
    return model, masks, optimizer


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class TestNullObject:
    def test_it_trains_the_plain_model_bit_for_bit(self):
        masked, masks, _ = trained(DenseMask())
        plain = build()
        matrices, vectors = [[p for p in plain.parameters() if (p.dim() >= 2) == wide] for wide in (True, False)]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.01)
        for step in range(1, NUM_STEPS + 1):
            optimizer.zero_grad()
            task_loss(plain, step).backward()
            nn.utils.clip_grad_norm_([*matrices, *vectors], 1.0)
            optimizer.step()
        assert same(masked.state_dict(), plain.state_dict())
        assert same(masks.merged_state_dict(), plain.state_dict())

    def test_it_touches_nothing(self):
        model = build()
        masks, optimizer = attach(model, DenseMask())
        assert [type(module) for module in model] == [type(module) for module in build()]
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
        loss = task_loss(model, 0)
        assert torch.equal(loss + masks.penalty(), loss)
        assert (masks.phase, masks.density, masks.overall_density, masks.num_masked) == ("dense", 1.0, 1.0, 0)


class TestNames:
    def test_a_masked_model_saves_and_loads_as_the_plain_one(self):
        plain, model = build(), build()
        attach(model, method())
        assert list(model.state_dict()) == list(plain.state_dict())
        assert same(model.state_dict(), plain.state_dict())
        other = build(seed=1).state_dict()
        assert str(model.load_state_dict(other, strict=True)) == "<All keys matched successfully>"
        assert same(model.state_dict(), other)
        plain.load_state_dict(model.state_dict(), strict=True)

    @pytest.mark.parametrize("attach_to", ["recogniser", "encoder"])
    def test_a_parent_saves_and_loads_as_the_plain_one(self, attach_to):
        parent, plain = (nn.ModuleDict({"encoder": build(seed), "head": nn.Linear(4, 4)}) for seed in (0, 1))
        attach(parent if attach_to == "recogniser" else parent["encoder"], method())
        assert list(parent.state_dict()) == list(plain.state_dict())
        parent.load_state_dict(plain.state_dict(), strict=True)
        assert same(parent.state_dict(), plain.state_dict())

    def test_what_is_missing_or_unknown_is_reported_under_the_plain_name(self):
        model = build()
        attach(model, method())
        state = model.state_dict()
        state["unknown"] = state.pop("4.weight")
        with pytest.raises(RuntimeError, match=r'Missing key.* "4.weight"\.\s+Unexpected key.* "unknown"'):
            model.load_state_dict(state)
        assert "parametrizations" not in str(model.load_state_dict(state, strict=False))

    @pytest.mark.parametrize("exit", EXITS)
    def test_after_the_exit_the_model_is_plain(self, exit):
        model = build()
        before = dict(model.named_parameters())
        masks, optimizer = attach(model, method(exit))
        train(model, masks, optimizer, 1, NUM_STEPS // 2)
        assert masks.phase == exit
        assert not parametrize.is_parametrized(model)
        assert [type(module) for module in model] == [type(module) for module in build()]
        assert not any(m._state_dict_hooks or m._load_state_dict_pre_hooks for m in model.modules())
        after = dict(model.named_parameters())
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        model.load_state_dict(build(seed=1).state_dict(), strict=True)

    def test_the_merged_state_makes_a_plain_model_compute_the_same(self):
        model, masks, _ = trained(method(), last=15)
        plain = build(seed=1)
        plain.load_state_dict(masks.merged_state_dict(), strict=True)
        assert torch.equal(task_loss(plain, 0), task_loss(model, 0))
        assert not same(plain.state_dict(), model.state_dict())


class TestExit:
    @pytest.mark.parametrize("exit", EXITS)
    def test_what_is_masked_out_is_zero_and_its_moments_too(self, exit):
        model, masks, optimizer = trained(method(exit), last=NUM_STEPS // 2)
        dead = model[4].weight == 0
        num_dead = sum((model[layer].weight == 0).sum().item() for layer in (0, 4))
        assert num_dead == round((1 - masks.exit_summary["density"]) * masks.num_masked)
        state = optimizer.state[model[4].weight]
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            assert moment[dead].count_nonzero() == 0
            assert moment[~dead].count_nonzero() > 0

    def test_dense_trains_all_weights_again(self):
        model, masks, _ = trained(method("dense"))
        assert all((model[layer].weight != 0).all() for layer in (0, 4))
        assert masks.density == masks.overall_density == 1.0
        assert masks.exit_summary["density"] == pytest.approx(0.5, abs=0.02)

    @pytest.mark.parametrize("optimizer_type", [torch.optim.AdamW, torch.optim.SGD])
    def test_sparse_keeps_zeros_bit_for_bit_under_decay_and_momentum(self, optimizer_type):
        model = build()
        masks = SparseMasks.attach(model, method("sparse"))
        extra = {"momentum": 0.9} if optimizer_type is torch.optim.SGD else {}
        optimizer = optimizer_type(masks.param_groups(lr=0.01, weight_decay=0.1), **extra)
        train(model, masks, optimizer, 1, 15)
        masks.finish("sparse", optimizer)
        dead = [~weight_mask for weight_mask in masks._phase.weight_masks()]
        fingerprint = masks.fingerprint()
        for step in range(16, NUM_STEPS + 1):
            optimizer.zero_grad()
            task_loss(model, step).backward()
            assert all(
                p.grad[d].count_nonzero() == 0 for p, d in zip((model[0].weight, model[4].weight), dead, strict=True)
            )
            optimizer.step()  # and no masks.step: gradients and moments alone hold the zeros
        zeros = torch.cat([weight[d] for weight, d in zip((model[0].weight, model[4].weight), dead, strict=True)])
        assert torch.equal(zeros.view(torch.int32), torch.zeros_like(zeros, dtype=torch.int32))
        assert masks.fingerprint() == fingerprint

    def test_sparse_writes_zeros_again_after_a_step_that_lost_them(self):
        model, masks, optimizer = trained(method("sparse"), last=30)
        dead = model[4].weight == 0
        with torch.no_grad():
            model[4].weight += 1.0
        masks.step(0.9, optimizer)
        assert torch.equal(model[4].weight == 0, dead)

    def test_logits_take_no_memory_after_the_exit(self):
        _, _, optimizer = trained(method(), last=NUM_STEPS // 2)
        group = next(group for group in optimizer.param_groups if group.get("name") == "mask_logits")
        assert len(group["params"]) == 2
        assert all(logits.numel() == 0 and logits.grad is None for logits in group["params"])
        assert not any(logits in optimizer.state for logits in group["params"])

    def test_an_explicit_exit_may_come_at_any_time(self):
        model, masks, optimizer = trained(method(), last=15)
        fingerprint = masks.fingerprint()
        masks.finish("sparse", optimizer)
        assert masks.phase == "sparse"
        assert masks.fingerprint() != fingerprint  # the phase counts
        train(model, masks, optimizer, 16, NUM_STEPS)
        assert masks.density == pytest.approx(masks.exit_summary["density"])


class TestResume:
    @pytest.mark.parametrize("exit", EXITS)
    @pytest.mark.parametrize("stop", [7, 15, NUM_STEPS // 2, 30])
    @pytest.mark.parametrize("masks_first", [True, False])
    def test_a_resumed_run_ends_bitwise_as_an_uninterrupted_one(self, exit, stop, masks_first):
        whole, whole_masks, _ = trained(method(exit))
        model, masks, optimizer = trained(method(exit), last=stop)
        saved = through_file([model.state_dict(), optimizer.state_dict(), masks.state_dict()])
        assert (masks.phase == "learning") == (stop < NUM_STEPS // 2)

        model = build(seed=1)
        masks = SparseMasks.attach(model, method(exit))
        if masks_first:
            masks.load_state_dict(saved[2])
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01, weight_decay=0.1))
        model.load_state_dict(saved[0])
        if not masks_first:
            masks.load_state_dict(saved[2])
        optimizer.load_state_dict(saved[1])
        train(model, masks, optimizer, stop + 1, NUM_STEPS)
        assert same(model.state_dict(), whole.state_dict())
        assert masks.fingerprint() == whole_masks.fingerprint()
        assert masks.exit_summary == whole_masks.exit_summary

    def test_the_null_object_resumes(self):
        masks = SparseMasks.attach(build(), DenseMask())
        masks.load_state_dict(through_file(SparseMasks.attach(build(), DenseMask()).state_dict()))
        assert masks.phase == "dense"


class TestWorksWith:
    def test_autocast_computes_masks_in_float32_and_layers_in_bfloat16(self):
        model = build()
        masks, optimizer = attach(model, method())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model[4].weight.dtype == torch.float32
            assert model(torch.randn(2, 6, 5)).dtype == torch.bfloat16
            loss = task_loss(model, 1) + masks.penalty()
        loss.backward()
        optimizer.step()
        assert not masks.step(0.1, optimizer)

    def test_a_model_in_low_precision_keeps_its_logits_in_float32(self):
        model = build().bfloat16()
        attach(model, method())
        assert model[4].weight.dtype == torch.bfloat16
        assert model[4].parametrizations.weight[0].logits.dtype == torch.float32

    def test_a_compiled_model_is_compiled_once(self):
        model = build()
        masks, optimizer = attach(model, method())
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward

        compiled = torch.compile(model, backend=backend, fullgraph=True)
        outputs = []
        for step in range(1, 5):
            outputs.append(compiled(torch.ones(2, 6, 5)))
            assert torch.allclose(outputs[-1], model(torch.ones(2, 6, 5)))
            outputs[-1].sum().backward()
            optimizer.step()
            masks.step(step / NUM_STEPS, optimizer)
        assert len(graphs) == 1
        assert not torch.equal(outputs[0], outputs[-1])

    def test_a_compiled_model_learns_the_same(self):
        gradients = []
        for compiled in (False, True):
            model = build()
            attach(model, method())
            forward = torch.compile(model, backend="eager") if compiled else model
            forward(torch.ones(2, 6, 5)).square().sum().backward()
            gradients.append(model[4].parametrizations.weight[0].logits.grad)
        assert gradients[0].abs().sum() > 0
        torch.testing.assert_close(gradients[1], gradients[0])

    def test_a_copy_of_the_model_stands_alone(self):
        model, masks, optimizer = trained(method(), last=10)
        twin = copy.deepcopy(model)
        frozen = task_loss(twin, 0).item()
        assert frozen == task_loss(model, 0).item()
        train(model, masks, optimizer, 11, NUM_STEPS)
        assert task_loss(twin, 0).item() == frozen
        assert list(twin.state_dict()) == list(build().state_dict())
        twin.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(twin[4].parametrizations.weight.original, model[4].weight)
        with pytest.raises(ValueError, match=r"0.weight is under a mask already"):
            SparseMasks.attach(twin, method())


class TestNumbers:
    def test_counts_and_densities_agree(self):
        _, masks, _ = trained(method("sparse", target_density=0.25))
        plain = build()
        assert masks.num_parameters == sum(p.numel() for p in plain.parameters())
        assert masks.num_masked == plain[0].weight.numel() + plain[4].weight.numel()
        dead = (1 - masks.density) * masks.num_masked
        assert masks.overall_density == pytest.approx(1 - dead / masks.num_parameters)
        assert masks.summary()["density"] == masks.exit_summary["density"] == masks.density

    def test_the_summary_follows_the_phase(self):
        _, masks, _ = trained(method(), last=15)
        summary = masks.summary()
        assert {"density", "overall_density", "changed_share", "temperature", "penalty_weight"} <= summary.keys()
        assert all(isinstance(value, float) for value in summary.values())

    def test_fingerprints_tell_masks_apart(self):
        one, same_one, other = (trained(method(target_density=d), last=15)[1].fingerprint() for d in (0.5, 0.5, 0.3))
        assert one == same_one != other


class TestBadInput:
    def test_a_second_attach(self):
        for exit in (None, "sparse"):
            model, masks, optimizer = trained(method(), last=5)
            if exit:
                masks.finish(exit, optimizer)
            with pytest.raises(
                ValueError, match=r"0.weight is under a mask already; allowed is one `attach` per model"
            ):
                SparseMasks.attach(model, method())

    def test_a_second_attach_after_a_dense_exit_is_allowed(self):
        model, _, _ = trained(method("dense"))
        assert SparseMasks.attach(model, method()).phase == "learning"

    def test_an_optimizer_without_the_masked_weights_or_their_logits(self):
        model = build()
        masks = SparseMasks.attach(model, method())
        with pytest.raises(ValueError, match=r"SGD does not hold 2 of 2 masked weights. Build the optimiser from"):
            masks.step(0.1, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
        plain = torch.optim.AdamW(masks.param_groups(lr=0.1)[:2])
        with pytest.raises(ValueError, match=r"AdamW does not hold 2 of 2 mask logits. Build the optimiser from"):
            masks.step(0.1, plain)
        with pytest.raises(ValueError, match=r"does not hold 2 of 2 mask logits"):
            masks.finish("dense", plain)

    def test_an_unknown_exit(self):
        _, masks, optimizer = trained(method(), last=5)
        with pytest.raises(ValueError, match=r"^exit: got 'warm', allowed are dense, sparse"):
            masks.finish("warm", optimizer)

    def test_a_second_exit(self):
        _, masks, optimizer = trained(method())
        with pytest.raises(ValueError, match=r"^exit: got a second exit \('sparse'\) in phase 'dense'; allowed is one"):
            masks.finish("sparse", optimizer)

    def test_progress_outside_of_training(self):
        _, masks, optimizer = trained(method(), last=5)
        with pytest.raises(ValueError, match=r"^progress: got 1.5, allowed is the share of training done, in \[0, 1\]"):
            masks.step(1.5, optimizer)

    def test_the_state_of_another_models_masks(self):
        _, masks, _ = trained(method(), last=5)
        for other in (
            SparseMasks.attach(build(), method(exclude=["4.*"])),
            SparseMasks.attach(nn.Linear(2, 3), method()),
            SparseMasks.attach(build(), DenseMask()),
        ):
            with pytest.raises(
                ValueError, match=r"is of another model: got 2 weights, \w+, allowed is [01] weights, \w+"
            ):
                other.load_state_dict(masks.state_dict())

    def test_a_state_loaded_after_the_exit(self):
        _, masks, _ = trained(method())
        with pytest.raises(ValueError, match=r"got masks in phase 'dense', allowed are fresh ones"):
            masks.load_state_dict(masks.state_dict())
