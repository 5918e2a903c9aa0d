import pytest
import torch
from torch import nn

from asrsparse.masks.weights import select_weights


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.frontend = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.conv = nn.Conv1d(4, 4, 3, groups=4)
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.output = nn.Linear(4, 7)


def names(model, exclude=()):
    return [weight.name for weight in select_weights(model, exclude)]


def test_linear_and_convolutional_weights_are_chosen_in_the_models_order():
    model = Recogniser()
    assert names(model) == ["frontend.0.weight", "conv.weight", "output.weight"]
    assert all(weight.module.weight is weight.parameter for weight in select_weights(model))


def test_excluded_tied_frozen_and_derived_weights_are_left_alone():
    model = Recogniser()
    assert names(model, ["frontend.*", "conv.weight"]) == ["output.weight"]
    model.output.weight = model.embed.weight
    model.conv.weight.requires_grad_(False)
    assert names(model) == ["frontend.0.weight"]
    derived = nn.Sequential(nn.Linear(2, 2), torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    assert names(derived) == ["0.weight"]


def test_a_pattern_that_matches_nothing_is_named_with_the_names_there_are():
    with pytest.raises(
        ValueError, match=r"got the pattern 'ctc.\*', which matches no weight. Weights: frontend.0.weight,"
    ):
        select_weights(Recogniser(), ["output.*", "ctc.*"])


def test_a_model_without_a_layer_to_mask_is_refused():
    with pytest.raises(ValueError, match=r"No layer of Embedding is left to mask: .* \(here: none\)"):
        select_weights(nn.Embedding(3, 4))
    with pytest.raises(ValueError, match=r"less those matched by exclude=\['\*'\]. Exclude less, or use DenseMask"):
        select_weights(Recogniser(), ["*"])
