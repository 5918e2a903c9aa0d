"""Updates of the weights with the largest gradients: which change, what stays, and exact resumes."""

import copy

import pytest
import torch
from torch import nn

from asrsparse.masks import RandomMask, SparseMasks
from asrsparse.masks.partial_updates import AllUpdates, LargestGradients


def model_and_optimizer(kind=torch.optim.AdamW, **settings) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    return model, kind(model.parameters(), lr=0.05, **settings)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    inputs = torch.randn(8, 12, generator=torch.Generator().manual_seed(number))
    model(inputs).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def values(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_the_largest_gradients_are_updated_and_all_else_of_a_matrix_stays(kind):
    model, optimizer = model_and_optimizer(kind)
    LargestGradients(share=0.25, every=1).attach(optimizer)
    for number in range(3):
        before, moments = values(model), copy.deepcopy(optimizer.state_dict()["state"])
        inputs = torch.randn(8, 12, generator=torch.Generator().manual_seed(number))
        model(inputs).square().mean().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        optimizer.step()
        for index, (old, new, gradient) in enumerate(zip(before, values(model), gradients, strict=True)):
            if old.dim() < 2:
                assert (old != new).all()  # a bias
                continue
            changed = old != new
            num_updated = round(0.25 * int(gradient.count_nonzero()))
            assert changed.sum() == num_updated
            assert gradient.abs()[changed].min() >= gradient.abs()[~changed].max()
            for name, moment in optimizer.state_dict()["state"].get(index, {}).items():
                if moment.shape == old.shape:
                    earlier = moments[index][name] if index in moments else torch.zeros_like(moment)
                    assert torch.equal(moment[~changed], earlier[~changed])
        optimizer.zero_grad()


def test_all_of_the_share_is_training_as_always():
    plain, of_plain = model_and_optimizer()
    partial, of_partial = model_and_optimizer()
    LargestGradients(share=1.0).attach(of_partial)
    nothing, of_nothing = model_and_optimizer()
    AllUpdates().attach(of_nothing)
    for number in range(4):
        for model, optimizer in ((plain, of_plain), (partial, of_partial), (nothing, of_nothing)):
            step(model, optimizer, number)
    for one, two, three in zip(values(plain), values(partial), values(nothing), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_a_choice_is_used_for_several_steps():
    model, optimizer = model_and_optimizer(weight_decay=0.1)
    LargestGradients(share=0.25, every=3).attach(optimizer)
    changed = []
    for number in range(6):
        before = model[0].weight.detach().clone()
        step(model, optimizer, number)
        changed.append(model[0].weight != before)
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(changed[0], changed[2])
    assert not torch.equal(changed[2], changed[3])
    assert torch.equal(changed[3], changed[5])


def test_a_resumed_run_goes_on_bit_for_bit():
    whole, of_whole = model_and_optimizer()
    LargestGradients(share=0.25, every=4).attach(of_whole)
    half, of_half = model_and_optimizer()
    before = LargestGradients(share=0.25, every=4)
    before.attach(of_half)
    for number in range(6):
        step(whole, of_whole, number)
        step(half, of_half, number)
    again, of_again = model_and_optimizer()
    after = LargestGradients(share=0.25, every=4)
    after.attach(of_again)
    again.load_state_dict(half.state_dict())
    of_again.load_state_dict(of_half.state_dict())
    after.load_state_dict(before.state_dict())
    for number in range(6, 10):
        step(whole, of_whole, number)
        step(again, of_again, number)
    for one, two in zip(values(whole), values(again), strict=True):
        assert torch.equal(one, two)


def test_weights_under_a_mask_are_not_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    masks = SparseMasks.attach(model, RandomMask(density=0.5))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.05))
    LargestGradients(share=0.5, every=1).attach(optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    model(inputs).square().mean().backward()
    with_gradient = {name: int(parameter.grad.count_nonzero()) for name, parameter in model.named_parameters()}
    optimizer.step()
    masks.step(0.1, optimizer)
    for name, kept in masks.weight_masks().items():
        changed = model.state_dict()[name] != before[name]
        assert not (changed & ~kept).any()
        assert changed.sum() == round(0.5 * with_gradient[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, r"share: got 0\.0, allowed is a share in \(0, 1\]\."),
        ({"share": 1.5}, r"share: got 1\.5, allowed is a share in \(0, 1\]\."),
        ({"every": 0}, r"every: got 0, allowed are optimiser steps from 1 on\."),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LargestGradients(**settings)
