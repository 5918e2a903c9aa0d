"""Weights on disk: bit for bit, and a message that says what to do where a file is missing or damaged."""

import pytest
import torch
from safetensors import safe_open

from asrsparse.models.weight_files import load_weights, save_weights


def test_weights_come_back_bit_for_bit_also_from_views_and_graphs(tmp_path):
    weight = torch.randn(3, 5, requires_grad=True)
    save_weights(tmp_path / "model.safetensors", {"w": weight.t()}, {"epochs": "1,2"})
    assert torch.equal(load_weights(tmp_path / "model.safetensors")["w"], weight.t())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"epochs": "1,2"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_missing_model_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"No model .*model.safetensors\. Run `asrsparse train` first"):
        load_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("damage", ["cut short", "overwritten", "empty"])
def test_a_damaged_file_says_what_to_do(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    save_weights(path, {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4)})
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[:-20], "overwritten": b"x" * 200, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"is not a readable safetensors file .*Delete it and train again"):
        load_weights(path)
