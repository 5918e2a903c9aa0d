import io

import pytest
import torch
from toy import build, task_loss, train

from asrsparse.masks import RandomMask, RigL, SparseAdamW, SparseMasks

SETTINGS = {"lr": 0.01, "weight_decay": 0.1}


def attach(method, optimizer_type, seed=0):
    model = build(seed)
    masks = SparseMasks.attach(model, method)
    return model, masks, optimizer_type(masks.param_groups(**SETTINGS))


def trained(method, optimizer_type, last=100):
    model, masks, optimizer = attach(method, optimizer_type)
    for _ in train(model, masks, optimizer, last=last):
        pass
    return model, masks, optimizer


@pytest.mark.parametrize(
    "method", [RandomMask(density=0.3), RandomMask(density=0.3, exit="dense", until=0.5), RigL(density=0.3)]
)
def test_its_steps_are_those_of_adamw(method):
    ours, masks, _ = trained(method, SparseAdamW, last=60)
    theirs, other_masks, _ = trained(method, torch.optim.AdamW, last=60)
    assert masks.fingerprint() == other_masks.fingerprint()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_moments_are_of_the_live_weights_alone():
    model, masks, optimizer = trained(RigL(density=0.3), SparseAdamW)
    for layer in (0, 4):
        live = masks.weight_masks()[f"{layer}.weight"]
        assert optimizer.state[model[layer].weight]["exp_avg"].numel() == live.sum()
    assert optimizer.state[model[3].weight]["exp_avg"].shape == model[3].weight.shape


def test_a_resumed_run_ends_bitwise_as_an_uninterrupted_one():
    method = RigL(density=0.3)
    whole, _, _ = trained(method, SparseAdamW)
    model, masks, optimizer = trained(method, SparseAdamW, last=35)
    file = io.BytesIO()
    torch.save([model.state_dict(), masks.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    model, masks, optimizer = attach(method, SparseAdamW, seed=1)
    masks.load_state_dict(states[1])
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[2])
    for _ in train(model, masks, optimizer, first=36):
        pass
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_closure_is_called():
    model, masks, optimizer = attach(RandomMask(density=0.5), SparseAdamW)

    def closure():
        optimizer.zero_grad()
        loss = task_loss(model, 1) + masks.penalty()
        loss.backward()
        return loss.item()

    first = optimizer.step(closure)
    assert first > min(optimizer.step(closure) for _ in range(20))
