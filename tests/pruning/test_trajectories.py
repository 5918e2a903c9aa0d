import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import ScoreTable
from asrsparse.pruning.trajectories import agreement, loss_curves, outliers, usual_curve


@given(st.integers(0, 99), st.sampled_from([0.0, 0.5, 0.9]))
def test_losses_are_those_that_the_scores_were_made_of(seed, smoothing):
    rng = np.random.default_rng(seed)
    table = ScoreTable([str(number) for number in range(9)], [1.0] * 9, smoothing)
    losses = rng.uniform(0.1, 5.0, (7, 9))
    losses[rng.random((7, 9)) < 0.4] = np.nan
    scores, last_seen = [], []
    for epoch in range(7):
        rows = np.flatnonzero(np.isfinite(losses[epoch]))
        table.update(rows, losses[epoch, rows], epoch)
        scores.append(table.scores.copy())
        last_seen.append(table.last_seen.copy())
    assert loss_curves(np.stack(scores), np.stack(last_seen), smoothing) == pytest.approx(losses, rel=1e-4, nan_ok=True)


def test_the_usual_curve_is_the_median_of_the_reference_and_unknown_where_none_of_it_was_trained_on():
    losses = np.array([[1.0, 2.0, 9.0], [np.nan, np.nan, 3.0]])
    assert usual_curve(losses).tolist() == [2.0, 3.0]
    curve = usual_curve(losses, np.array([True, True, False]))
    assert curve[0] == 1.5
    assert np.isnan(curve[1])


def test_hard_utterances_agree_and_those_whose_loss_stops_falling_do_not():
    usual = 4.0 * 0.6 ** np.arange(8)
    hard, wrong, rising = 3.0 * usual, np.maximum(usual, 2.5 - 0.1 * np.arange(8) % 2), usual[::-1]
    scored = agreement(np.stack([usual, hard, wrong, rising], axis=1), usual)
    assert scored[:2] == pytest.approx([1.0, 1.0])
    assert 1.0 > scored[2] > scored[3] == pytest.approx(-1.0)


def test_short_and_constant_curves_have_no_agreement():
    losses = np.array([[3.0, 1.0, 2.0], [2.0, 1.0, 1.0], [1.5, 1.0, np.nan], [1.0, 1.0, np.nan], [0.5, 1.0, np.nan]])
    scored = agreement(losses, losses[:, 0])
    assert scored[0] == pytest.approx(1.0)
    assert np.isnan(scored[1:]).all()


def test_losses_of_zero_and_below_are_as_good_as_none():
    assert agreement(np.array([[3.0], [1.0], [0.0], [-1.0]]), np.array([3.0, 1.0, 0.0, 0.0])) == pytest.approx([1.0])


def test_outliers_are_far_below_the_others_and_never_above():
    rng = np.random.default_rng(0)
    usual = np.tanh(rng.normal(2.0, 0.3, 500))
    found = outliers(np.concatenate([usual, [-0.5, 0.2, 0.9999999, np.nan]]))
    assert found[-4:].tolist() == [True, True, False, False]
    assert found[:500].sum() <= 1
    assert not outliers(np.full(4, np.nan)).any()
    assert not outliers(np.full(4, 0.9)).any()
