"""Error rates with their intervals, and the files that hold them."""

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
from decoded import VOCABULARY, decoded

from asrsparse.data.tokenizer import CharTokenizer, SentencePieceTokenizer
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, compare
from asrsparse.scoring.normalisers import NONE, load_normaliser
from asrsparse.scoring.score import is_scored, read_scored, score, score_tokens, score_utterances
from asrsparse.scoring.trn_files import write_decoded

FEW = Bootstrap(resamples=500)


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


def test_score_writes_what_it_returns(tmp_path):
    utterances = decoded(0.2)
    write_decoded(tmp_path, utterances)
    scores = score(tmp_path, FEW)
    assert scores == json.loads((tmp_path / "score.json").read_text())
    assert score_utterances(utterances, FEW).items() <= scores.items()
    assert scores["normaliser"] == {"name": "none", "version": 1}
    assert scores["bootstrap"] == {"resamples": 500, "seed": 0, "unit": "utterance"}
    assert [scores[key] for key in ("tokenizer", "ter", "ter_ci_low", "ter_ci_high", "tokens")] == [None] * 5
    read = read_scored(tmp_path)
    assert (read.folder, read.scores, read.bootstrap) == (tmp_path, scores, FEW)
    assert read.utterances == [replace(u, duration=round(u.duration, 4)) for u in utterances]
    total = next(line for line in (tmp_path / "result.txt").read_text().splitlines() if "Sum/Avg" in line)
    assert f"{100 * scores['wer']:.1f}" in total.split()
    assert str(scores["words"]) in total.split()


def test_texts_are_normalised_for_scoring_and_stay_as_decoded(tmp_path):
    loud = [replace(u, hypothesis=f"{u.hypothesis.upper()}.") for u in decoded(0.1)]
    write_decoded(tmp_path, loud)
    trn = [(tmp_path / name).read_bytes() for name in ("ref.trn", "hyp.trn")]
    as_is, lower = score(tmp_path, FEW), score(tmp_path, FEW, load_normaliser("lower_no_punctuation"))
    assert as_is["wer"] > 0.99
    assert lower["wer"] == score_utterances(decoded(0.1), FEW)["wer"]
    assert lower["normaliser"] == {"name": "lower_no_punctuation", "version": 1}
    assert [(tmp_path / name).read_bytes() for name in ("ref.trn", "hyp.trn")] == trn
    result = (tmp_path / "result.txt").read_text()
    assert "lower_no_punctuation" in result
    assert "BLUE" not in result
    assert read_scored(tmp_path).scores == lower


def test_tokens_of_characters_are_the_characters():
    utterances, tokenizer = decoded(0.2), CharTokenizer.train([*VOCABULARY, "x y"])
    tokens, scores = score_tokens(utterances, tokenizer, FEW), score_utterances(utterances, FEW)
    assert (tokens["ter"], tokens["tokens"]) == (scores["cer"], scores["characters"])
    assert (tokens["ter_ci_low"], tokens["ter_ci_high"]) == (scores["cer_ci_low"], scores["cer_ci_high"])


def test_tokens_are_those_of_the_text_as_decoded(tmp_path):
    utterances = [replace(u, reference=u.reference.upper(), hypothesis=u.hypothesis.upper()) for u in decoded(0.2)]
    tokenizer = SentencePieceTokenizer.train([u.reference for u in utterances], vocab_size=20)
    write_decoded(tmp_path, utterances)
    scores = score(tmp_path, FEW, load_normaliser("lower_no_punctuation"), tokenizer)
    assert scores["tokens"] == sum(len(tokenizer.encode(u.reference)) for u in utterances)
    assert 0 < scores["ter_ci_low"] < scores["ter"] < scores["ter_ci_high"]
    assert (scores["tokenizer"]["kind"], scores["tokenizer"]["vocab_size"]) == ("SentencePieceTokenizer", 20)


def test_worst_utterances_come_first_with_their_alignment(tmp_path):
    write_decoded(tmp_path, decoded(0.3))
    scores = score(tmp_path, FEW)
    text = (tmp_path / "worst.txt").read_text()
    wrong = sorted((u.word_errors.errors for u in decoded(0.3) if u.word_errors.errors), reverse=True)
    assert text.startswith(f"{min(100, len(wrong))} of the {len(wrong)} utterances with errors")
    ranked = [int(line.split(", ")[1].split()[0]) for line in text.splitlines() if "speaker" in line]
    assert ranked == wrong[:100]
    worst = max(decoded(0.3), key=lambda u: u.word_errors.errors)
    first = text.split("\n\n")[1]
    assert f"id: ({worst.trn_id})\n" in first
    assert f"{worst.duration:.2f} s" in first
    assert first.count("\n") == 5
    assert sum(wrong) == scores["insertions"] + scores["deletions"] + scores["substitutions"]


def test_no_errors_are_no_worst_utterances(tmp_path):
    write_decoded(tmp_path, decoded(0.0))
    score(tmp_path, FEW)
    assert (tmp_path / "worst.txt").read_text() == "0 of the 0 utterances with errors, the worst first; 0 errors\n"


def test_what_is_scored_is_scored_again_with_other_settings_alone(tmp_path):
    tokenizer, lower = CharTokenizer.train(VOCABULARY), load_normaliser("lower_no_punctuation")
    assert not is_scored(tmp_path, FEW, NONE, None)
    write_decoded(tmp_path, decoded(0.1))
    assert not is_scored(tmp_path, FEW, NONE, None)
    score(tmp_path, FEW, NONE, tokenizer)
    assert is_scored(tmp_path, FEW, NONE, tokenizer)
    for other in (
        (Bootstrap(500, seed=1), NONE, tokenizer),
        (Bootstrap(501), NONE, tokenizer),
        (Bootstrap(500, unit="speaker"), NONE, tokenizer),
        (FEW, lower, tokenizer),
        (FEW, NONE, None),
        (FEW, NONE, CharTokenizer.train(VOCABULARY[1:])),
    ):
        assert not is_scored(tmp_path, *other)
        score(tmp_path, *other)
        assert is_scored(tmp_path, *other)


def test_what_has_changed_or_is_missing_is_scored_again(tmp_path):
    write_decoded(tmp_path, decoded(0.1))
    score(tmp_path, FEW)
    later = (tmp_path / "score.json").stat().st_mtime + 10
    for name in ("ref.trn", "hyp.trn", "utt2spk"):
        os.utime(tmp_path / name, (later, later))
        assert not is_scored(tmp_path, FEW, NONE, None)
        os.utime(tmp_path / name, (0, 0))
    for name in ("worst.txt", "result.txt", "score.json"):
        assert is_scored(tmp_path, FEW, NONE, None)
        (tmp_path / name).unlink()
        assert not is_scored(tmp_path, FEW, NONE, None)
        score(tmp_path, FEW)


def test_references_without_words_are_refused(tmp_path):
    write_decoded(tmp_path, [Utterance("a", "s", "", "x")])
    with pytest.raises(ValueError, match=r"ref.trn: 1 utterances without a word in the references"):
        score(tmp_path)
    assert not (tmp_path / "score.json").exists()
    with pytest.raises(ValueError, match="0 utterances without a word"):
        score_utterances([])
