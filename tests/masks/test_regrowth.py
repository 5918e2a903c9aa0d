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


class TestMemoryFormats:
    def test_a_weight_in_channels_last_is_regrown_as_a_contiguous_one(self):
        values = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(0)
            layer = nn.Conv2d(8, 8, 3).to(memory_format=memory_format)
            regrown = RegrownWeights(find_weights(layer), 10)
            regrown.add([torch.rand(8, 8, 3, 3) < 0.5])
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            gradient = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(1))
            train(layer.weight, optimizer, [gradient] * 3, lambda r=regrown, o=optimizer: r.step(o))
            assert layer.weight.is_contiguous(memory_format=memory_format)
            values.append(layer.weight.detach().clone())
        assert torch.equal(*values)

    def test_a_weight_of_lower_precision_moves_as_far_as_a_float32_one(self):
        layer = nn.Linear(6, 4, bias=False).bfloat16()
        regrown = RegrownWeights(find_weights(layer), 10)
        regrown.add([torch.ones(4, 6, dtype=torch.bool)])
        before = layer.weight.detach().float()
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        train(layer.weight, optimizer, torch.ones(1, 4, 6, dtype=torch.bfloat16), lambda: regrown.step(optimizer))
        assert torch.allclose(layer.weight.float() - before, torch.tensor(-0.1), atol=0.01)


class TestManyRegrowths:
    def test_weights_of_several_ages_move_as_under_adams_of_their_own(self):
        layer, optimizer, regrown, born = setting(5, torch.optim.Adam, lr=0.01, betas=(0.9, 0.99))
        alone, alone_optimizer, alone_regrown, _ = setting(5, torch.optim.Adam, lr=0.01, betas=(0.9, 0.99))
        train(layer.weight, optimizer, gradients(20), lambda: regrown.step(optimizer))
        train(alone.weight, alone_optimizer, gradients(20), lambda: alone_regrown.step(alone_optimizer))
        with torch.no_grad():
            layer.weight.masked_fill_(~born, 0.0)  # the others are dropped and regrown later
        clear_moments(optimizer, layer.weight, ~born)
        regrown.add([~born])
        train(layer.weight, optimizer, gradients(20), lambda: regrown.step(optimizer))
        train(alone.weight, alone_optimizer, gradients(20), lambda: alone_regrown.step(alone_optimizer))
        assert torch.equal(layer.weight[born], alone.weight[born])
        assert regrown.num_weights == 24

    def test_a_tensor_has_one_item_however_often_weights_are_regrown(self):
        layer, optimizer, regrown, _ = setting(5, torch.optim.Adam, lr=0.01, betas=(0.9, 0.98))
        for number in range(40):
            cut = torch.arange(24).view(4, 6) % 4 == number % 4
            regrown.drop([cut])
            regrown.add([cut])
            train(layer.weight, optimizer, gradients(5), lambda: regrown.step(optimizer))
            assert len(regrown.state_dict()["cohorts"]) == 1
            assert regrown.num_weights <= 24
        train(layer.weight, optimizer, gradients(120), lambda: regrown.step(optimizer))
        assert regrown.num_weights == 0

    def test_a_checkpoint_with_a_cohort_for_each_regrowth_loads(self):
        layer = nn.Linear(6, 4, bias=False)
        regrown = RegrownWeights(find_weights(layer), 10)
        cohorts = [[0, torch.tensor([1, 5]), torch.zeros(2), 7], [0, torch.tensor([2]), torch.zeros(1), 3]]
        regrown.load_state_dict({"cohorts": cohorts})
        ((number, indices, _, ages),) = regrown.state_dict()["cohorts"]
        assert (number, indices.tolist(), ages.tolist()) == (0, [1, 5, 2], [7, 7, 3])


def test_frozen_weights_do_not_age():
    layer, optimizer, regrown, _ = setting(3, torch.optim.SGD, lr=0.01)
    layer.weight.requires_grad_(False)
    for _ in range(5):
        regrown.step(optimizer)
    assert regrown.state_dict()["cohorts"][0][3].unique().tolist() == [0]
