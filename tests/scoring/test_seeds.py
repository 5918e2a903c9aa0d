"""Systems that were trained with several seeds: the interval holds the spread of both utterances and seeds."""

import numpy as np
import pytest
from decoded import decoded

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, compare
from asrsparse.scoring.comparison import Margin, non_inferiority
from asrsparse.scoring.seeds import compare_seeds

MANY = Bootstrap(resamples=40_000)


def run_of(num_errors, num_utterances=100):
    """Utterances of one word, so many of which are wrong."""
    said = ["no" if number < num_errors else "yes" for number in range(num_utterances)]
    return [Utterance(f"u{number:03d}", "s1", "yes", word) for number, word in enumerate(said)]


def test_one_seed_is_the_paired_bootstrap_of_one_run():
    first, second, few = decoded(0.2), decoded(0.3), Bootstrap(resamples=500)
    compared = compare_seeds([first], [second], few, Margin(0.05))
    assert compared.comparison == compare(first, second, few)
    assert compared.non_inferiority == non_inferiority(first, second, few, Margin(0.05))


def test_runs_that_are_all_alike_have_the_spread_of_their_utterances_alone():
    compared = compare_seeds([run_of(0)] * 3, [run_of(20)] * 3, MANY)
    assert compared.wer == compared.comparison.delta_wer == 0.2
    spread = 1.96 * np.sqrt(0.2 * 0.8 / 100)
    assert (compared.ci_low, compared.ci_high) == pytest.approx((0.2 - spread, 0.2 + spread), abs=0.012)


def test_utterances_that_are_all_alike_have_the_spread_of_their_seeds_alone_by_hand():
    """Of two seeds, one all wrong and one all right, a quarter of the draws have the first twice, a half has both."""
    compared = compare_seeds([run_of(0), run_of(0)], [run_of(100), run_of(0)], MANY)
    assert compared.wer == 0.5
    assert (compared.ci_low, compared.ci_high) == (0.0, 1.0)
    assert compare_seeds([run_of(100), run_of(0)], [run_of(0), run_of(0)], MANY).comparison.p_better == pytest.approx(
        0.75, abs=0.01
    )


def test_both_spreads_add_up():
    """Var = Var of units (of the mean over seeds) + Var of seeds (of their rates), by hand; roughly normal."""
    rng = np.random.default_rng(0)
    wrong = rng.random((6, 400)) < np.linspace(0.1, 0.3, 6)[:, None]
    runs = [[Utterance(f"u{u:03d}", "s1", "yes", "no" if bad else "yes") for u, bad in enumerate(row)] for row in wrong]
    compared = compare_seeds([run_of(0, 400)] * 6, runs, MANY)
    of_units, of_seeds = wrong.mean(axis=0).var() / 400, wrong.mean(axis=1).var() / 6
    width = (compared.ci_high - compared.ci_low) / (2 * 1.96)
    assert width == pytest.approx(np.sqrt(of_units + of_seeds), rel=0.12)
    assert width > 1.05 * np.sqrt(of_seeds)


def test_seeds_are_paired_so_that_what_they_share_cancels():
    easy, hard = run_of(10), run_of(50)
    compared = compare_seeds([easy, hard], [easy, hard], MANY)
    assert (compared.comparison.delta_ci_low, compared.comparison.delta_ci_high) == (0.0, 0.0)


def test_a_margin_is_met_or_not_over_seeds():
    first, second = [run_of(20)] * 3, [run_of(21)] * 3
    assert compare_seeds(first, second, MANY, Margin(0.05)).non_inferiority.shown
    spread = [run_of(10), run_of(20), run_of(33)]  # the same mean, but one seed is far worse
    assert not compare_seeds(first, spread, MANY, Margin(0.05)).non_inferiority.shown


@pytest.mark.parametrize(("first", "second"), [([], []), ([run_of(1)], [run_of(1), run_of(2)])])
def test_systems_need_the_same_number_of_runs(first, second):
    with pytest.raises(
        ValueError, match=r"^first and second: got \d runs of full and \d of pruned, allowed is the same"
    ):
        compare_seeds(first, second, MANY, names=("full", "pruned"))


def test_runs_of_other_utterances_are_refused():
    with pytest.raises(ValueError, match="the first system"):
        compare_seeds([run_of(1)], [run_of(1, num_utterances=99)], MANY)
