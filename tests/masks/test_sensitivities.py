import io

import pytest
import torch
from torch import nn
from toy import NUM_STEPS, attach, build, task_loss, train, trained

from asrsparse.masks import BinaryMask, Global, RandomMask, SparseMasks, Structured, TaylorSaliency, Uniform
from asrsparse.masks.saliency import MagnitudeSaliency
from asrsparse.masks.sensitivities import Sensitivities
from asrsparse.masks.structured import FeedForwardUnits
from asrsparse.masks.weights import find_weights


@pytest.fixture
def gate():
    layer = nn.TransformerEncoderLayer(d_model=2, nhead=1, dim_feedforward=3)
    return Structured([FeedForwardUnits("linear1", "linear2")]).weights(layer, ["*"], [])


STEPS = torch.tensor([[[1.0, -2.0, 0.0], [2.0, 2.0, 0.0]], [[1.0, 4.0, 1.0], [0.0, 4.0, -1.0]]])
"""Products of weights and gradients, (steps, outputs, units): the sums are (3, 0, 0), then (1, 8, 0)."""


def test_sums_over_units_are_squared_and_averaged_over_steps(gate):
    sensitivities = Sensitivities(gate)
    assert (sensitivities.num_steps, sensitivities.means()) == (0, [])
    for step in STEPS:
        sensitivities.add([step])
    assert torch.allclose(sensitivities.means()[0], torch.tensor([[5.0, 32.0, 0.0]]).sqrt())
    sensitivities.clear()
    assert (sensitivities.num_steps, sensitivities.means()) == (0, [])


def test_single_weights_are_units_of_their_own():
    sensitivities = Sensitivities(find_weights(nn.Linear(3, 2)))
    sensitivities.add([STEPS[0]])
    assert torch.equal(sensitivities.means()[0], STEPS[0].abs())


def test_a_step_without_finite_gradients_is_left_out(gate):
    sensitivities = Sensitivities(gate)
    for step in (STEPS[0], STEPS[0] * torch.inf, torch.full_like(STEPS[0], torch.nan)):
        sensitivities.add([step])
    assert sensitivities.num_steps == 1
    assert torch.equal(sensitivities.means()[0], torch.tensor([[3.0, 0.0, 0.0]]))


def test_a_state_goes_on_where_it_was_saved(gate):
    whole, first, second = (Sensitivities(gate) for _ in range(3))
    for step in STEPS:
        whole.add([step])
    first.add([STEPS[0]])
    second.load_state_dict(first.state_dict())
    second.add([STEPS[1]])
    assert torch.equal(second.means()[0], whole.means()[0])


