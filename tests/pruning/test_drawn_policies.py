import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import Candidates, InfoBatch, OrderDP, PruningPlan, RePB, ScoreTable, select


def candidates(scores, durations=None, ages=None, keep_ratio=0.5, seed=0, epoch=9, times_seen=None):
    scores = np.asarray(scores, dtype=float)
    durations = np.ones(len(scores)) if durations is None else np.asarray(durations, dtype=float)
    ages = np.ones(len(scores), dtype=int) if ages is None else np.asarray(ages)
    times_seen = np.full(len(scores), epoch) if times_seen is None else np.asarray(times_seen)
    budget = keep_ratio * float(durations.sum())
    return Candidates(scores, durations, ages, budget, 0.5, np.random.default_rng(seed), epoch, times_seen)


utterances = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 30)), min_size=1, max_size=50).map(
    lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
)


@given(utterances, st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.sampled_from([InfoBatch, RePB]))
def test_probabilities_meet_the_budget_exactly_and_are_no_lower_than_asked(rows, keep_ratio, min_share, policy):
    scores, durations = rows
    draw = policy(keep_ratio, min_share).select(candidates(scores, durations, None, keep_ratio))
    assert draw.probabilities @ durations == pytest.approx(keep_ratio * durations.sum())
    assert draw.probabilities.min() >= min(min_share, keep_ratio) - 1e-9
    assert draw.probabilities.max() <= 1.0


@pytest.mark.parametrize("policy", [InfoBatch(1.0), RePB(1.0)])
def test_a_keep_ratio_of_one_keeps_all_for_sure(policy):
    rng = np.random.default_rng(0)
    draw = policy.select(candidates(rng.random(30), rng.random(30) + 0.1, keep_ratio=1.0))
    assert draw.probabilities.tolist() == draw.loss_weights.tolist() == [1] * 30


def test_infobatch_keeps_the_harder_half_and_weighs_the_others_by_what_they_stand_for():
    draw = InfoBatch(0.7).select(candidates(np.arange(20.0), keep_ratio=0.7))
    assert draw.probabilities.tolist() == pytest.approx([0.4] * 10 + [1.0] * 10)
    assert draw.loss_weights.tolist() == pytest.approx([2.5] * 10 + [1.0] * 10)


def test_infobatch_moves_its_border_up_when_the_harder_ones_leave_too_little():
    draw = InfoBatch(0.5, min_share=0.25).select(candidates([0.0, *range(100, 199)], keep_ratio=0.5))
    assert draw.loss_weights.max() <= 4.0
    assert (draw.probabilities == 1.0).sum() == pytest.approx(33, abs=1)  # (0.5 - 0.25) / (1 - 0.25)


@pytest.mark.parametrize(
    ("size", "num_strata", "keep_ratio"), [(20, 10, 0.7), (20, 1, 0.3), (7, 7, 0.5), (45, 10, 0.6)]
)
def test_infobatchs_weighted_mean_is_that_of_all_in_expectation_also_in_small_strata(size, num_strata, keep_ratio):
    rng = np.random.default_rng(size)
    durations, losses = rng.gamma(4.0, 1.0, size) + 0.2, rng.gamma(2.0, 1.0, size).astype(np.float32)
    table = ScoreTable([str(number) for number in range(size)], durations)
    table.update(np.arange(size), losses, epoch=0)
    plan = PruningPlan(num_epochs=9, warmup_epochs=1, final_epochs=0, num_strata=num_strata)
    weights = np.zeros((4000, size))
    for seed in range(len(weights)):
        kept = select(table, InfoBatch(keep_ratio), plan, epoch=1, seed=seed)
        weights[seed] = kept.kept if kept.weights is None else kept.weights
    means = weights @ losses / size
    # Within four deviations of the mean over the seeds: 0.5 % to 2 % of it.
    assert abs(means.mean() - losses.mean()) < 4 * means.std() / np.sqrt(len(means)) < 0.03 * losses.mean()
    deviations = weights.std(axis=0) / np.sqrt(len(weights))
    assert (abs(weights.mean(axis=0) - 1.0) <= 5 * deviations + 1e-6).all()  # and so of each utterance


def test_repb_compares_only_within_the_last_epoch_and_among_neighbours_in_duration():
    scores = [1.0, 3.0, 11.0, 13.0, 9.0, 0.0]
    durations = [1.0, 1.1, 5.0, 5.1, 1.05, 5.05]
    ages = [1, 1, 1, 1, 2, 3]  # the last two were not used in the last epoch: only chance puts them back
    draw = RePB(0.7, window=2).select(candidates(scores, durations, ages, keep_ratio=0.7))
    assert (draw.probabilities == 1.0).tolist() == [False, True, False, True, False, False]
    assert len(set(draw.probabilities[[0, 2, 4, 5]].tolist())) == 1


def test_repb_weighs_by_the_epochs_so_far_over_those_that_used_the_utterance():
    draw = RePB(0.5, max_weight=3.0).select(candidates([1.0, 2.0, 3.0], epoch=7, times_seen=[7, 3, 0]))
    assert draw.loss_weights.tolist() == [1.0, 2.0, 3.0]


def test_orderdp_keeps_the_hardest_of_a_random_share():
    def of(drawn, seed):
        return np.flatnonzero(OrderDP(0.4, drawn).select(candidates(range(10), keep_ratio=0.4, seed=seed))).tolist()

    assert of(1.0, 0) == of(1.0, 1) == [6, 7, 8, 9]
    draws = np.array([of(0.6, seed) for seed in range(2000)])
    assert draws.shape == (2000, 4)
    counts = np.bincount(draws.ravel(), minlength=10) / 2000
    # With 6 of 10 drawn, the hardest is kept if it is drawn; the third easiest is, if it and three easier ones are.
    assert counts[9] == pytest.approx(0.6, abs=0.05)
    assert (counts[:2] == 0).all()
    assert (np.diff(counts[2:]) > -0.05).all()


def test_orderdp_draws_halfway_to_all_unless_a_share_is_set():
    draws = [OrderDP(0.4).select(candidates(range(100), keep_ratio=0.4, seed=seed)) for seed in range(200)]
    assert np.mean([draw[-20:].mean() for draw in draws]) == pytest.approx(0.7, abs=0.03)  # (0.4 + 1) / 2 are drawn


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoBatch(min_share=0), r"^min_share: got 0, allowed is \(0, 1\]"),
        (lambda: RePB(min_share=1.5), r"^min_share: got 1.5, allowed is \(0, 1\]"),
        (lambda: RePB(window=0), "^window: got 0, allowed is at least 1"),
        (lambda: RePB(max_weight=0.5), "^max_weight: got 0.5, allowed is at least 1"),
        (lambda: OrderDP(0.7, drawn=0.6), r"^drawn: got 0.6, allowed is null \(None\) or \[0.7, 1\]"),
        (lambda: OrderDP(0.7, drawn=1.1), r"^drawn: got 1.1"),
        (lambda: OrderDP(lambda progress: 0.5, drawn=0.0), r"^drawn: got 0.0"),
        (lambda: OrderDP(keep_ratio=0.0), r"^keep_ratio: got 0.0"),
        (lambda: RePB(keep_ratio=float("nan")), r"^keep_ratio: got nan"),
    ],
)
def test_a_policys_own_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
