import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import (
    Candidates,
    Coverage,
    Easy,
    EasyToHard,
    EpsilonGreedy,
    Hard,
    KeepAll,
    Longest,
    Middle,
    Policy,
    Random,
    Shortest,
    UpperConfidence,
    Window,
)
from asrsparse.pruning.policies import keep_ratio_at
from asrsparse.pruning.windows import keep_window

PRUNING = [
    Random,
    Easy,
    Hard,
    EasyToHard,
    Middle,
    EpsilonGreedy,
    UpperConfidence,
    Coverage,
    Longest,
    Shortest,
]


def candidates(scores, durations=None, ages=None, keep_ratio=0.5, progress=0.0, seed=0):
    scores = np.asarray(scores, dtype=float)
    durations = np.ones(len(scores)) if durations is None else durations
    ages = np.ones(len(scores), dtype=int) if ages is None else np.asarray(ages)
    budget = keep_ratio * float(durations.sum())
    return Candidates(
        scores, durations, ages, budget, progress, np.random.default_rng(seed), 9, np.full(len(scores), 9)
    )


def kept(policy, among):
    """The numbers of the utterances that a policy keeps."""
    return np.flatnonzero(policy.select(among)).tolist()


utterances = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 30)), min_size=1, max_size=50).map(
    lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
)


@given(utterances, st.floats(0, 1), st.floats(0.01, 1))
def test_window_is_as_long_as_the_budget_but_for_one_utterance(rows, start, keep_ratio):
    scores, durations = rows
    budget = keep_ratio * durations.sum()
    kept = keep_window(scores, durations, start, budget)
    assert abs(durations[kept].sum() - budget) <= durations.max() + 1e-6


def window_by_sorting(order_by, durations, start, budget):
    """What `keep_window` says, in the plain words that it has no time for; and the middles of the utterances."""
    order = np.argsort(order_by, kind="stable")
    ends = np.cumsum(durations[order])
    middles = np.empty(len(order))
    middles[order] = ends - durations[order] / 2
    first = start * max(0.0, ends[-1] - budget)
    return (middles >= first) & (middles < first + budget), np.abs(middles[:, None] - [first, first + budget]).min(
        axis=1
    )


@given(
    st.lists(st.tuples(st.floats(-5, 100) | st.sampled_from([0.0, -0.0, 1.0]), st.floats(0.1, 30)), min_size=1),
    st.floats(0, 1),
    st.floats(0.01, 1.1),
    st.sampled_from([np.float32, np.float64]),
)
def test_window_is_what_sorting_gives(rows, start, share, dtype):
    order_by, durations = (np.array(column, dtype=dtype) for column in zip(*rows, strict=True))
    budget = share * float(durations.sum(dtype=float))
    expected, to_border = window_by_sorting(order_by, durations.astype(float), start, budget)
    differs = keep_window(order_by, durations, start, budget) != expected
    assert (
        to_border[differs].max(initial=0.0) < 1e-4
    )  # sums in another order: on the border itself it may fall so or so


@given(utterances, st.floats(0, 1))
def test_window_is_contiguous_in_the_order_of_scores(rows, start):
    scores, durations = rows
    kept = keep_window(scores, durations, start, 0.5 * durations.sum())
    in_order = kept[np.argsort(scores, kind="stable")]
    assert np.abs(np.diff(np.concatenate([[0], in_order, [0]]))).sum() <= 2


@pytest.mark.parametrize("policy", [KeepAll(), Window(1.0, low=0.0), *(p(keep_ratio=1.0) for p in PRUNING)])
def test_a_keep_ratio_of_one_keeps_all_and_weighs_all_the_same(policy):
    rng = np.random.default_rng(0)
    among = candidates(rng.random(30), rng.random(30) + 0.1, rng.integers(1, 9, 30), keep_ratio=1.0, progress=0.3)
    assert policy.select(among).tolist() == [1] * 30


@pytest.mark.parametrize("policy", [KeepAll(), Window(), *(p() for p in PRUNING)])
def test_policies_satisfy_the_protocol(policy):
    assert isinstance(policy, Policy)


