import pytest
import torch
from torch import nn
from toy import build, task_loss

from asrsparse.masks import NM, SRSTE, DecayingMask, SparseMasks, Uniform
from asrsparse.schedules import Constant


def gradients_of(model, layer):
    """The gradient of the toy's task, with the weights that the model computes with."""
    effective = model[layer].weight.detach().clone()
    plain = build()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        plain[layer].weight.copy_(effective)
        plain[4 - layer].weight.copy_(model[4 - layer].weight)
    return torch.autograd.grad(task_loss(plain, 0), plain[layer].weight)[0]


@pytest.mark.parametrize("layer", [0, 4])
def test_sr_ste_passes_the_gradient_and_decays_what_is_dropped(layer):
    model = build()
    masks = SparseMasks.attach(model, SRSTE(weight_decay=0.3))
    original = model[layer].parametrizations.weight.original
    kept = masks.weight_masks()[f"{layer}.weight"]
    assert torch.equal(model[layer].weight, original * kept)
    (task_loss(model, 0) + masks.penalty()).backward()
    expected = gradients_of(model, layer) + 0.3 * original.detach() * ~kept  # Equation 9 of the paper, as a gradient
    assert torch.allclose(original.grad, expected, atol=1e-6)


@pytest.mark.parametrize("leak", [0.0, 0.25, 1.0])
def test_dropped_weights_and_their_gradients_fade_by_one_factor(leak):
    model = build()
    masks = SparseMasks.attach(model, DecayingMask(fading=Constant(leak)))
    original, kept = model[4].parametrizations.weight.original, masks.weight_masks()["4.weight"]
    factor = torch.where(kept, 1.0, leak)
    assert torch.allclose(model[4].weight, original * factor)
    task_loss(model, 0).backward()
    assert torch.allclose(original.grad, gradients_of(model, 4) * factor, atol=1e-6)
    assert masks.penalty() == 0.0


def test_masks_follow_the_weights_and_dropped_ones_return():
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    masks = SparseMasks.attach(layer, SRSTE(allocation=NM(2, 4)))
    optimizer = torch.optim.SGD(masks.param_groups(lr=1.0))
    assert torch.equal(masks.weight_masks()["weight"], torch.tensor([[True, True, False, False]]))
    layer(torch.tensor([[0.0, 0.0, 0.0, -5.0]])).sum().backward()  # the last weight grows by five
    optimizer.step()
    masks.step(0.1, optimizer)
    assert torch.equal(masks.weight_masks()["weight"], torch.tensor([[True, False, False, True]]))
    assert torch.equal(layer.weight.detach(), torch.tensor([[4.0, 0.0, 0.0, 6.0]]))
    assert masks.changed_share == 1.0  # before the second check


def test_they_are_stable_once_hardly_a_bit_changes():
    model = build()
    masks = SparseMasks.attach(model, SRSTE(allocation=Uniform(), check_every=0.1))
    optimizer = torch.optim.SGD(masks.param_groups(lr=0.0))
    for step in range(1, 6):
        masks.step(step / 10, optimizer)
    assert masks.changed_share == 0.0


@pytest.mark.parametrize("arguments", [{"density": 0.0}, {"check_every": 2.0}])
def test_bad_settings_are_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^{name}: got .*, allowed is a share in \(0, 1\]"):
        SRSTE(**arguments)
