import pytest
import torch
from torch import nn

from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.masks.learned import LearnedPhase


def balanced(**settings):
    return LearnedMask(until=1.0, density_by="grad_balance", target_density=0.3, logit=0.5, max_logit=None, **settings)


def train(num_steps=300, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 8))
    masks = SparseMasks.attach(model, balanced(logit_lr=0.02, **settings))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=3e-3))
    weights, densities = [], []
    for step in range(1, num_steps + 1):
        inputs = torch.randn(64, 32)
        optimizer.zero_grad()
        ((model(inputs) - inputs[:, :8]).square().mean() + masks.penalty()).backward()
        optimizer.step()
        left = masks.step(step / num_steps, optimizer)
        weights.append(masks.summary().get("penalty_weight"))
        densities.append(masks.density)
        if left:
            break
    return masks, weights, densities


def test_lambda_is_the_mean_of_the_ratio_of_norms_and_one_step_behind():
    model = nn.Linear(4, 3)
    masks = SparseMasks.attach(model, balanced(exclude=[]))
    optimizer = torch.optim.SGD(masks.param_groups(lr=0.0), lr=0.0)
    logits = model.parametrizations.weight[0].logits
    inputs, expected = torch.randn(5, 4), 0.0
    for step in (0.01, 0.02, 0.03):
        optimizer.zero_grad()
        assert masks.penalty().item() == pytest.approx(expected * 0.5)  # every logit is 0.5
        model(inputs).square().mean().backward()
        task = logits.grad.clone()
        masks.penalty().backward() if expected else None
        optimizer.step()
        with torch.no_grad():
            logits.fill_(0.5)
        masks.step(step, optimizer)
        ratio = (task.norm() / (torch.ones(12) / 12).norm()).item()
        expected += 0.01 * (ratio - expected)
        assert masks.summary()["penalty_weight"] == pytest.approx(expected, rel=1e-5)


def test_the_penalty_brings_the_density_near_the_target_and_the_exit_to_it():
    masks, weights, densities = train()
    assert weights[0] > 0.0
    assert densities[-2] == pytest.approx(0.3, abs=0.1)  # by the penalty
    assert masks.exit_summary["density"] == pytest.approx(0.3, abs=0.01)
    assert masks.phase == "dense"


def test_lambda_fades_once_the_masks_are_sparse_enough():
    _, weights, _ = train(stable_share=0.0)
    assert weights[-2] < 0.5 * max(weights[:-1])  # the last step ends the phase


def test_a_state_restores_lambda():
    model = nn.Linear(4, 3)
    masks = SparseMasks.attach(model, balanced())
    assert isinstance(masks._phase, LearnedPhase)
    masks._phase._balance.weight = 2.5
    other = SparseMasks.attach(nn.Linear(4, 3), balanced())
    other.load_state_dict(masks.state_dict())
    assert other.summary()["penalty_weight"] == 2.5


def test_zeroed_gradients_are_named():
    model = nn.Linear(4, 3)
    masks = SparseMasks.attach(model, balanced())
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
    with pytest.raises(ValueError, match=r"^density_by: got 'grad_balance' and logits without gradients, .* zero_grad"):
        masks.step(0.1, optimizer)
