import pytest
import torch
from torch import nn

from asrsparse.masks.surgery import child, kept_indices, present


def test_paths_lead_through_modules_to_what_is_there():
    model = nn.ModuleDict({"conv": nn.Sequential(nn.Conv1d(2, 3, 1), nn.ReLU())})
    assert child(model, "conv.0") is model["conv"][0]
    assert child(model, "conv.0.weight") is model["conv"][0].weight
    assert child(model, "conv.5.weight") is None
    assert present(model, ("conv.1", "out", "conv.0.bias")) == [model["conv"][1], model["conv"][0].bias]


def test_the_numbers_of_the_units_to_keep():
    assert kept_indices(torch.tensor([False, True, True]), 3).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("units", "got"),
    [
        (torch.ones(3, dtype=torch.bool), r"torch.bool and shape \(3,\), 3 of them kept"),
        (torch.ones(7), r"torch.float32 and shape \(7,\), 7 of them kept"),
        (torch.zeros(7, dtype=torch.bool), r"torch.bool and shape \(7,\), 0 of them kept"),
    ],
    ids=["too few", "no booleans", "none"],
)
def test_no_choice_among_the_units_is_refused(units, got):
    with pytest.raises(
        ValueError, match=rf"^units: got {got}; allowed is torch.bool, shape \(7,\), with at least one True"
    ):
        kept_indices(units, 7)