class TestWindow:
    """Sensitivities are collected over the steps of a window, and then chosen by."""

    def test_taylor_equals_a_computation_by_hand(self):
        method = BinaryMask(first=TaylorSaliency(0.1), start=0.3, until=0.3, density=0.3, allocation=Global())
        model = build()
        masks, optimizer = attach(model, method)
        squares, num_steps = [0.0, 0.0], 0
        for step in range(1, 31):
            optimizer.zero_grad()
            task_loss(model, step).backward()
            if step > 20:  # the window opens after step 20
                num_steps += 1
                for number, layer in enumerate((0, 4)):
                    weight = model[layer].weight
                    squares[number] = squares[number] + (weight * weight.grad).detach().square()
            optimizer.step()
            masks.step(step / NUM_STEPS, optimizer)
            assert masks.phase == ("dense" if step < 30 else "sparse")
        worth = torch.cat([(square / num_steps).flatten() for square in squares])
        kept = torch.cat([mask.flatten() for mask in masks.weight_masks().values()])
        assert (num_steps, kept.sum()) == (10, round(0.3 * worth.numel()))
        assert worth[kept].min() >= worth[~kept].max()

    def test_the_choice_and_the_training_before_it_do_not_depend_on_accumulation(self):
        method = BinaryMask(first=TaylorSaliency(0.1), start=0.2, density=0.5, allocation=Uniform())
        scores = []
        for accumulate in (1, 2):
            model = build()
            masks, optimizer = attach(model, method)
            for step in range(1, 20):
                optimizer.zero_grad()
                inputs = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step))
                for part in inputs.chunk(accumulate):
                    ((model(part) - part.mean(2)).square().mean() / accumulate).backward()
                masks.step(step / NUM_STEPS, optimizer)
            scores.append(masks.state_dict()["sensitivities"])
        assert scores[0]["num_steps"] == scores[1]["num_steps"] == 9
        for one, other in zip(*(score["squares"] for score in scores), strict=True):
            assert torch.allclose(one, other, rtol=1e-3)

    @pytest.mark.parametrize("stop", [15, 25, 29, 45, 56])
    def test_a_run_that_is_resumed_in_a_window_ends_bitwise_as_an_uninterrupted_one(self, stop):
        method = BinaryMask(
            first=TaylorSaliency(0.1), keep=TaylorSaliency(0.05), start=0.3, every=0.1, initial_density=1.0, density=0.3
        )
        whole, whole_masks, _ = trained(method)
        model, masks, optimizer = trained(method, last=stop)
        file = io.BytesIO()
        torch.save([model.state_dict(), masks.state_dict(), optimizer.state_dict()], file)
        file.seek(0)
        states = torch.load(file, weights_only=True)
        model = build(seed=1)
        masks, optimizer = attach(model, method)
        masks.load_state_dict(states[1])
        model.load_state_dict(states[0])
        optimizer.load_state_dict(states[2])
        for _ in train(model, masks, optimizer, first=stop + 1):
            pass
        assert masks.density == pytest.approx(0.3, abs=0.01)
        assert masks.fingerprint() == whole_masks.fingerprint()
        for name, value in whole.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), (stop, name)

    def test_one_step_is_enough_without_a_window_and_a_skipped_one_is_waited_for(self):
        model = build()
        masks, optimizer = attach(model, BinaryMask(first=TaylorSaliency(0.0), density=0.5))
        masks.step(0.0, optimizer)  # from here on gradients are collected
        for step, scale in ((1, float("nan")), (2, 1.0)):
            assert masks.phase == "dense"
            (scale * task_loss(model, step)).backward()
            optimizer.zero_grad()
            masks.step(step / NUM_STEPS, optimizer)
        assert masks.phase == "sparse"

    @pytest.mark.parametrize(("name", "limiting"), [("first", "start"), ("keep", "every")])
    def test_a_window_longer_than_the_time_before_a_choice_is_refused(self, name, limiting):
        message = (
            rf"^{name}: got a saliency with window=0.3 and {limiting}=0.2, allowed is a window of at most {limiting}"
        )
        with pytest.raises(ValueError, match=message):
            BinaryMask(**{name: TaylorSaliency(0.3), "start": 0.2, "every": 0.2})

    def test_a_checkpoint_of_an_earlier_version_loads(self):
        model = build()
        masks, _ = attach(model, RandomMask())
        state = masks.state_dict()
        del state["sensitivities"]
        attach(build(), RandomMask())[0].load_state_dict(state)


def test_units_are_chosen_as_by_hand():
    """Unit 0 has the largest columns, the loss depends on unit 1 alone, and unit 2 has neither."""
    layer = nn.Sequential()
    layer.first, layer.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False)
    for saliency, wanted in ((MagnitudeSaliency(), 0), (TaylorSaliency(0.0), 1)):
        with torch.no_grad():
            layer.first.weight.copy_(torch.diag(torch.tensor([0.0, 5.0, 0.1])))
            layer.second.weight.copy_(torch.tensor([[3.0, -1.0, 0.2], [3.0, -1.0, 0.2]]))
        units = Structured([FeedForwardUnits("first", "second")])
        masks = SparseMasks.attach(
            layer, BinaryMask(first=saliency, density=0.34, granularity=units, allocation=Uniform(), exit="dense")
        )
        optimizer = torch.optim.SGD(masks.param_groups(lr=0.0))
        masks.step(0.0, optimizer)
        layer.second(layer.first(torch.ones(1, 3))).sum().backward()
        masks.step(0.1, optimizer)
        assert masks.weight_masks()["second.weight"][0].tolist() == [number == wanted for number in range(3)]
        masks.finish("dense", optimizer)
