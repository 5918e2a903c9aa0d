"""Normalisers: what they change, that they are stable, and that their names and versions are kept."""

import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.normalisers import (
    NONE,
    load_normaliser,
    lower_no_punctuation,
    normalised,
    recorded_normaliser,
)

UTTERANCES = [Utterance("a", "s", "Don't, he SAID.", "don't he said", 1.5), Utterance("b", "s", "X", "Y")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SET WHITE AT B TWO NOW", "set white at b two now"),
        ("the dogs' bowl, 'tis o'clock -- it’s “fine”…", "the dogs bowl tis o'clock it's fine"),
        ("well-known A/B test; 50 % (or $5)", "well known a b test 50 or 5"),
        ("ÉTÉ à Zürich, «Straße»!", "été à zürich straße"),
        ("Ещё раз? Да!", "ещё раз да"),
        ("「はい」、そうです。", "はい そうです"),
        ("हिन्दी में।", "हिन्दी में"),
        ("ﬁne Ｆｕｌｌ", "fine full"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("'' ' - ...", ""),
        ("  two\tspaces\n", "two spaces"),
        ("", ""),
    ],
)
def test_case_and_punctuation_go_and_letters_of_every_script_stay(text, expected):
    assert lower_no_punctuation(text) == expected


@given(st.text())
@settings(deadline=None)
def test_a_second_time_changes_nothing(text):
    once = lower_no_punctuation(text)
    assert lower_no_punctuation(once) == once
    assert once == " ".join(once.split())


def test_none_changes_nothing():
    assert load_normaliser("none") == NONE
    assert NONE.apply(" A, b ") == " A, b "
    assert normalised(UTTERANCES, NONE) == UTTERANCES


def test_both_sides_are_normalised_and_the_rest_stays():
    changed = normalised(UTTERANCES, load_normaliser("lower_no_punctuation"))
    assert [u.word_errors.errors for u in UTTERANCES] == [2, 1]
    assert [u.word_errors.errors for u in changed] == [0, 1]
    assert [(u.id, u.speaker, u.duration) for u in changed] == [(u.id, u.speaker, u.duration) for u in UTTERANCES]


def test_whispers_normaliser_is_the_librarys_with_its_version():
    metadata = pytest.importorskip("importlib.metadata")
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed")
    normaliser = load_normaliser("whisper_english")
    assert normaliser.record == {
        "name": "whisper_english",
        "version": f"whisper-normalizer {metadata.version('whisper-normalizer')}",
    }
    text = normaliser.apply("Um, Mr. Smith's colour cost twenty-one dollars, didn't it?")
    assert " ".join(text.split()) == "mister smith is color cost $21 did not it"


def test_a_missing_library_and_an_unknown_name_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(ValueError, match=r"whisper_english needs the library whisper-normalizer.*\[recipes\]"):
        load_normaliser("whisper_english")
    with pytest.raises(ValueError, match=r"got 'lower', allowed are none, lower_no_punctuation, whisper_english"):
        load_normaliser("lower")


def test_a_record_names_the_rule_only_while_the_rule_is_the_same():
    for name in ("none", "lower_no_punctuation"):
        assert recorded_normaliser(load_normaliser(name).record) == load_normaliser(name)
    older = replace(NONE, version=0).record
    with pytest.raises(
        ValueError, match=r"none was of version 0 when this was scored, here it is 1\. Run `asrsparse s"
    ):
        recorded_normaliser(older)
