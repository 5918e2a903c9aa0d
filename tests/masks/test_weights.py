import pytest
import torch
from torch import nn

from asrsparse.masks import SRSTE, LearnedMask, MagnitudeMask, RandomMask, RigL, SparseMasks
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


class TestReadiness:
    def test_a_wrapper_for_several_devices_is_refused(self):
        with pytest.raises(
            ValueError, match=r"^model: got a DataParallel, allowed is the module inside it.* Attach to"
        ):
            SparseMasks.attach(nn.DataParallel(nn.Linear(4, 4)), RandomMask())

    def test_parameters_without_values_or_shapes_are_refused(self):
        with pytest.raises(
            ValueError, match=r"^weight: got a parameter without values: it is on the device meta; allo"
        ):
            SparseMasks.attach(nn.Linear(4, 4, device="meta"), RandomMask())
        with pytest.raises(ValueError, match=r"^0.weight: got a parameter without a shape; allowed are those .* Call"):
            SparseMasks.attach(nn.Sequential(nn.LazyLinear(4)), RandomMask())

    def test_a_compiled_model_has_the_names_of_the_plain_one(self):
        model = Recogniser()
        masks = SparseMasks.attach(torch.compile(model, backend="eager"), RandomMask(include=["output.*"]))
        assert list(masks.densities()) == ["output.weight"]
        assert masks.merged_state_dict().keys() == model.state_dict().keys()


class TestFrozen:
    def frozen_after_attach(self, method, progress):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        masks = SparseMasks.attach(model, method)
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
        self.train(model, masks, optimizer, progress)
        model[0].requires_grad_(False)
        return model, masks, optimizer

    def train(self, model, masks, optimizer, progress):
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        masks.step(progress, optimizer)

    @pytest.mark.parametrize(
        "method", [LearnedMask(), RigL(density=0.5), SRSTE(), MagnitudeMask(density=0.5, start=0.5)], ids=type
    )
    def test_freezing_a_weight_whose_mask_is_still_chosen_is_refused_by_name(self, method):
        model, masks, optimizer = self.frozen_after_attach(method, 0.05)
        message = (
            r"^0.weight: got a weight that was frozen \(requires_grad=False\) after its mask was attached, as were 1 "
        )
        with pytest.raises(
            ValueError, match=message + r"of 2; allowed .* Freeze them before SparseMasks\.attach, which"
        ):
            masks.step(0.1, optimizer)
        with pytest.raises(ValueError, match=message):
            masks.finish("sparse", torch.optim.AdamW(masks.param_groups(lr=0.01)))  # which holds it no more
        model[0].requires_grad_(True)
        assert not masks.step(0.1, optimizer)

    def test_under_fixed_masks_weights_are_frozen_and_trained_again(self):
        method = RandomMask(density=0.5, until=0.3)
        model, masks, _ = self.frozen_after_attach(method, 0.1)
        before, dead = model[0].weight.detach().clone(), model[0].weight == 0
        for progress in (0.2, 0.4):  # the second is behind the exit
            self.train(model, masks, torch.optim.AdamW(masks.param_groups(lr=0.01)), progress)
            assert torch.equal(model[0].weight, before)
        assert masks.phase == "sparse"
        model[0].requires_grad_(True)
        optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01))
        model(torch.randn(8, 16)).square().mean().backward()
        assert model[0].weight.grad[dead].count_nonzero() == 0
        optimizer.step()
        assert torch.equal(model[0].weight == 0, dead)
        assert not torch.equal(model[0].weight, before)

    def test_a_frozen_weight_that_a_dense_exit_regrows_warms_up_once_it_is_trained(self):
        method = RandomMask(density=0.5, until=0.3, exit="dense", regrowth_warmup=10)
        model, masks, _ = self.frozen_after_attach(method, 0.1)
        dead = model[0].weight == 0
        for progress in (0.3, 0.5, 0.6):
            self.train(model, masks, torch.optim.SGD(masks.param_groups(lr=0.01)), progress)
        assert torch.equal(model[0].weight == 0, dead)
        model[0].requires_grad_(True)
        optimizer = torch.optim.SGD(masks.param_groups(lr=0.1))
        model(torch.randn(8, 16)).square().mean().backward()
        gradient = model[0].weight.grad.clone()
        optimizer.step()
        masks.step(0.7, optimizer)
        assert torch.allclose(model[0].weight[dead], -0.01 * gradient[dead])  # a tenth of the learning rate
