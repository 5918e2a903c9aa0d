import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import (
    Coverage,
    Easy,
    EasyToHard,
    EpsilonGreedy,
    Hard,
    InfoBatch,
    Longest,
    Middle,
    OrderDP,
    PruningPlan,
    Random,
    RePB,
    ScoreTable,
    Shortest,
    UpperConfidence,
    Window,
    select,
)
from asrsparse.pruning.selection import strata_of_duration

IDS = [f"u{i:03d}" for i in range(200)]
DURATIONS = np.random.default_rng(0).gamma(4.0, 1.0, len(IDS)) + 0.2


PRUNING = [
    *(Random, Easy, Hard, EasyToHard, Middle, InfoBatch, EpsilonGreedy, UpperConfidence),
    *(Coverage, Longest, Shortest, RePB, OrderDP, lambda keep_ratio: Window(keep_ratio, low=(1 - keep_ratio) / 3)),
]

corpora = st.lists(st.tuples(st.floats(0.1, 30), st.floats(0, 9)), min_size=1, max_size=80)


@pytest.mark.parametrize("make", PRUNING)
@given(corpora, st.integers(1, 20), st.floats(0.05, 1.0), st.integers(2, 8), st.integers(0, 99))
def test_every_policy_meets_the_budget_to_within_the_longest_utterance(make, rows, num_strata, keep_ratio, epoch, seed):
    durations, losses = (np.array(column, dtype=np.float32) for column in zip(*rows, strict=True))
    table = ScoreTable([str(number) for number in range(len(rows))], durations)
    for last in range(2):
        table.update(np.arange(len(rows)), losses, last)
    plan = PruningPlan(num_epochs=9, warmup_epochs=1, final_epochs=0, num_strata=num_strata)
    longest, budget = float(durations.max()), keep_ratio * table.total_seconds
    if len(rows) > 1 and budget < longest:
        return  # an utterance may be more than all that is to be kept
    kept = select(table, make(keep_ratio=keep_ratio), plan, epoch, seed)
    assert abs(kept.seconds - budget) <= longest + 1e-5 * table.total_seconds


@given(corpora, st.floats(0.3, 1.0), st.integers(0, 9), st.randoms())
def test_what_is_kept_first_in_some_strata_is_made_up_for_in_all_others(rows, keep_ratio, seed, random):
    durations = np.array([row[0] for row in rows], dtype=np.float32)
    table = ScoreTable([str(number) for number in range(len(rows))], durations)
    seen = np.array([random.random() < 0.8 for _ in rows])
    table.update(np.flatnonzero(seen), np.ones(seen.sum()), 0)
    plan = PruningPlan(num_epochs=9, warmup_epochs=1, final_epochs=0, num_strata=5)
    longest, forced = float(durations.max()), float(durations[~seen].sum())
    expected = max(keep_ratio * table.total_seconds, forced)
    if expected >= longest:
        kept = select(table, EasyToHard(keep_ratio), plan, 4, seed)
        assert abs(kept.seconds - expected) <= longest + 1e-5 * table.total_seconds
        assert kept.kept[~seen].all()


@pytest.mark.parametrize("make", PRUNING)
def test_the_only_utterance_of_a_corpus_is_kept(make):
    table = ScoreTable(["a"], [3.0])
    table.update(np.array([0]), np.array([1.0]), 0)
    plan = PruningPlan(num_epochs=9, warmup_epochs=1, final_epochs=0)
    kept = select(table, make(keep_ratio=0.4), plan, 1, 0)
    assert (len(kept), kept.weights) == (1, None)


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60), st.integers(1, 20))
def test_strata_hold_every_utterance_once(durations, num_strata):
    table = ScoreTable([str(i) for i in range(len(durations))], durations)
    strata = list(strata_of_duration(table.durations, table.duration_edges(num_strata)))
    assert sorted(np.concatenate(strata).tolist()) == list(range(len(durations)))
    assert len(strata) <= num_strata
    if len(set(durations)) == len(durations):
        assert max(map(len, strata)) - min(map(len, strata)) <= max(1, len(durations) // num_strata)


def test_strata_keep_the_length_distribution_that_hard_scores_of_long_utterances_would_change():
    table = ScoreTable(IDS, DURATIONS)
    table.update(np.arange(len(IDS)), DURATIONS, epoch=0)  # the longer, the harder
    means = {}
    for num_strata in (1, 10):
        plan = PruningPlan(num_epochs=10, warmup_epochs=1, final_epochs=0, num_strata=num_strata)
        kept = select(table, EasyToHard(0.5), plan, epoch=9, seed=0).kept
        means[num_strata] = DURATIONS[kept].mean() / DURATIONS.mean()
    assert means[1] > 1.3
    assert means[10] < 1.1


def test_utterances_never_seen_are_kept_first():
    table = ScoreTable(IDS, DURATIONS)
    table.update(np.arange(150), np.zeros(150), epoch=0)
    kept = select(
        table, EasyToHard(0.5), PruningPlan(num_epochs=9, warmup_epochs=1, num_strata=1), epoch=1, seed=0
    ).kept
    assert kept[150:].all()
    assert not kept[:150].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_epochs": 0}, "^num_epochs: got 0, allowed is at least 1"),
        ({"num_epochs": 1, "warmup_epochs": -1}, "^warmup_epochs and final_epochs: got -1 and 2"),
        ({"num_epochs": 1, "num_strata": 0}, "^num_strata: got 0, allowed is at least 1"),
        ({"num_epochs": 1, "cycle_epochs": 0}, "^cycle_epochs: got 0, allowed is at least 1"),
        (
            {"num_epochs": 1, "cycle_epochs": 3, "max_age": 2},
            "^max_age: got 2 with cycle_epochs=3; allowed is at least",
        ),
        ({"num_epochs": 1, "max_age": 0}, "^max_age: got 0, allowed is null .None. or at least 1"),
    ],
)
def test_a_plan_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PruningPlan(**arguments)