@given(utterances, st.floats(0.3, 1.0), st.floats(0, 1), st.integers(0, 9))
def test_every_policy_keeps_the_budget_but_for_one_utterance(rows, keep_ratio, progress, seed):
    scores, durations = rows
    among = candidates(scores, durations, None, keep_ratio, progress, seed)
    for make in PRUNING:
        chosen = make(keep_ratio=keep_ratio).select(among)
        assert abs(durations[chosen].sum() - among.budget) <= durations.max() + 1e-6


def test_easy_keeps_the_lowest_hard_the_highest_and_easy2hard_walks_between():
    def of_ten(policy, progress=0.5):
        return kept(policy, candidates(range(10), keep_ratio=0.4, progress=progress))

    assert of_ten(Easy(0.4)) == [0, 1, 2, 3]
    assert of_ten(Hard(0.4)) == [6, 7, 8, 9]
    assert [of_ten(EasyToHard(0.4), p) for p in (0.0, 0.5, 1.0)] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_middle_leaves_out_both_ends_and_a_window_its_quantiles():
    assert kept(Middle(0.4), candidates(range(10), keep_ratio=0.4)) == [3, 4, 5, 6]
    assert kept(Window(0.4, low=0.1), candidates(range(10), keep_ratio=0.4)) == [1, 2, 3, 4]


def test_random_depends_on_its_generator_alone():
    choices = [kept(Random(), candidates(np.zeros(100), seed=s)) for s in (1, 1, 2)]
    assert choices[0] == choices[1] != choices[2]


def test_epsilon_greedy_keeps_the_highest_and_draws_the_rest():
    draws = [kept(EpsilonGreedy(0.5, epsilon=0.4), candidates(range(10), seed=s)) for s in range(50)]
    assert all(draw[-3:] == [7, 8, 9] and len(draw) == 5 for draw in draws)
    assert {u for draw in draws for u in draw} == set(range(10))


def test_ucb_takes_the_hardest_until_an_easy_one_has_waited_long_enough():
    ages = np.ones(10, dtype=int)
    assert kept(UpperConfidence(), candidates(range(10), ages=ages)) == [5, 6, 7, 8, 9]
    ages[0] = 50
    assert kept(UpperConfidence(), candidates(range(10), ages=ages)) == [0, 6, 7, 8, 9]
    assert kept(UpperConfidence(exploration=0.0), candidates(range(10), ages=ages)) == [5, 6, 7, 8, 9]


def test_coverage_takes_the_same_share_of_every_stratum_of_the_score():
    chosen = kept(Coverage(0.5, num_strata=5), candidates(range(100)))
    assert np.bincount(np.array(chosen) // 20).tolist() == [10] * 5


def test_longest_and_shortest_go_by_duration():
    among = candidates(np.zeros(4), np.array([3.0, 1.0, 2.0, 4.0]))
    assert kept(Longest(), among) == [3]
    assert kept(Shortest(), among) == [0, 1, 2]  # an utterance is kept when its middle lies within the budget


def test_a_keep_ratio_can_be_a_schedule():
    assert keep_ratio_at(Random(keep_ratio=lambda progress: 1.0 - 0.5 * progress), 0.5) == 0.75
    assert keep_ratio_at(Random(0.3), 0.5) == 0.3
    with pytest.raises(ValueError, match=r"^keep_ratio: got 0.0 at progress 1.00, allowed is \(0, 1\]"):
        keep_ratio_at(Random(keep_ratio=lambda progress: 1.0 - progress), 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsilonGreedy(epsilon=1.5), r"^epsilon: got 1.5, allowed is \[0, 1\]"),
        (lambda: UpperConfidence(exploration=-1), "^exploration: got -1, allowed is at least 0"),
        (lambda: Coverage(num_strata=0), "^num_strata: got 0, allowed is at least 1"),
        (lambda: Window(0.8, low=0.3), r"^low: got 0.3, allowed is \[0, 0.2\]"),
    ],
)
def test_a_policys_own_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("policy", [*PRUNING, Window])
@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.01, float("nan")])
def test_keep_ratio_out_of_range_is_refused(policy, keep_ratio):
    with pytest.raises(ValueError, match=r"^keep_ratio: got .*, allowed is \(0, 1\].*pruning=none"):
        policy(keep_ratio=keep_ratio)
