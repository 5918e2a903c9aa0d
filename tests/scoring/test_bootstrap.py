"""Intervals by the bootstrap, and paired comparisons."""

import numpy as np
import pytest
from decoded import decoded

from asrsparse.scoring.alignment import Utterance, pooled
from asrsparse.scoring.bootstrap import Bootstrap, Comparison, compare
from asrsparse.scoring.score import score_utterances

FEW = Bootstrap(resamples=500)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"^resamples: got 0, allowed are 1 and more"):
        Bootstrap(resamples=0)
    with pytest.raises(ValueError, match=r"^seed: got -1, allowed are 0 and more"):
        Bootstrap(seed=-1)
    with pytest.raises(ValueError, match=r"^unit: got 'word', allowed are 'utterance' and 'speaker'"):
        Bootstrap(unit="word")


def test_interval_agrees_with_the_binomial():
    """One word each and independent errors: the bootstrap's spread is sqrt(p (1 - p) / n)."""
    counts = np.array([(1, 1)] * 100 + [(0, 1)] * 400)
    rates = np.divide(*Bootstrap(resamples=20_000).draw(counts).T)
    assert rates.mean() == pytest.approx(0.2, abs=1e-3)
    assert rates.std() == pytest.approx(np.sqrt(0.2 * 0.8 / 500), rel=0.03)


def test_interval_covers_the_true_rate():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        errors = rng.binomial(1, 0.3, size=100)
        draws = Bootstrap(resamples=400, seed=trial).draw(np.stack([errors, np.ones_like(errors)], axis=1))
        low, high = np.quantile(draws[:, 0] / draws[:, 1], (0.025, 0.975))
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_draws_in_several_pieces_are_whole():
    counts = np.ones((3_000, 1), dtype=np.int64)  # 349 resamples fit into one piece
    assert (Bootstrap(resamples=1_000).draw(counts) == 3_000).all()
    assert Bootstrap(resamples=1_000).draw(counts).shape == (1_000, 1)


def test_speakers_are_drawn_whole():
    counts = np.array([(1, 2), (3, 4), (5, 6)])
    utterances = [Utterance(key, speaker, "", "") for key, speaker in (("a", "s2"), ("b", "s1"), ("c", "s2"))]
    assert Bootstrap(unit="speaker").by_unit(counts, utterances).tolist() == [[3, 4], [6, 8]]
    with pytest.raises(ValueError, match=r"got 1 speaker \(s2\), allowed are 2 and more"):
        Bootstrap(unit="speaker").by_unit(counts[:1], utterances[:1])
    by_speaker = score_utterances(decoded(0.2), Bootstrap(500, unit="speaker"))
    assert by_speaker["wer"] == score_utterances(decoded(0.2), FEW)["wer"]
    assert by_speaker["ci_low"] != score_utterances(decoded(0.2), FEW)["ci_low"]


def test_a_system_compared_with_itself_differs_by_exactly_nothing():
    assert compare(decoded(0.2), decoded(0.2), FEW) == Comparison(0.0, 0.0, 0.0, 0.0)


def test_comparison_has_the_difference_of_the_rates_and_turns_with_the_order():
    worse, better = decoded(0.3, seed=1), decoded(0.1, seed=2)
    comparison, turned = compare(worse, better, FEW), compare(better, worse, FEW)
    rates = [pooled(u.word_errors for u in system).rate for system in (worse, better)]
    assert comparison.delta_wer == pytest.approx(rates[1] - rates[0])
    assert comparison.delta_ci_low < comparison.delta_wer < comparison.delta_ci_high < 0
    assert comparison.p_better == 1.0
    assert turned.delta_wer == -comparison.delta_wer
    assert turned.p_better == 0.0
    assert turned.delta_ci_low == pytest.approx(-comparison.delta_ci_high)


def test_pairing_narrows_the_interval():
    """The second system repairs one utterance in ten of the first: what both share must cancel."""
    first = decoded(0.3)
    second = [u if i % 10 else Utterance(u.id, u.speaker, u.reference, u.reference) for i, u in enumerate(first)]
    comparison, alone = compare(first, second, FEW), score_utterances(first, FEW)
    assert comparison.delta_ci_high - comparison.delta_ci_low < 0.7 * (alone["ci_high"] - alone["ci_low"])


def test_bootstrap_is_deterministic_and_follows_its_seed():
    utterances = decoded(0.2)
    assert score_utterances(utterances, FEW) == score_utterances(utterances, FEW)
    other = score_utterances(utterances, Bootstrap(resamples=500, seed=1))
    assert other["ci_low"] != score_utterances(utterances, FEW)["ci_low"]
