import copy

import pytest
import torch
from torch import nn

from asrsparse.masks import SRSTE, LearnedMask, RandomMask, SparseMasks


def transformer():
    torch.manual_seed(0)
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, dropout=0.0, batch_first=True),
        2,
        enable_nested_tensor=False,
    )


def shared():
    """A model in which one layer has two names, as in libraries that keep those of an older version."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    return nn.ModuleDict({"net": model, "old": model})


def train(model, masks, call, first=1, last=20):
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
    for step in range(first, last + 1):
        (call(model, step) + masks.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        masks.step(step / 20, optimizer)


def transform(model, step):
    inputs = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(step))
    return (model(inputs) - inputs.roll(1, dims=1)).square().mean()


METHODS = [LearnedMask(until=0.5, exit="sparse"), LearnedMask(until=0.5), SRSTE(until=0.5), RandomMask()]


class TestMultiheadAttention:
    @pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{type(method).__name__} {method.exit}")
    def test_the_weight_into_its_heads_is_masked(self, method):
        model, plain = transformer(), transformer()
        masks = SparseMasks.attach(model, method)
        assert "layers.0.self_attn.in_proj_weight" in masks.densities()
        assert list(model.state_dict()) == list(plain.state_dict())
        train(model, masks, transform, last=5)
        plain.load_state_dict(masks.merged_state_dict(), strict=True)
        assert torch.allclose(transform(model, 0), transform(plain, 0))
        with torch.no_grad():
            fast = model.eval()(torch.ones(1, 6, 16)), plain.eval()(torch.ones(1, 6, 16))  # torch's fast path
        assert torch.allclose(*fast, atol=1e-6)
        train(model.train(), masks, transform, first=6)
        attention = model.layers[0].self_attn
        assert type(attention) is nn.MultiheadAttention
        assert list(model.state_dict()) == list(plain.state_dict())
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
        zeros = int((attention.in_proj_weight == 0).sum())
        assert (zeros > 0) == (masks.phase == "sparse")

    def test_a_masked_model_resumes(self):
        method = LearnedMask(until=0.5)
        model = transformer()
        masks = SparseMasks.attach(model, method)
        train(model, masks, transform, last=5)
        other = transformer()
        other_masks = SparseMasks.attach(other, method)
        other.load_state_dict(model.state_dict(), strict=True)
        other_masks.load_state_dict(masks.state_dict())
        assert transform(other, 0) == transform(model, 0)
        assert transform(copy.deepcopy(model), 0) == transform(model, 0)


class TestSecondNames:
    def test_a_layer_with_two_names_is_masked_and_either_may_name_it(self):
        for pattern in ("net.2.*", "old.2.*"):
            assert list(SparseMasks.attach(shared(), RandomMask(include=[pattern])).densities()) == ["net.2.weight"]
            assert list(SparseMasks.attach(shared(), RandomMask(exclude=[pattern])).densities()) == ["net.0.weight"]

    @pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{type(method).__name__} {method.exit}")
    def test_the_merged_state_has_the_masked_weights_under_both(self, method):
        model, loaded = shared(), shared()
        masks = SparseMasks.attach(model, method)
        assert list(masks.densities()) == ["net.0.weight", "net.2.weight"]
        train(model, masks, lambda each, step: each["old"](torch.ones(2, 8)).square().mean(), last=5)
        assert list(model.state_dict()) == list(loaded.state_dict())
        loaded.load_state_dict(masks.merged_state_dict(), strict=True)
        assert torch.allclose(loaded["old"](torch.ones(2, 8)), model["net"](torch.ones(2, 8)))
        again = shared()
        again_masks = SparseMasks.attach(again, method)
        again.load_state_dict(model.state_dict(), strict=True)
        again_masks.load_state_dict(masks.state_dict())
        assert torch.equal(again["old"](torch.ones(2, 8)), model["old"](torch.ones(2, 8)))
