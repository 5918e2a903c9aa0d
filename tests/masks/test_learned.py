import pytest
import torch
from torch import nn

from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.schedules import Constant, Geometric


def teacher_student(method, num_steps, seed=0):
    """Trains a small network to follow a sparse one, until the masks exit; yields the held-out loss of each step."""
    torch.manual_seed(seed)
    teacher, student = (nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 8)) for _ in range(2))
    with torch.no_grad():
        for layer in (teacher[0], teacher[2]):
            layer.weight.copy_(torch.randn_like(layer.weight) * (torch.rand_like(layer.weight) < 0.2))
    held_out = torch.randn(256, 32)
    masks = SparseMasks.attach(student, method)
    optimizer = torch.optim.AdamW(masks.param_groups(lr=3e-3))
    for step in range(1, num_steps + 1):
        inputs = torch.randn(64, 32)
        loss = (student(inputs) - teacher(inputs).detach()).square().mean()
        optimizer.zero_grad()
        (loss + masks.penalty()).backward()
        optimizer.step()
        masks.step(step / num_steps, optimizer)
        with torch.no_grad():
            yield student, masks, (student(held_out) - teacher(held_out)).square().mean().item()
        if masks.phase != "learning":
            return


@pytest.mark.parametrize("density", [0.5, 0.2])
@pytest.mark.parametrize("num_steps", [100, 300])
def test_a_phase_of_few_steps_reaches_the_target_near_binary(density, num_steps):
    *_, (_, masks, _) = teacher_student(LearnedMask(until=1.0, target_density=density, logit_lr=0.03), num_steps)
    assert masks.phase == "dense"
    assert masks.exit_summary["density"] == pytest.approx(density, abs=0.02)
    assert masks.exit_summary["near_binary_share"] > 0.97
    assert masks.exit_summary["changed_share"] < 0.02


@pytest.mark.parametrize("exit", ["dense", "sparse"])
def test_the_exit_costs_hardly_any_loss(exit):
    losses = [loss for *_, loss in teacher_student(LearnedMask(until=1.0, exit=exit, stable_share=0.0), 200)]
    assert losses[-1] == pytest.approx(losses[-2], rel=0.03)  # the last step ends the phase
    assert losses[-1] < 0.6 * losses[0]


def test_the_density_falls_towards_the_target_and_stays():
    method = LearnedMask(until=1.0, target_density=0.3, stable_share=0.0)
    densities = [masks.density for _, masks, _ in teacher_student(method, 100)][:-1]
    assert densities[0] == 1.0
    assert densities[20] > 0.5
    assert all(density == pytest.approx(0.3, abs=0.02) for density in densities[55:])


def test_a_stable_mask_ends_the_phase_early_but_not_before_the_target_is_reached():
    method = LearnedMask(until=1.0, stable_share=1.0, reach_by=0.4, stable_near_binary=0.0)
    assert len(list(teacher_student(method, 100))) == 40


def test_masks_of_which_no_bit_changes_yet_are_not_stable_before_they_are_near_binary():
    *_, (_, masks, _) = teacher_student(LearnedMask(until=1.0, reach_by=0.3, check_every=0.05), 100)
    assert masks.exit_summary["near_binary_share"] > 0.9 or masks.exit_summary["temperature"] == pytest.approx(100.0)


def test_masks_leave_early_once_they_are_near_binary():
    method = LearnedMask(until=1.0, target_density=1.0, reach_by=0.3, check_every=0.05)
    *_, (_, masks, _) = teacher_student(method, 100)
    assert masks.exit_summary["near_binary_share"] >= 0.9
    assert masks.exit_summary["temperature"] < 100.0
    assert masks.exit_summary["changed_share"] == 0.0


def test_a_state_restores_whether_the_masks_were_near_binary():
    masks = SparseMasks.attach(nn.Linear(4, 3), LearnedMask())
    masks._phase._near_binary_share = 0.95
    other = SparseMasks.attach(nn.Linear(4, 3), LearnedMask())
    other.load_state_dict(masks.state_dict())
    assert other._phase._near_binary_share == 0.95
    old = {key: value for key, value in masks.state_dict().items() if key != "near_binary_share"}
    other = SparseMasks.attach(nn.Linear(4, 3), LearnedMask())
    other.load_state_dict(old)
    assert other._phase._near_binary_share == 0.0


