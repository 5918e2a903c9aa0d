import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning.draws import Draw, decide_most, decide_rest

utterances = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]) | st.floats(0.01, 0.99), st.floats(0.1, 30)),
    min_size=1,
    max_size=40,
).map(lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows])))


def drawn(probabilities, durations, rng):
    """A whole draw: what is kept."""
    shares = decide_most(probabilities, durations, rng)
    kept = shares == 1.0
    rest = np.flatnonzero((shares > 0.0) & (shares < 1.0))
    kept[rest] = decide_rest(shares[rest], durations[rest], rng)
    return kept


@given(utterances, st.integers(0, 99))
def test_first_decisions_change_no_second_and_leave_two_of_each_probability_undecided(rows, seed):
    probabilities, durations = rows
    shares = decide_most(probabilities, durations, np.random.default_rng(seed))
    assert shares @ durations == pytest.approx(probabilities @ durations, abs=1e-6 * durations.sum())
    for value in set(probabilities):
        of_value = shares[probabilities == value]
        assert ((of_value > 0) & (of_value < 1)).sum() <= 2
    assert (shares[probabilities == 0] == 0).all()
    assert (shares[probabilities == 1] == 1).all()


@given(utterances, st.integers(0, 99))
def test_a_draw_keeps_the_expected_seconds_but_for_less_than_the_longest_utterance(rows, seed):
    probabilities, durations = rows
    kept = drawn(probabilities, durations, np.random.default_rng(seed))
    assert abs(durations[kept].sum() - probabilities @ durations) < durations.max() + 1e-6
    assert not kept[probabilities == 0].any()
    assert kept[probabilities == 1].all()


@pytest.mark.parametrize(
    ("probabilities", "durations"),
    [
        ([0.3], [2.0]),
        ([0.4, 0.4], [1.0, 9.0]),
        ([0.7] * 9, [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0]),
        ([0.2, 0.3, 0.9, 1.0, 0.05], [1.0, 5.0, 2.0, 1.0, 7.0]),
    ],
)
def test_each_utterance_is_kept_with_its_own_probability(probabilities, durations):
    probabilities, durations = np.array(probabilities), np.array(durations)
    rng = np.random.default_rng(0)
    shares = np.mean([drawn(probabilities, durations, rng) for _ in range(20_000)], axis=0)
    assert shares == pytest.approx(probabilities, abs=0.016)  # four and a half deviations of such a mean


def test_a_draw_weighs_by_the_inverse_probability_unless_it_names_weights():
    assert Draw(np.array([0.5, 1.0, 0.0])).loss_weights.tolist() == [2.0, 1.0, 1.0]
    assert Draw(np.array([0.5]), np.array([3.0])).loss_weights.tolist() == [3.0]
