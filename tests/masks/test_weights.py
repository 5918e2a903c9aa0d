import pytest
import torch
from torch import nn

from asrsparse.masks.weights import Tiling, find_weights, select


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.frontend = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.conv = nn.Conv1d(4, 4, 3, groups=4)
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.output = nn.Linear(4, 7)


def names(model, include=("*",), exclude=()):
    return [weight.name for weight in select(find_weights(model), include, exclude)]


def test_linear_and_convolutional_weights_are_chosen_in_the_models_order():
    model = Recogniser()
    assert names(model) == ["frontend.0.weight", "conv.weight", "output.weight"]
    assert all(weight.module.weight is weight.parameter for weight in find_weights(model))


def test_excluded_tied_frozen_and_derived_weights_are_left_alone():
    model = Recogniser()
    assert names(model, exclude=["frontend.*", "conv.weight"]) == ["output.weight"]
    model.output.weight = model.embed.weight
    model.conv.weight.requires_grad_(False)
    assert names(model) == ["frontend.0.weight"]
    derived = nn.Sequential(nn.Linear(2, 2), torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    assert names(derived) == ["0.weight"]


def test_a_pattern_that_matches_nothing_is_named_with_the_names_there_are():
    with pytest.raises(
        ValueError, match=r"got the pattern 'ctc.\*', which matches no weight. Weights: frontend.0.weight,"
    ):
        names(Recogniser(), exclude=["output.*", "ctc.*"])


def test_a_model_without_a_layer_to_mask_is_refused():
    with pytest.raises(ValueError, match=r"No layer is left to mask: .* \(here: none\)"):
        names(nn.Embedding(3, 4), include=())
    with pytest.raises(ValueError, match=r"less those of exclude=\['\*'\]. Exclude less, or use DenseMask"):
        names(Recogniser(), exclude=["*"])


def test_include_and_alternatives_choose_too():
    assert names(Recogniser(), include=["frontend.*|output.*"]) == ["frontend.0.weight", "output.weight"]
    assert names(Recogniser(), include=["*"], exclude=["ctc.*|conv.*|frontend.*"]) == ["output.weight"]


def test_units_are_tiles():
    tiling = Tiling(shape=(4, 6), tile=(2, 3))
    units = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expanded = tiling.expand(units)
    assert expanded.shape == (4, 6)
    assert torch.equal(expanded[:2, :3], torch.ones(2, 3))
    assert torch.equal(tiling.pool(expanded), 6 * units)
    columns = Tiling(shape=(3, 4, 1), tile=(3, 2, 1))
    assert columns.units_shape == (1, 2, 1)
    assert torch.equal(columns.pool(torch.ones(3, 4, 1)).flatten(), torch.tensor([6.0, 6.0]))