def test_an_exit_of_masks_that_are_not_near_binary_is_warned_of(caplog):
    masks = SparseMasks.attach(nn.Linear(4, 3), LearnedMask())
    masks.finish("dense", torch.optim.AdamW(masks.param_groups(lr=0.01)))
    assert (
        "left before they were stable: 100 % of their bits changed between the last two checks, and 0 %" in caplog.text
    )


def test_a_density_of_one_masks_nothing():
    *_, (_, masks, _) = teacher_student(LearnedMask(until=1.0, target_density=1.0), 30)
    assert masks.exit_summary["density"] > 0.97


@pytest.mark.parametrize("penalty_on", ["logits", "mask"])
def test_a_bare_penalty_makes_the_masks_sparser_within_the_clamp(penalty_on):
    kept = {}
    for weight in (0.01, 100.0):
        method = LearnedMask(
            until=1.0,
            target_density=None,
            penalty_weight=weight,
            penalty_on=penalty_on,
            logit_lr=0.03,
            temperature=Constant(2.0),
        )
        densities = []
        for student, masks, _ in teacher_student(method, 80):
            densities.append(masks.density)
            if masks.phase == "learning":
                logits = student[0].parametrizations.weight[0].logits
                assert logits.abs().max() <= method.max_logit
        kept[weight] = masks.exit_summary["density"]
    assert kept[100.0] < 0.3 * kept[0.01]


def test_the_penalty_is_lambda_times_the_mean_over_all_masked_weights():
    for penalty_on, start in (("logits", 1.0), ("mask", torch.sigmoid(torch.tensor(2.0)).item())):
        model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        method = LearnedMask(penalty_weight=4.0, penalty_on=penalty_on, logit=1.0, temperature=Constant(2.0))
        penalty = SparseMasks.attach(model, method).penalty()
        assert penalty.shape == ()
        assert penalty.item() == pytest.approx(4.0 * start)
        penalty.backward()
        slope = 1.0 if penalty_on == "logits" else 2.0 * start * (1.0 - start)
        assert torch.allclose(model[0].parametrizations.weight[0].logits.grad, torch.tensor(4.0 * slope / 25))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"until": 0.0},
            r"^start and until: got start=0.0 and until=0.0, allowed are shares of training with 0 <= start",
        ),
        (
            {"until": 1.5},
            r"^start and until: got start=0.0 and until=1.5, allowed are shares .* 0 <= start <= until <= 1",
        ),
        ({"target_density": 0.0}, r"^target_density: got 0.0, allowed is a share in \(0, 1\]"),
        ({"target_density": 1.1}, r"^target_density: got 1.1, allowed is a share in \(0, 1\]"),
        ({"exit": "warm"}, r"^exit: got 'warm', allowed are dense and sparse"),
        ({"penalty_on": "weights"}, r"^penalty_on: got 'weights', allowed are logits and mask"),
        ({"logit": 0.0}, r"^logit: got 0.0, allowed is a positive value"),
        ({"max_logit": -1.0}, r"^max_logit: got -1.0, allowed is a positive value, or null"),
        ({"logit_lr_scale": 0.0}, r"^logit_lr_scale: got 0.0, allowed is a positive value, or null"),
        ({"penalty_reduction": "max"}, r"^penalty_reduction: got 'max', allowed are mean and sum"),
        ({"density_by": "luck"}, r"^density_by: got 'luck', allowed are shift and grad_balance"),
        ({"mask_scaling": "last"}, r"^mask_scaling: got 'last', allowed are none and initial and current"),
        ({"stable_near_binary": 1.5}, r"^stable_near_binary: got 1.5, allowed is a share in \[0, 1\]"),
        ({"regrow_from": "one"}, r"^regrow_from: got 'one', allowed are zero and kept and initial"),
        (
            {"density_by": "grad_balance", "penalty_weight": 1.0},
            r"^density_by: got 'grad_balance' with target_density=0.5, penalty_weight=1.0 and penalty_on='logits', all",
        ),
        (
            {"target_density": None},
            r"^target_density and penalty_weight: got target_density=None and penalty_weight=0.0, allowed are a",
        ),
        (
            {"penalty_weight": -1.0},
            r"^target_density and penalty_weight: got target_density=0.5 and .*=-1.0",
        ),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearnedMask(**arguments)


