import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import EasyToHard, PruningPlan, ScoreTable, select
from asrsparse.pruning.selection import strata_of_duration

IDS = [f"u{i:03d}" for i in range(200)]
DURATIONS = np.random.default_rng(0).gamma(4.0, 1.0, len(IDS)) + 0.2


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
