import pytest
import torch
from torch import nn

from asrsparse.masks.resizing import Cut, owners
from asrsparse.masks.structured import FeedForwardUnits, SubsamplingChannels, find_units


def subsampling():
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
    return nn.ModuleDict({"conv": convolutions, "out": nn.Linear(8 * 19, 16)})


KINDS = [SubsamplingChannels("conv.0", "conv.2"), SubsamplingChannels("conv.2", "out")]


def test_two_cuts_of_one_weight_are_undone_together():
    module = subsampling()
    whole = module["conv"][2].weight.detach().clone()
    optimizer = torch.optim.AdamW(module.parameters())
    first, second = torch.arange(8) % 2 == 0, torch.arange(8) < 3
    cut = Cut()
    for units, kept in zip(find_units(module, KINDS), (first, second), strict=True):
        cut.keep(units, kept, optimizer)
    small = module["conv"][2].weight.detach()
    assert torch.equal(small, whole[second][:, first])
    assert list(optimizer.param_groups[0]["params"]) == list(module.parameters())
    new = cut.undo(optimizer, torch.Generator().manual_seed(0))
    grown = module["conv"][2].weight
    assert torch.equal(grown.detach()[second][:, first], small)
    is_new = new[module["conv"][2], "weight"]
    assert torch.equal(~is_new, (second[:, None] & first)[:, :, None, None].expand(8, 8, 3, 3))
    assert (module["conv"][2].in_channels, module["conv"][2].out_channels, module["out"].in_features) == (8, 8, 152)
    assert list(optimizer.param_groups[0]["params"]) == list(module.parameters())


def test_a_choice_that_is_none_changes_nothing():
    module = nn.TransformerEncoderLayer(8, 2, 32)
    parameters = list(module.parameters())
    (units,) = find_units(module, [FeedForwardUnits("linear1", "linear2")])
    with pytest.raises(ValueError, match=r"units: got torch\.bool and shape \(32,\), 0 of them kept"):
        Cut().keep(units, torch.zeros(32, dtype=torch.bool), None)
    assert all(one is other for one, other in zip(parameters, module.parameters(), strict=True))
    assert module(torch.randn(2, 3, 8)).shape == (2, 3, 8)


def test_parameters_are_named_by_their_modules():
    module = nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))
    assert owners(module) == [(module[0], "weight"), (module[0], "bias"), (module[1], "weight"), (module[1], "bias")]
