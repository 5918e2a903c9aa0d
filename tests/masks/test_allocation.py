import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from asrsparse.masks import NM, ByPattern, ErdosRenyi, Global, RandomMask, SparseMasks, Uniform
from asrsparse.masks.weights import find_weights

ALLOCATIONS = [Global(), Uniform(), ErdosRenyi(), ErdosRenyi(kernel=False), ByPattern({"0.*": 0.9})]

sizes = st.integers(min_value=2, max_value=20).map(lambda k: 4 * k)


def build(widths, kernel):
    first, second, third = widths
    return nn.Sequential(nn.Conv1d(first, second, kernel), nn.Linear(second, third), nn.Linear(third, first))


def scores_of(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(weight.tiling.units_shape, generator=generator) for weight in weights]


def kept_share(weights, masks):
    kept = sum(int(mask.sum()) * weight.parameters_per_unit for weight, mask in zip(weights, masks, strict=True))
    return kept / sum(weight.size for weight in weights)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@given(
    widths=st.tuples(sizes, sizes, sizes),
    kernel=st.integers(1, 5),
    density=st.floats(0.05, 1.0),
    seed=st.integers(0, 9),
)
def test_the_density_is_kept_and_the_highest_scores_are(allocation, widths, kernel, density, seed):
    weights = find_weights(build(widths, kernel))
    try:
        allocation.check(weights, density)
    except ValueError:
        assert isinstance(allocation, ByPattern)
        return
    scores = scores_of(weights, seed)
    masks = allocation.choose(weights, scores, density)
    slack = len(weights) / sum(weight.size for weight in weights)
    assert kept_share(weights, masks) == pytest.approx(density, abs=slack)
    for mask, score in zip(masks, scores, strict=True):
        if mask.any() and not mask.all():
            assert score[mask].min() >= score[~mask].max()


@given(widths=st.tuples(sizes, sizes, sizes), density=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_thresholds_are_where_the_choice_ends(widths, density, seed):
    weights = find_weights(build(widths, 1))
    scores = scores_of(weights, seed)
    for allocation in (Global(), Uniform(), ErdosRenyi()):
        thresholds = allocation.thresholds(weights, scores, density)
        above = [score > threshold for score, threshold in zip(scores, thresholds, strict=True)]
        assert kept_share(weights, above) == pytest.approx(density, abs=0.02 + 2 / min(w.size for w in weights))


@given(
    n=st.integers(1, 3),
    outputs=st.integers(1, 9),
    groups=st.integers(1, 9),
    kernel=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_n_of_m_keeps_the_highest_n_of_each_m_along_the_inputs(n, outputs, groups, kernel, seed):
    weights = find_weights(nn.Conv1d(4 * groups, outputs, kernel))
    (scores,) = scores_of(weights, seed)
    (mask,) = NM(n, 4).choose(weights, [scores], n / 4)
    (threshold,) = NM(n, 4).thresholds(weights, [scores], n / 4)
    for output in range(outputs):
        for group in range(groups):
            for position in range(kernel):
                where = (output, slice(4 * group, 4 * group + 4), position)
                ranked = scores[where].sort(descending=True).values
                assert mask[where].sum() == n
                assert scores[where][mask[where]].min() == ranked[n - 1]
                assert torch.equal(scores[where] > threshold[where], mask[where])


def test_more_than_n_of_m_are_a_whole_number_and_fewer_go_anywhere():
    weights = find_weights(nn.Linear(16, 50))
    scores = scores_of(weights, 0)
    (mask,) = NM(2, 4).choose(weights, scores, 0.6)
    assert set(mask.reshape(-1, 4).sum(1).tolist()) == {3}
    (mask,) = NM(2, 4).choose(weights, scores, 0.3)
    assert mask.float().mean() == pytest.approx(0.3, abs=0.01)
    assert set(mask.reshape(-1, 4).sum(1).tolist()) == {0, 1, 2}


def test_minus_infinity_is_not_to_be_had():
    weights = find_weights(nn.Linear(4, 2))
    scores = [torch.tensor([[1.0, -math.inf, -math.inf, -math.inf], [-math.inf] * 4])]
    for allocation in (Global(), Uniform(), NM(2, 4)):
        assert allocation.choose(weights, scores, 0.5)[0].sum() == 1


def test_global_masks_of_units_of_different_sizes_count_parameters():
    model = nn.Sequential(nn.Linear(64, 64), nn.Conv1d(64, 64, 9))
    weights = find_weights(model)
    small, large = weights
    sized = [small, type(large)(large.name, large.module, large.tiling, parameters_per_unit=3)]
    masks = Global().choose(sized, scores_of(sized, 0), 0.25)
    assert kept_share(sized, masks) == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize(
    ("allocation", "density", "message"),
    [
        (
            Uniform(),
            1e-4,
            r"^density: got 0.0001, with which Uniform leaves 0.weight none of its 96 units .* one unit at least",
        ),
        (
            ByPattern({"0.*": 0.1}),
            0.9,
            r"^density and given: got density=0.9 over all masked weights and .* leave .* for the others, allowed",
        ),
        (ByPattern({"*": 0.1}), 0.9, r"these leave 0.1 over all, allowed is density=0.1. Change one of them"),
        (
            ByPattern({"ctc.*": 0.1}),
            0.9,
            r"^given: got 'ctc.\*', which matches no masked weight. Weights: 0.weight, 1",
        ),
        (NM(2, 4), 0.3, r"^density: got 0.3 with 2:4, allowed is density=0.5. Change one of them"),
        (
            NM(2, 8),
            0.25,
            r"^n and m: got 2:8 for 1.weight with 12 inputs; allowed is a number that 8 divides. Leave the layer",
        ),
    ],
)
def test_what_cannot_be_reached_is_said_before_training(allocation, density, message):
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 4))
    with pytest.raises(ValueError, match=message):
        SparseMasks.attach(model, RandomMask(density=density, allocation=allocation))


@pytest.mark.parametrize(
    ("build_allocation", "message"),
    [
        (lambda: NM(4, 4), r"^n and m: got 4:4, allowed is 1 <= n < m, as in 2:4"),
        (lambda: ByPattern({"*": 1.5}), r"^given: got '\*': 1.5, allowed is a density in \(0, 1\]"),
    ],
)
def test_bad_settings_are_named(build_allocation, message):
    with pytest.raises(ValueError, match=message):
        build_allocation()
