import pytest
import torch
from torch import nn

from asrsparse.masks import SET, SRSTE, DecayingMask, LearnedMask, RandomMask, RigL, SparseMasks
from asrsparse.masks.optimizers import JoinedOptimizers, as_one, parts_of

NUM_STEPS = 40


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(8, 16, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 8))


def muon_and_adamw(masks):
    matrices, *others = masks.param_groups(lr=0.01, weight_decay=0.1)
    flat = [parameter for parameter in matrices["params"] if parameter.dim() == 2]
    kernels = [parameter for parameter in matrices["params"] if parameter.dim() > 2]
    adamw = torch.optim.AdamW([{**matrices, "params": kernels}, *others])
    return torch.optim.Muon(flat, lr=0.01), adamw


def train(model, masks, optimizers, first=1, last=NUM_STEPS):
    for step in range(first, last + 1):
        inputs = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step))
        for optimizer in optimizers:
            optimizer.zero_grad()
        ((model(inputs) - inputs.mean(2)).square().mean() + masks.penalty()).backward()
        for optimizer in optimizers:
            optimizer.step()
        masks.step(step / NUM_STEPS, optimizers)


METHODS = {
    "learned": LearnedMask(until=0.5, exit="sparse"),
    "learned, then dense": LearnedMask(until=0.5),
    "random": RandomMask(density=0.5),
    "set": SET(density=0.5, every=0.1),
    "rigl": RigL(density=0.5, until=0.9, every=0.1),
    "sr_ste": SRSTE(until=0.5),
    "decaying": DecayingMask(until=0.5, exit="dense"),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_with_one_optimiser_for_matrices_and_another_for_the_rest(name):
    model = build()
    masks = SparseMasks.attach(model, METHODS[name])
    optimizers = muon_and_adamw(masks)
    train(model, masks, optimizers)
    zeros = {layer: int((model[layer].weight == 0).sum()) for layer in (0, 4)}
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    if masks.phase == "dense":
        assert zeros == {0: 0, 4: 0}
        return
    kept = {layer: int(mask.sum()) for layer, mask in zip((0, 4), masks.weight_masks().values(), strict=True)}
    assert {layer: model[layer].weight.numel() - count for layer, count in zeros.items()} == kept
    momentum = optimizers[0].state[model[4].weight]["momentum_buffer"]
    assert momentum[model[4].weight == 0].count_nonzero() == 0  # the zeros take no part in Muon's steps


def test_a_split_adamw_trains_as_a_whole_one():
    models = []
    for is_split in (False, True):
        model = build()
        masks = SparseMasks.attach(model, SET(density=0.5, every=0.1))
        groups = masks.param_groups(lr=0.01, weight_decay=0.1)
        parts = [groups[:1], groups[1:]] if is_split else [groups]
        train(model, masks, [torch.optim.AdamW(part) for part in parts])
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_logits_leave_the_optimiser_that_holds_them():
    model = build()
    masks = SparseMasks.attach(model, METHODS["learned"])
    muon, adamw = muon_and_adamw(masks)
    train(model, masks, [muon, adamw])
    logits = next(group for group in adamw.param_groups if group["name"] == "mask_logits")["params"]
    assert len(logits) == 2
    assert not any(parameter in adamw.state or parameter.numel() for parameter in logits)


def test_a_view_writes_to_the_optimiser_that_holds_a_parameter():
    first, second, other = (nn.Parameter(torch.ones(2)) for _ in range(3))
    sgd, adamw = torch.optim.SGD([first], lr=0.1), torch.optim.AdamW([second])
    joined = as_one((sgd, adamw))
    joined.state[second] = {"step": 1}
    assert adamw.state[second] == {"step": 1}
    assert (list(joined.state), len(joined.state), first in joined.state) == ([second], 1, False)
    assert joined.state.pop(second) == {"step": 1}
    assert joined.state.get(other) is None
    assert (parts_of(joined), parts_of(sgd)) == ([sgd, adamw], [sgd])
    assert not adamw.state


def test_one_optimiser_is_itself():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    assert as_one(optimizer) is as_one([optimizer]) is optimizer


class TestBadInput:
    def test_weights_that_none_of_several_holds(self):
        model = build()
        masks = SparseMasks.attach(model, METHODS["learned"])
        muon, adamw = muon_and_adamw(masks)
        with pytest.raises(ValueError, match=r"AdamW does not hold 1 of 2 masked weights\. Build the optimiser from"):
            masks.step(0.1, adamw)
        with pytest.raises(ValueError, match=r"Muon and SGD does not hold 1 of 2 masked weights"):
            masks.finish("dense", [muon, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)])

    def test_a_parameter_in_two_optimisers(self):
        optimizers = [torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)] * 2
        with pytest.raises(ValueError, match=r"^optimizer: got 1 parameters in two of SGD and SGD, allowed is one for"):
            JoinedOptimizers(optimizers)

    def test_no_optimiser(self):
        for wrong, got in (([], "none"), (["adamw"], "str")):
            with pytest.raises(ValueError, match=rf"^optimizer: got {got}, allowed are a torch optimiser, or a"):
                as_one(wrong)
