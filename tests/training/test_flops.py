import copy

import pytest
import torch
from micro import make_batch, make_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.masks.layers import maskable_layers
from asrsparse.training.flops import Flops, count_flops


class Mixed(nn.Module):
    """Linear, convolutions with and without groups, and a product of two activations."""

    def __init__(self):
        super().__init__()
        self.pointwise = nn.Conv1d(3, 8, 1)
        self.depthwise = nn.Conv1d(8, 8, 5, padding=2, groups=8)
        self.image = nn.Conv2d(1, 2, 3, stride=2)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(8, 4)

    def forward(self, inputs):
        hidden = self.dropout(self.norm(self.depthwise(self.pointwise(inputs)))).transpose(1, 2)
        attended = (hidden @ hidden.transpose(1, 2)) @ hidden
        return self.linear(attended).sum() + self.image(inputs[:, None]).sum()


INPUTS = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
BY_HAND = {  # 2 x outputs x inputs of each output x products: two where the input needs no gradient, else three
    "pointwise.weight": 2 * (2 * 8 * 20) * 3 * 2,
    "depthwise.weight": 2 * (2 * 8 * 20) * 5 * 3,
    "image.weight": 2 * (2 * 2 * 1 * 9) * 9 * 2,
    "linear.weight": 2 * (2 * 20 * 4) * 8 * 3,
}
ATTENTION = 2 * (2 * 2 * 20 * 20 * 8) * 3


def count(model, seconds=1.0):
    return count_flops(model, lambda: model(INPUTS), seconds)


def test_the_count_is_that_by_hand():
    flops = count(Mixed())
    assert flops.layers == BY_HAND
    assert flops.rest == ATTENTION
    assert flops.dense == sum(BY_HAND.values()) + ATTENTION


def test_flops_are_per_second_of_speech():
    assert count(Mixed(), seconds=4.0).dense == count(Mixed()).dense / 4


def test_a_frozen_layer_has_no_gradient_to_compute():
    model = Mixed()
    model.linear.requires_grad_(False)
    assert count(model).layers["linear.weight"] == BY_HAND["linear.weight"] * 2 / 3


def test_counting_leaves_all_as_it_was():
    model = Mixed()
    model.norm.eval()
    model(INPUTS).backward()
    before = copy.deepcopy(model)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    count(model)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(parameter.grad, gradients[n]) for n, parameter in enumerate(model.parameters()))
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_under_soft_masks_has_the_names_and_the_count_of_the_plain_one():
    model = Mixed()
    SparseMasks.attach(model, LearnedMask())
    assert count(model) == count(Mixed())


def test_effective_flops_scale_each_layer_by_its_density():
    flops = Flops({"a.weight": 8.0, "b.weight": 4.0}, rest=1.0)
    assert flops.effective({}) == flops.effective({"a.weight": 1.0, "b.weight": 1.0}) == flops.dense == 13.0
    assert flops.effective({"a.weight": 0.25}) == 7.0
    assert flops.effective({"a.weight": 0.0, "b.weight": 0.0}) == 1.0


@pytest.mark.parametrize("bf16", [False, True])
def test_of_the_recogniser_all_is_counted_that_its_training_computes(bf16):
    """PyTorch counts the same in a training step, but for the weights of G groups, whose gradient it counts G-fold."""
    model, batch = make_model(), make_batch([5, 4])
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        flops = count_flops(model, lambda: model(batch).total.mean(), 1.0)
        with FlopCounterMode(display=False) as counter:
            model(batch).total.mean().backward()
    assert flops.layers.keys() == maskable_layers(model).keys()
    assert all(share > 0 for share in flops.layers.values())
    depthwise = {
        name: layer for name, layer in maskable_layers(model).items() if name.endswith("depthwise_conv.weight")
    }
    excess = sum(flops.layers[name] / 3 * (layer.groups - 1) for name, layer in depthwise.items())
    assert len(depthwise) == 2
    assert flops.dense + excess == counter.get_total_flops()
