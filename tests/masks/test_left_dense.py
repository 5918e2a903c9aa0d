import logging

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from asrsparse.masks import DenseMask, FeedForwardUnits, LearnedMask, RandomMask, RigL, SparseMasks, Structured
from asrsparse.masks.left_dense import find_left_dense


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16)
        self.extra = nn.ParameterList([nn.Parameter(torch.ones(8, 8))])
        self.up = nn.ConvTranspose1d(8, 8, 3)
        self.output = nn.Linear(16, 8)


def attached(model, caplog, method=None):
    with caplog.at_level(logging.WARNING):
        masks = SparseMasks.attach(model, method or RandomMask(density=0.5))
    return masks, [record.getMessage() for record in caplog.records]


def derived(parametrization):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), parametrization(nn.Linear(8, 8)), nn.Linear(8, 4))


class TestWarning:
    def test_weights_that_no_mask_can_be_on_are_named_once_with_their_share(self, caplog):
        masks, (message,) = attached(Recurrent(), caplog)
        assert message == (
            "masks: 86.8 % of the model's parameters stay dense, since no mask can be on them: no masks on LSTM "
            "(lstm.weight_ih_l0, lstm.weight_hh_l0); no masks on ParameterList (extra.0); no masks on ConvTranspose1d "
            "(up.weight). Name them in exclude=[...] if this is meant."
        )
        assert list(masks.densities()) == ["output.weight"]

    def test_what_the_patterns_leave_out_is_not_named(self, caplog):
        _, messages = attached(Recurrent(), caplog, RandomMask(exclude=["lstm.*|extra.*", "up.*"]))
        assert not messages
        _, messages = attached(Recurrent(), caplog, RandomMask(include=["output.*"]))
        assert not messages
        _, (message,) = attached(Recurrent(), caplog, RandomMask(exclude=["lstm.*"]))
        assert "extra.0" in message
        assert "lstm" not in message

    def test_nobody_is_warned_of_embeddings_norms_frozen_and_tied_weights_or_small_ones(self, caplog):
        model = nn.ModuleDict({"embed": nn.Embedding(20, 8), "output": nn.Linear(8, 20), "hidden": nn.Linear(8, 8)})
        model["output"].weight = model["embed"].weight
        model["frozen"] = nn.LSTM(8, 8).requires_grad_(False)
        model["norm"] = nn.LayerNorm((4, 8))
        model["frozen_linear"] = nn.Linear(8, 8).requires_grad_(False)
        masks, messages = attached(model, caplog)
        assert (list(masks.densities()), messages) == (["hidden.weight"], [])
        big = nn.Sequential(nn.Linear(200, 200))
        big.register_parameter("pos_bias_u", nn.Parameter(torch.zeros(4, 8)))
        assert attached(big, caplog)[1] == []

    def test_the_baseline_says_nothing(self, caplog):
        assert attached(Recurrent(), caplog, DenseMask())[1] == []

    def test_two_layers_that_share_a_weight_are_named(self, caplog):
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        model[1].weight = model[0].weight
        _, (message,) = attached(model, caplog)
        assert "several layers share it (0.weight)" in message

    def test_structured_masks_tell_of_gates_alone(self, caplog):
        kinds = [FeedForwardUnits("linear1", "linear2")]
        model = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, dim_feedforward=32) for _ in range(2)])
        model[1].linear2.requires_grad_(False)
        _, messages = attached(model, caplog, RandomMask(granularity=Structured(kinds)))
        assert messages == []
        model = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, dim_feedforward=32) for _ in range(2)])
        parametrizations.spectral_norm(model[1].linear2)
        _, (message,) = attached(model, caplog, RandomMask(granularity=Structured(kinds)))
        assert "its weight is parametrised by _SpectralNorm (1.linear2.weight)" in message


class TestParametrisations:
    @pytest.mark.parametrize(
        ("parametrization", "reason"),
        [
            (parametrizations.spectral_norm, "its weight is parametrised by _SpectralNorm (1.weight)"),
            (parametrizations.orthogonal, "its weight is parametrised by _Orthogonal (1.weight)"),
            (parametrizations.weight_norm, "its weight is parametrised by _WeightNorm (1.weight)"),
            (nn.utils.weight_norm, "a Linear computes its weight from it (1.weight_g, 1.weight_v)"),
            (nn.utils.spectral_norm, "a Linear computes its weight from it (1.weight_orig)"),
            (
                lambda layer: prune.random_unstructured(layer, "weight", 0.5),
                "a Linear computes its weight from it (1.weight_orig)",
            ),
        ],
    )
    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_a_weight_with_a_parametrisation_of_its_own_stays_dense_and_is_named(self, parametrization, reason, caplog):
        model = derived(parametrization)
        masks, (message,) = attached(model, caplog, LearnedMask(until=0.5))
        assert reason in message
        assert list(masks.densities()) == ["0.weight", "2.weight"]
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
        for step in range(1, 11):
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
            masks.step(step / 10, optimizer)
        assert masks.phase == "dense"

    def test_patterns_may_name_it(self, caplog):
        model = derived(parametrizations.spectral_norm)
        assert attached(model, caplog, RandomMask(exclude=["1.*"]))[1] == []
        with pytest.raises(
            ValueError,
            match=r"^include: got the pattern '1\.\*', which matches no weight that can be masked\. Stay dense: "
            r"1\.weight, its weight is parametrised by _SpectralNorm\. Take the pattern out, or change these\.",
        ):
            SparseMasks.attach(derived(parametrizations.spectral_norm), RandomMask(include=["0.*", "1.*"]))


def test_a_model_of_weights_that_cannot_be_masked_is_refused_with_the_reasons():
    with pytest.raises(
        ValueError, match=r"^No layer is left to mask: .* Stay dense: weight_ih_l0, no masks on LSTM; weight_hh_l0, no"
    ):
        SparseMasks.attach(nn.LSTM(4, 4), RandomMask())
    with pytest.raises(ValueError, match=r"Stay dense: weight, frozen\. Exclude less"):
        SparseMasks.attach(nn.Linear(4, 4).requires_grad_(False), RandomMask())
    with pytest.raises(ValueError, match=r"Stay dense: weight, of type torch\.complex64\."):
        SparseMasks.attach(nn.Linear(4, 4, dtype=torch.complex64), RandomMask())


def test_masks_of_an_earlier_attach_are_no_weights():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    masks = SparseMasks.attach(model, LearnedMask())
    assert find_left_dense(model) == []
    assert masks.num_masked == 128


@pytest.mark.parametrize("layer", [nn.Conv1d(8, 8, 3, groups=4), nn.Conv2d(8, 16, 3, groups=8)])
def test_grouped_convolutions_are_masked(layer, caplog):
    masks, messages = attached(layer, caplog, RigL(density=0.5))
    assert (masks.density, messages) == (pytest.approx(0.5, abs=0.05), [])
