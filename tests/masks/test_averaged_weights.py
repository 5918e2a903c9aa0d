import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toy import attach, build, task_loss, train

from asrsparse.masks import AveragedWeights, DecayingMask, DenseMask, LearnedMask, RigL, SparseMasks
from asrsparse.masks.methods import SET
from asrsparse.masks.straight_through import SRSTE

PHASE = {"until": 0.2, "regrowth_warmup": 3}  # 20 of 100 steps
METHODS = {
    "dense": lambda **_: DenseMask(),
    "learned": lambda **more: LearnedMask(**PHASE, reach_by=1.0, stable_share=0.0, **more),
    "decaying": lambda **more: DecayingMask(**PHASE, **more),
    "sr_ste": lambda **more: SRSTE(**PHASE, **more),
    "rigl": lambda **more: RigL(**PHASE, every=0.02, density=0.2, **more),
    "set": lambda **more: SET(**PHASE, every=0.02, density=0.2, **more),
}
BEFORE_THE_WEIGHTS = ("learned", "decaying", "sr_ste")
of_all_methods = pytest.mark.parametrize("name", METHODS)


def begin(name, exit="sparse", decay=0.9):
    model = build()
    masks, optimizer = attach(model, METHODS[name](exit=exit))
    return model, masks, optimizer, AveragedWeights(masks, decay)


def plain_model(weights):
    model = build(seed=1)
    model.load_state_dict(weights, strict=True)
    return model


@of_all_methods
@pytest.mark.parametrize("exit", ["sparse", "dense"])
def test_it_is_no_worse_than_the_model_was_a_little_sooner(name, exit):
    model, masks, optimizer, averaged = begin(name, exit)
    losses = [task_loss(model, 0).item()]
    for _ in train(model, masks, optimizer, last=40):
        averaged.update()
        losses.append(task_loss(model, 0).item())
        loss = task_loss(plain_model(averaged.state_dict()), 0).item()
        assert loss < 1.1 * max(losses[-15:])
    assert loss < 0.5 * losses[0]
    assert masks.phase == ("dense" if name == "dense" else exit)


@pytest.mark.parametrize("name", ["rigl", "set", "sr_ste"])
def test_it_has_the_density_of_the_masks_at_all_times(name):
    model, masks, optimizer, averaged = begin(name, decay=0.99)
    for step in train(model, masks, optimizer, last=30):
        averaged.update()
        dropped = {weight: ~keep for weight, keep in masks.weight_masks().items()}
        if name != "sr_ste":  # a mask that follows is chosen for the next step, as is the model's weight
            assert masks.density_of(averaged.state_dict()) <= masks.density
        assert all((averaged.state_dict()[weight][where] == 0).all() for weight, where in dropped.items()), step
    assert masks.density_of(averaged.state_dict()) == pytest.approx(masks.density, abs=0.01)


@pytest.mark.parametrize("name", BEFORE_THE_WEIGHTS)
def test_after_an_exit_to_fixed_zeros_it_has_them(name):
    model, masks, optimizer, averaged = begin(name)
    for _ in train(model, masks, optimizer, last=20):
        averaged.update()
    assert masks.phase == "sparse"
    assert masks.density_of(averaged.state_dict()) == pytest.approx(masks.exit_summary["density"], abs=0.01)


def test_without_masks_it_is_the_ema_of_pytorch():
    model, masks, optimizer, averaged = begin("dense")
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)  # the first update is a copy
    for _ in train(model, masks, optimizer, last=10):
        averaged.update()
        theirs.update_parameters(model)
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(averaged.state_dict()[name], value)


@of_all_methods
def test_a_resumed_average_goes_on(name):
    model, masks, optimizer, averaged = begin(name)
    for _ in train(model, masks, optimizer, last=10):
        averaged.update()
    resumed = AveragedWeights(masks, 0.9)
    resumed.load_state_dict(copy.deepcopy(averaged.state_dict()))
    for _ in train(model, masks, optimizer, first=11, last=25):
        averaged.update()
        resumed.update()
    assert all(torch.equal(resumed.state_dict()[key], value) for key, value in averaged.state_dict().items())


def test_layers_of_another_size_begin_a_new_average():
    model, _, _, averaged = begin("dense")
    before = averaged.state_dict()["4.weight"].clone()
    with torch.no_grad():
        model[4].weight = nn.Parameter(torch.ones(8, 60))
        averaged.update()
        assert torch.equal(averaged.state_dict()["4.weight"], torch.ones(8, 60))
        model[4].weight.zero_()
        averaged.update()
    assert torch.allclose(averaged.state_dict()["4.weight"], torch.full((8, 60), 0.9))
    assert before.shape == (8, 64)


def test_small_steps_are_not_lost_in_low_precision():
    model = nn.Linear(1, 1).bfloat16()
    nn.init.ones_(model.weight)
    averaged = AveragedWeights(SparseMasks.attach(model, DenseMask()), decay=0.999)
    nn.init.zeros_(model.weight)
    averaged.update()
    assert averaged.state_dict()["weight"].item() == pytest.approx(0.999)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range(decay):
    masks = SparseMasks.attach(build(), DenseMask())
    with pytest.raises(ValueError, match=r"^decay: got .*, allowed is a share in \[0, 1\)"):
        AveragedWeights(masks, decay)


def test_an_average_of_another_model():
    averaged = AveragedWeights(SparseMasks.attach(build(), DenseMask()))
    with pytest.raises(ValueError, match=r"^state: got an average of other weights, allowed is one of this model"):
        averaged.load_state_dict({"weight": torch.ones(1)})


class TestOfPyTorch:
    @pytest.mark.parametrize("name", BEFORE_THE_WEIGHTS)
    def test_an_averaged_model_computes_with_the_temperature_and_masks_of_now(self, name):
        """The weights stand still, and only what else masks consist of moves."""
        fixed_logits = {"target_density": None, "penalty_weight": 1.0} if name == "learned" else {}
        model = build()
        masks = SparseMasks.attach(model, METHODS[name](**fixed_logits))
        optimizer = torch.optim.SGD([{**group, "lr": 0.0} for group in masks.param_groups(lr=0.0)], lr=0.0)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        for _ in train(model, masks, optimizer, last=15):
            average.update_parameters(model)
        inputs = torch.randn(2, 8, 4)
        assert masks.phase in ("learning", "following")
        torch.testing.assert_close(average(inputs), model(inputs))

    @pytest.mark.parametrize("name", BEFORE_THE_WEIGHTS)
    def test_an_averaged_model_is_near_the_model_while_it_trains(self, name):
        model = build()
        masks, optimizer = attach(model, METHODS[name]())
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        for _ in train(model, masks, optimizer, last=18):
            average.update_parameters(model)
        assert task_loss(average, 0).item() == pytest.approx(task_loss(model, 0).item(), rel=0.5)