@pytest.mark.parametrize(("weight", "expected"), [(0.001, (0.4, 1.0)), (10.0, (0.0, 0.4))])
def test_continuous_sparsification_is_a_setting(weight, expected):
    method = LearnedMask(
        until=1.0,
        target_density=None,
        penalty_weight=weight,
        penalty_on="mask",
        logit=0.05,
        logit_lr=0.01,
        temperature=Geometric(1.0, 200.0),
        exit="sparse",
    )
    *_, (student, masks, _) = teacher_student(method, 150)
    assert masks.phase == "sparse"
    assert masks.exit_summary["near_binary_share"] > 0.8
    assert expected[0] < masks.exit_summary["density"] < expected[1]
    assert (student[0].weight == 0).any()


def test_the_mask_can_be_divided_by_its_first_value():
    inputs = torch.randn(16, 32)
    outputs = {}
    for scaling in ("none", "initial", "current"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 8))
        plain = model(inputs)
        masks = SparseMasks.attach(model, LearnedMask(mask_scaling=scaling, until=1.0))
        outputs[scaling] = (model(inputs) / plain).median().item()
        merged = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 8))
        merged.load_state_dict(masks.merged_state_dict())
        assert torch.allclose(merged(inputs), model(inputs), atol=1e-6)
    assert outputs["none"] < 0.9
    assert outputs["initial"] == pytest.approx(1.0, abs=1e-5)
    assert outputs["current"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("exit", ["dense", "sparse"])
@pytest.mark.parametrize("scaling", ["initial", "current"])
def test_the_exit_multiplies_the_scale_into_the_weights(scaling, exit):
    torch.manual_seed(0)
    model = nn.Linear(16, 8)
    masks = SparseMasks.attach(model, LearnedMask(mask_scaling=scaling, logit=0.5, max_logit=None, until=1.0))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=1e-3))
    inputs = torch.randn(4, 16)
    model(inputs).square().mean().backward()
    optimizer.step()
    with torch.no_grad():  # near-binary, whatever the temperature is
        model.parametrizations.weight[0].logits.copy_(torch.randn(8, 16).sign() * 100.0)
    before, original = model(inputs), model.parametrizations.weight.original
    moments = {name: value.clone() for name, value in optimizer.state[original].items()}
    kept = masks.weight_masks()["weight"]
    masks.finish(exit, optimizer)
    assert torch.allclose(model(inputs), before, atol=1e-5)
    scale = 1.0 + torch.tensor(-0.5).exp().item()
    after = optimizer.state[original]
    assert torch.allclose(after["exp_avg"][kept], moments["exp_avg"][kept] / scale)
    assert torch.allclose(after["exp_avg_sq"][kept], moments["exp_avg_sq"][kept] / scale**2)


def test_a_penalty_on_the_sum_is_one_on_the_mean_times_the_number_of_units():
    penalties = []
    for weight, reduction in ((25 * 1e-4, "mean"), (1e-4, "sum")):
        method = LearnedMask(target_density=None, penalty_weight=weight, penalty_reduction=reduction, logit=0.5)
        masks = SparseMasks.attach(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), method)
        penalties.append(masks.penalty().item())
    assert penalties == pytest.approx([25 * 1e-4 * 0.5] * 2)


def test_logits_without_a_clamp_go_beyond_it():
    settings = {"until": 1.0, "target_density": None, "penalty_weight": 100.0, "logit_lr": 0.1, "reach_by": 1.0}
    lowest = {}
    for max_logit in (2.0, None):
        method = LearnedMask(max_logit=max_logit, temperature=Constant(0.1), **settings)
        steps = teacher_student(method, 100)
        for _ in range(60):
            student, *_ = next(steps)
        lowest[max_logit] = student[0].parametrizations.weight[0].logits.min().item()
    assert lowest[2.0] == -2.0
    assert lowest[None] < -3.0


def test_logits_may_have_a_multiple_of_the_weights_learning_rate():
    masks = SparseMasks.attach(nn.Linear(4, 3), LearnedMask(logit_lr_scale=5.0))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.002))
    assert [group["lr"] for group in optimizer.param_groups] == [0.002, 0.002, 0.01]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.001, 0.005]
    constant = SparseMasks.attach(nn.Linear(4, 3), LearnedMask())
    assert [group["lr"] for group in constant.param_groups(lr=0.002)] == [0.002, 0.002, 0.003]
