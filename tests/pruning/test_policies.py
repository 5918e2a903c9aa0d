import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import Easy, EasyToHard, Hard, KeepAll, Policy, Random
from asrsparse.pruning.policies import keep_window

PRUNING = [Random, Easy, Hard, EasyToHard]

utterances = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 30)), min_size=1, max_size=50).map(
    lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
)


@given(utterances, st.floats(0, 1), st.floats(0.01, 1))
def test_window_is_as_long_as_the_budget_but_for_one_utterance(rows, start, keep_ratio):
    scores, durations = rows
    budget = keep_ratio * durations.sum()
    kept = keep_window(scores, durations, start, budget)
    assert abs(durations[kept].sum() - budget) <= durations.max() + 1e-6


@given(utterances, st.floats(0, 1))
def test_window_is_contiguous_in_the_order_of_scores(rows, start):
    scores, durations = rows
    kept = keep_window(scores, durations, start, 0.5 * durations.sum())
    in_order = kept[np.argsort(scores, kind="stable")]
    assert np.abs(np.diff(np.concatenate([[0], in_order, [0]]))).sum() <= 2


@pytest.mark.parametrize("policy", [KeepAll(), *(p(keep_ratio=1.0) for p in PRUNING)])
def test_a_keep_ratio_of_one_keeps_all(policy):
    rng = np.random.default_rng(0)
    scores, durations = rng.random(30), rng.random(30) + 0.1
    assert policy.select(scores, durations, durations.sum(), 0.3, rng).all()


@pytest.mark.parametrize("policy", PRUNING)
def test_policies_satisfy_the_protocol(policy):
    assert isinstance(policy(), Policy)


def test_easy_keeps_the_lowest_hard_the_highest_and_easy2hard_walks_between():
    scores, durations = np.arange(10.0), np.ones(10)

    def kept(policy, progress):
        return np.flatnonzero(policy.select(scores, durations, 4.0, progress, np.random.default_rng(0))).tolist()

    assert kept(Easy(0.4), 0.5) == [0, 1, 2, 3]
    assert kept(Hard(0.4), 0.5) == [6, 7, 8, 9]
    walk = [kept(EasyToHard(0.4), p) for p in (0.0, 0.5, 1.0)]
    assert walk == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_random_depends_on_its_generator_alone():
    durations = np.ones(100)
    choices = [Random(0.5).select(np.zeros(100), durations, 50.0, 0.0, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert (choices[0] == choices[1]).all()
    assert (choices[0] != choices[2]).any()


@pytest.mark.parametrize("policy", PRUNING)
@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.01, float("nan")])
def test_keep_ratio_out_of_range_is_refused(policy, keep_ratio):
    with pytest.raises(ValueError, match=r"pruning.keep_ratio: got .*, allowed is \(0, 1\].*pruning=none"):
        policy(keep_ratio=keep_ratio)
