import io

import pytest
import torch
from torch import nn
from toy import NUM_STEPS, attach, build, train, trained

from asrsparse.masks import (
    MagnitudeMask,
    RandomMask,
    RandomSaliency,
    ShrinkingMask,
    Structured,
    TaylorSaliency,
    Uniform,
)
from asrsparse.masks.structured import FeedForwardUnits
from asrsparse.schedules import Cosine


def shrinking(**settings):
    return ShrinkingMask(**{"start": 0.2, "until": 0.6, "allocation": Uniform(), **settings})


def test_chosen_weights_shrink_to_zero_and_the_others_are_left_alone():
    model = build()
    masks, optimizer = attach(model, shrinking())
    norms, weight = {}, model[4].weight
    for step in train(model, masks, optimizer):
        if step >= 20:
            dropped = ~masks.weight_masks()["4.weight"]
            norms[step] = (weight[dropped].norm().item(), weight[~dropped].norm().item())
            assert masks.phase == ("shrinking" if step < 60 else "sparse")
    dropped, kept = zip(*norms.values(), strict=True)
    assert dropped[39] < 0.1 * kept[39]  # in the last step before the cut, at learning rate 0.01
    assert dropped[10] < dropped[0]
    assert dropped[40] == dropped[-1] == 0.0
    assert min(kept) > 0.5 * kept[0]
    assert masks.exit_summary["density"] == pytest.approx(0.5, abs=0.01)


def test_what_is_left_follows_the_schedule_where_nothing_else_moves_a_weight():
    model = build()
    masks, _ = attach(model, shrinking(start=0.0, until=1.0, left=Cosine(1.0)))
    before, kept = model[4].weight.detach().clone(), masks.weight_masks()["4.weight"]
    optimizer = torch.optim.SGD(masks.param_groups(lr=0.0))
    for step in range(1, 51):
        masks.step(step / NUM_STEPS, optimizer)
    assert masks.summary()["left"] == pytest.approx(0.5)
    assert torch.allclose(model[4].weight, before * torch.where(kept, 1.0, 0.5), atol=1e-6)


def test_units_are_those_that_a_cut_at_the_start_would_keep():
    cut, shrunk = (
        trained(method, last=20)[1] for method in (MagnitudeMask(start=0.2, allocation=Uniform()), shrinking())
    )
    for one, other in zip(cut.weight_masks().values(), shrunk.weight_masks().values(), strict=True):
        assert torch.equal(one, other)
    _, at_random, _ = trained(shrinking(start=0.0, first=RandomSaliency()), last=1)
    assert [*at_random.weight_masks().values()][1].equal(
        [*attach(build(), RandomMask(allocation=Uniform()))[0].weight_masks().values()][1]
    )


@pytest.mark.parametrize("first", [TaylorSaliency(0.1), RandomSaliency()], ids=["taylor", "random"])
def test_a_resumed_run_ends_bitwise_as_an_uninterrupted_one(first):
    method = shrinking(first=first)
    whole, whole_masks, _ = trained(method)
    for stop in (15, 40, 80):
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
        assert masks.fingerprint() == whole_masks.fingerprint()
        assert all(torch.equal(model.state_dict()[name], value) for name, value in whole.state_dict().items()), stop


def test_the_cut_of_units_that_shrank_hardly_changes_the_output():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=32, dropout=0.0)
    units = Structured([FeedForwardUnits("linear1", "linear2")])
    masks, _ = attach(model, shrinking(start=0.0, granularity=units, exit="sparse", compact_at_exit=True))
    optimizer = torch.optim.SGD(masks.param_groups(lr=1e-3))
    inputs, outputs = torch.randn(5, 8), {}
    for step in range(1, 61):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        masks.step(step / NUM_STEPS, optimizer)
        outputs[step] = model(inputs).detach()
    assert (masks.phase, model.linear1.out_features) == ("compacted", 16)
    cut = (outputs[60] - outputs[59]).abs().max()
    assert cut < 0.2 * (outputs[59] - outputs[1]).abs().max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0.1}, r"^every: got 0.1, allowed is None: ShrinkingMask chooses once\. Leave it out\.$"),
        ({"until": 0.2}, r"^start and until: got 0.2 for both, allowed is start < until: .* Start sooner, or use Magn"),
        (
            {"first": TaylorSaliency(0.3)},
            r"^first: got a saliency with window=0.3 and start=0.2, allowed is a window of",
        ),
    ],
)
def test_settings_that_leave_no_time_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        shrinking(**settings)
