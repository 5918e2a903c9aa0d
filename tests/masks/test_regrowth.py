import pytest
import torch
from torch import nn

from asrsparse.masks.moments import clear_moments
from asrsparse.masks.regrowth import RegrownWeights
from asrsparse.masks.weights import find_weights


def gradients(num_steps):
    return torch.randn(num_steps, 4, 6, generator=torch.Generator().manual_seed(0))


def train(parameter, optimizer, some_gradients, after_each=lambda: None):
    path = []
    for gradient in some_gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        after_each()
        path.append(parameter.detach().clone())
    return torch.stack(path)


def setting(warmup_steps, optimizer_type, **settings):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=False)
    optimizer = optimizer_type(layer.parameters(), **settings)
    train(layer.weight, optimizer, gradients(1000))
    born = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.no_grad():
        layer.weight.masked_fill_(born, 0.0)
    clear_moments(optimizer, layer.weight, born)
    regrown = RegrownWeights(find_weights(layer), warmup_steps)
    regrown.add([born])
    return layer, optimizer, regrown, born


@pytest.mark.parametrize(
    "settings", [{"betas": (0.9, 0.98)}, {"betas": (0.9, 0.999)}, {"betas": (0.8, 0.95), "fused": True}]
)
def test_regrown_weights_move_as_under_an_adam_of_their_own(settings):
    layer, optimizer, regrown, born = setting(0, torch.optim.Adam, lr=0.01, **settings)
    fresh = nn.Parameter(torch.zeros(4, 6))
    expected = train(fresh, torch.optim.Adam([fresh], lr=0.01, **settings), gradients(30))
    path = train(layer.weight, optimizer, gradients(30), lambda: regrown.step(optimizer))
    assert torch.allclose(path[:, born], expected[:, born], rtol=0.02, atol=2e-4)


def test_without_it_the_same_weights_jump():
    layer, optimizer, _, born = setting(0, torch.optim.Adam, lr=0.01, betas=(0.9, 0.999))
    before = layer.weight.detach().clone()
    path = train(layer.weight, optimizer, torch.ones(30, 4, 6))
    steps = torch.cat([before[None], path]).diff(dim=0).abs()
    assert steps[:10, born].max() > 4.0 * 0.01  # four times what Adam's first steps are, which is the learning rate


def test_their_pace_rises_over_the_warm_up():
    layer, optimizer, regrown, born = setting(10, torch.optim.SGD, lr=0.01)
    path = train(layer.weight, optimizer, torch.ones(12, 4, 6), lambda: regrown.step(optimizer))
    moved = -torch.cat([torch.zeros(1, 4, 6), path]).diff(dim=0)[:, born].mean(dim=1) / 0.01
    assert torch.allclose(moved, torch.tensor([*(k / 10 for k in range(1, 11)), 1.0, 1.0]), atol=1e-5)
    assert regrown.num_weights == 0


def test_the_others_are_not_touched():
    paths = []
    for with_regrown in (True, False):
        layer, optimizer, regrown, born = setting(10, torch.optim.AdamW, lr=0.01)
        after_each = (lambda r=regrown, o=optimizer: r.step(o)) if with_regrown else (lambda: None)
        paths.append(train(layer.weight, optimizer, gradients(30), after_each)[:, ~born])
    assert torch.equal(*paths)


def test_what_is_dropped_again_is_forgotten():
    layer, optimizer, regrown, born = setting(10, torch.optim.SGD, lr=0.01)
    dead = born.clone()
    dead[:2] = False
    with torch.no_grad():
        layer.weight.masked_fill_(dead, 0.0)
    regrown.drop([dead])
    assert regrown.num_weights == int((born & ~dead).sum())
    layer.weight.grad = torch.ones(4, 6) * ~dead
    optimizer.step()
    regrown.step(optimizer)
    assert layer.weight[dead].count_nonzero() == 0
