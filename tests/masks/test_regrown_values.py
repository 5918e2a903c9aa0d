import copy

import pytest
import torch
from torch import nn

from asrsparse.masks import LearnedMask, SparseMasks


def half_masked(regrow_from, **settings):
    """Returns a model after the exit, the values that its weight had behind the mask, the mask, and the optimiser."""
    torch.manual_seed(0)
    model = nn.Linear(64, 48)
    masks = SparseMasks.attach(model, LearnedMask(regrow_from=regrow_from, **settings))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
    inputs = torch.randn(8, 64)
    (model(inputs) - inputs[:, :48]).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        model.parametrizations.weight[0].logits.copy_(torch.randn(48, 64))
    kept = masks.weight_masks()["weight"]
    before = model.parametrizations.weight.original.detach().clone()
    masks.finish("dense", optimizer)
    return model, before, kept, optimizer, masks


@pytest.mark.parametrize("regrow_from", ["zero", "kept", "initial"])
def test_dropped_weights_get_the_values_and_no_moments(regrow_from):
    model, before, kept, optimizer, masks = half_masked(regrow_from)
    weight = model.weight.detach()
    assert torch.equal(weight[kept], before[kept])
    dropped = weight[~kept]
    if regrow_from == "zero":
        assert (dropped == 0).all()
    elif regrow_from == "kept":
        assert torch.equal(dropped, before[~kept])
    else:
        assert not torch.equal(dropped, before[~kept])
        assert dropped.std() == pytest.approx(before.std().item(), rel=0.05)
    moments = optimizer.state[model.weight]
    assert (moments["exp_avg"][~kept] == 0).all()
    assert (moments["exp_avg_sq"][~kept] == 0).all()
    assert (moments["exp_avg"][kept] != 0).any()
    assert masks._phase.regrown.num_weights == int((~kept).sum())  # they warm up


def test_fresh_values_are_those_of_the_seed():
    one, other, third = (half_masked("initial", seed=seed)[0].weight.detach() for seed in (0, 0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_fresh_values_are_spread_as_the_weight_was_at_attach_after_a_resume_too():
    masks = SparseMasks.attach(nn.Linear(64, 48), LearnedMask(regrow_from="initial"))
    model = nn.Linear(64, 48)
    with torch.no_grad():
        model.weight.mul_(100.0)
    resumed = SparseMasks.attach(model, LearnedMask(regrow_from="initial"))
    resumed.load_state_dict(copy.deepcopy(masks.state_dict()))
    assert resumed._phase._regrown_values.stds == masks._phase._regrown_values.stds
