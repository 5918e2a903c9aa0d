"""Error rates with their intervals, and paired comparisons."""

import json
import random

import numpy as np
import pytest

from asrsparse.sclite import ErrorCounts, Utterance, pooled, write_decoded
from asrsparse.score import Bootstrap, Comparison, compare, score, score_utterances

FEW = Bootstrap(resamples=500)


def decoded(error_rate, num_utterances=120, seed=0):
    """Utterances of four speakers; their references do not depend on the error rate or the seed."""
    texts, errors = random.Random(7), random.Random(seed)
    vocabulary = ["bin", "blue", "at", "f", "two", "now"]
    utterances = []
    for number in range(num_utterances):
        reference = texts.choices(vocabulary, k=texts.randint(1, 12))
        hypothesis = [
            errors.choice(["", "x", f"{word} y"]) if errors.random() < error_rate else word for word in reference
        ]
        utterances.append(Utterance(f"{number:03d}", f"s{number % 4}", " ".join(reference), " ".join(hypothesis)))
    return utterances


def test_numbers_add_up():
    utterances = decoded(0.2)
    scores = score_utterances(utterances, FEW)
    errors = scores["insertions"] + scores["deletions"] + scores["substitutions"]
    assert scores["wer"] == errors / scores["words"]
    assert scores["words"] == sum(len(u.reference.split()) for u in utterances)
    assert scores["characters"] == sum(len(u.reference) for u in utterances)
    assert scores["ci_low"] < scores["wer"] < scores["ci_high"]
    assert scores["cer_ci_low"] < scores["cer"] < scores["cer_ci_high"]
    assert scores["sentence_error_rate"] == sum(u.word_errors.errors > 0 for u in utterances) / len(utterances)
    assert (scores["utterances"], scores["speakers"]) == (120, 4)
    assert scores["normaliser"] == {"name": "none", "version": 1}
    assert scores["bootstrap"] == {"resamples": 500, "seed": 0, "unit": "utterance"}


def test_identical_texts_score_zero():
    scores = score_utterances(decoded(0.0), FEW)
    rates = ("wer", "ci_low", "ci_high", "cer", "cer_ci_low", "cer_ci_high", "sentence_error_rate")
    assert [scores[key] for key in rates] == [0.0] * 7


def test_order_of_utterances_does_not_matter():
    utterances = decoded(0.3)
    shuffled = random.Random(1).sample(utterances, len(utterances))
    assert score_utterances(utterances, FEW) == score_utterances(shuffled, FEW)
    assert compare(utterances, decoded(0.2), FEW) == compare(shuffled, decoded(0.2), FEW)


def test_many_insertions_exceed_one():
    assert score_utterances([Utterance("a", "s", "one", "one two three four")], FEW)["wer"] == 3.0


def test_empty_references_count_their_insertions():
    utterances = [Utterance("a", "s", "", "noise"), Utterance("b", "s", "set white", "set white")]
    scores = score_utterances(utterances, FEW)
    assert scores["wer"] == 0.5
    assert np.isfinite([scores["ci_low"], scores["ci_high"], scores["cer_ci_high"]]).all()


def test_bootstrap_is_deterministic_and_follows_its_seed():
    utterances = decoded(0.2)
    assert score_utterances(utterances, FEW) == score_utterances(utterances, FEW)
    other = score_utterances(utterances, Bootstrap(resamples=500, seed=1))
    assert other["ci_low"] != score_utterances(utterances, FEW)["ci_low"]


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
    assert score_utterances(decoded(0.2), Bootstrap(500, unit="speaker"))["bootstrap"]["unit"] == "speaker"


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


def test_different_test_sets_are_refused():
    one = decoded(0.1, num_utterances=8)
    with pytest.raises(ValueError, match=r"2 only in base \(006, 007\) and 1 only in new \(000\)"):
        compare(one[1:], one[:6], FEW, names=("base", "new"))
    with pytest.raises(ValueError, match=r"utterances differ, 1 only in the second system \(000\)"):
        compare(one[1:], one, FEW)
    other = Utterance("000", "s0", "another text", "another text")
    with pytest.raises(ValueError, match=r"the reference or the speaker of 1 utterances differs \(000\)"):
        compare(one, [other, *one[1:]], FEW)


def test_score_writes_what_it_returns(tmp_path):
    utterances = decoded(0.2)
    write_decoded(tmp_path, utterances)
    scores = score(tmp_path, FEW)
    assert scores == json.loads((tmp_path / "score.json").read_text()) == score_utterances(utterances, FEW)
    total = next(line for line in (tmp_path / "result.txt").read_text().splitlines() if "Sum/Avg" in line)
    assert f"{100 * scores['wer']:.1f}" in total.split()
    assert str(scores["words"]) in total.split()


def test_no_words_and_bad_settings_are_refused(tmp_path):
    write_decoded(tmp_path, [Utterance("a", "s", "", "x")])
    with pytest.raises(ValueError, match=r"ref.trn: 1 utterances without a word in the references"):
        score(tmp_path)
    assert not (tmp_path / "score.json").exists()
    with pytest.raises(ValueError, match="0 utterances without a word"):
        score_utterances([])
    with pytest.raises(ValueError, match="resamples: got 0, allowed are 1 and more"):
        Bootstrap(resamples=0)
    with pytest.raises(ValueError, match="seed: got -1, allowed are 0 and more"):
        Bootstrap(seed=-1)
    with pytest.raises(ValueError, match="unit: got 'word', allowed are 'utterance' and 'speaker'"):
        Bootstrap(unit="word")


def test_counts_of_nothing():
    assert pooled([]) == ErrorCounts()
