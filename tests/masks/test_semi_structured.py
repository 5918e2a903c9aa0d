import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from asrsparse.masks.semi_structured import _require_gpu, is_two_of_four, to_semi_structured

OLD_GPU = not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0)


def two_of_four(layer):
    """The same layer with every second weight zero."""
    with torch.no_grad():
        layer.weight[:, ::2] = 0.0
    return layer


def build():
    torch.manual_seed(0)
    return nn.Sequential(two_of_four(nn.Linear(64, 128)), nn.ReLU(), nn.Linear(128, 64), two_of_four(nn.Linear(64, 10)))


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_weight_is_two_of_four_if_no_group_keeps_more(groups):
    weight = torch.tensor(groups, dtype=torch.float32).reshape(1, -1)
    assert is_two_of_four(weight) == all(sum(group) <= 2 for group in groups)
    assert is_two_of_four(weight.repeat(3, 1)) == is_two_of_four(weight)


def test_inputs_that_are_not_in_fours_are_not_two_of_four():
    assert not is_two_of_four(torch.zeros(4, 6))


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(64, 64),
        two_of_four(nn.Linear(64, 24)),
        two_of_four(nn.Linear(24, 64)),
        nn.utils.parametrizations.weight_norm(two_of_four(nn.Linear(64, 64))),
        nn.ReLU(),
    ],
    ids=["dense", "rows", "columns", "parametrised", "no layer"],
)
def test_a_model_without_a_layer_to_take_is_refused(model):
    with pytest.raises(ValueError, match=r"of which no linear layer has .* a multiple of 16\. Train with a 2:4 mask"):
        to_semi_structured(model)


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match=r"0\.weight: got torch.float32, allowed are torch.bfloat16, torch.float16"):
        to_semi_structured(build())


def test_another_device_is_refused_and_nothing_changes():
    model = build().to(torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"0\.weight: got a weight on cpu, allowed is an NVIDIA GPU"):
        to_semi_structured(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def gpu_of(monkeypatch):
    """Gives the GPU, which need not be there, a compute capability."""

    def set_capability(*capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
        return torch.device("cuda")

    return set_capability


def test_a_gpu_without_sparse_tensor_cores_is_refused(gpu_of):
    with pytest.raises(ValueError, match=r"a GPU: got compute capability 7\.5, allowed is 8\.0 or later"):
        _require_gpu("0", gpu_of(7, 5))
    for capability in ((8, 0), (8, 9), (9, 0)):
        _require_gpu("0", gpu_of(*capability))


@pytest.mark.skipif(OLD_GPU, reason="no GPU of compute capability 8.0 or later")
def test_the_outputs_stay():
    model = build().to("cuda", torch.bfloat16)
    inputs = torch.randn(32, 64, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        before = model(inputs)
        assert to_semi_structured(model) == ["0"]
        assert torch.allclose(model(inputs), before, rtol=0.02, atol=0.02)
