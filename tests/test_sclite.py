"""Alignment, counts and files in sclite's form."""

import kaldialign
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.sclite import (
    ErrorCounts,
    Utterance,
    align,
    count_errors,
    format_result,
    pooled,
    read_decoded,
    read_trn,
    write_decoded,
    write_trn,
)

words = st.lists(st.sampled_from(["bin", "blue", "at", "f", "two", "now"]), max_size=9)
names = st.from_regex(r"[^()\s]{1,6}", fullmatch=True).filter(str.isprintable)


def levenshtein(reference, hypothesis):
    """The textbook recursion, row by row."""
    row = list(range(len(hypothesis) + 1))
    for i, ref in enumerate(reference, start=1):
        previous, row = row, [i]
        for j, hyp in enumerate(hypothesis, start=1):
            row.append(min(previous[j - 1] + (ref != hyp), previous[j] + 1, row[j - 1] + 1))
    return row[-1]


@given(words, words)
@settings(deadline=None)
def test_counts_are_minimal_and_add_up(reference, hypothesis):
    alignment = align(reference, hypothesis)
    counts = count_errors(alignment)
    assert counts.errors == levenshtein(reference, hypothesis)
    assert counts.correct + counts.substitutions + counts.deletions == counts.reference_length == len(reference)
    assert counts.correct + counts.substitutions + counts.insertions == len(hypothesis)
    assert [ref for ref, _ in alignment if ref] == reference
    assert [hyp for _, hyp in alignment if hyp] == hypothesis


@given(words, words)
@settings(deadline=None)
def test_counts_agree_with_kaldialign(reference, hypothesis):
    counts, expected = count_errors(align(reference, hypothesis)), kaldialign.edit_distance(reference, hypothesis)
    assert (counts.insertions, counts.deletions, counts.substitutions) == (
        expected["ins"],
        expected["del"],
        expected["sub"],
    )


@given(words)
def test_identical_texts_have_no_errors(text):
    utterance = Utterance("u", "s", " ".join(text), "  ".join(text))
    assert utterance.word_errors == ErrorCounts(reference_length=len(text))
    assert utterance.character_errors == ErrorCounts(reference_length=len(" ".join(text)))


def test_space_is_a_character():
    assert Utterance("u", "s", "a b", "ab").character_errors == ErrorCounts(deletions=1, reference_length=3)


def test_empty_sides():
    assert Utterance("u", "s", "", "").word_errors.rate == 0
    assert Utterance("u", "s", "", "a b").word_errors.rate == 2
    assert Utterance("u", "s", "a b", "").word_errors == ErrorCounts(deletions=2, reference_length=2)


def test_pooled_rate_is_not_the_mean_of_rates():
    counts = [ErrorCounts(substitutions=1, reference_length=1), ErrorCounts(reference_length=9)]
    assert pooled(counts).rate == pytest.approx(0.1)
    assert sum(c.rate for c in counts) / 2 == 0.5


@given(st.dictionaries(names, st.text(), max_size=6))
@settings(deadline=None)
def test_trn_round_trip(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("trn") / "hyp.trn"
    write_trn(path, texts)
    assert read_trn(path) == {key: " ".join(text.split()) for key, text in texts.items()}


@given(st.dictionaries(names, st.tuples(names, st.text(max_size=9), st.text(max_size=9)), max_size=5))
@settings(deadline=None)
def test_decoded_round_trip(tmp_path_factory, values):
    utterances = [Utterance(key, *rest) for key, rest in values.items()]
    if len({u.trn_id for u in utterances}) < len(utterances):
        return  # a-b of speaker c and b of speaker c-a: refused, see below
    folder = tmp_path_factory.mktemp("decoded")
    write_decoded(folder, utterances)
    read = {u.id: u for u in read_decoded(folder)}
    assert read.keys() == values.keys()
    for u in utterances:
        assert read[u.id].speaker == u.speaker
        assert read[u.id].reference.split() == u.reference.split()
        assert read[u.id].hypothesis.split() == u.hypothesis.split()


def test_ids_that_would_be_mixed_up_are_refused(tmp_path):
    same_trn_id = [Utterance("a-b", "c", "x", "x"), Utterance("b", "c-a", "x", "x")]
    with pytest.raises(ValueError, match="Give each its own id"):
        write_decoded(tmp_path, same_trn_id)
    with pytest.raises(ValueError, match=r"Utterance id 'a b': allowed are names without spaces"):
        Utterance("a b", "s", "x", "x")
    with pytest.raises(ValueError, match=r"Speaker '\(s\)'"):
        Utterance("a", "(s)", "x", "x")


def test_reads_what_espnet_writes(tmp_path):
    """Ids of LibriSpeech: the speaker, then the id that starts with the speaker; no utt2spk."""
    for name in ("ref.trn", "hyp.trn"):
        (tmp_path / name).write_text("he hoped\t(1089-1089-134686-0000)\n\n(61-61-70968-0000)\n")
    one, two = read_decoded(tmp_path)
    assert (one.id, one.speaker, one.reference) == ("1089-1089-134686-0000", "1089", "he hoped")
    assert (two.speaker, two.hypothesis) == ("61", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a (s-1)\nb (s-1)\n", r"hyp.trn:2: the id \(s-1\) stands here a second time"),
        (b"a (s-1)\n\nb c\n", r"hyp.trn:3: no utterance id at the end of 'b c'.*`words \(speaker-id\)`"),
        (b"a b(s-1)\n", r"hyp.trn:1: no utterance id"),
        (b"a (s-1)\nb\xff (s-2)\n", r"hyp.trn:2: not UTF-8"),
    ],
)
def test_damaged_trn_lines_are_named(tmp_path, content, message):
    (tmp_path / "hyp.trn").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_trn(tmp_path / "hyp.trn")


def test_missing_files_and_utterances_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"No .*ref.trn. Run `asrsparse decode`"):
        read_decoded(tmp_path)
    write_trn(tmp_path / "ref.trn", {"s-1": "a", "s-2": "b"})
    write_trn(tmp_path / "hyp.trn", {"s-1": "a"})
    with pytest.raises(ValueError, match=r"hyp.trn lacks 1 utterances of the other trn file: s-2"):
        read_decoded(tmp_path)
    write_trn(tmp_path / "hyp.trn", {f"s-{number}": "a" for number in range(1, 8)})
    with pytest.raises(ValueError, match=r"ref.trn lacks 5 utterances .*: s-3, s-4, s-5, \.\.\."):
        read_decoded(tmp_path)


def test_utterances_outside_utt2spk_are_named(tmp_path):
    write_decoded(tmp_path, [Utterance("1", "s", "a", "a")])
    write_trn(tmp_path / "ref.trn", {"s-1": "a", "t-2": "b"})
    write_trn(tmp_path / "hyp.trn", {"s-1": "a", "t-2": "b"})
    with pytest.raises(ValueError, match=r"utt2spk does not name 1 utterances of ref.trn: t-2"):
        read_decoded(tmp_path)


def test_result_has_the_shape_of_sclite():
    utterances = [
        Utterance("s1-a", "s1", "set white at", "set red at now"),
        Utterance("s2-b", "s2", "bin blue", "bin"),
        Utterance("s2-c", "s2", "now", "now"),
    ]
    lines = format_result(utterances, "decode_test/hyp.trn").splitlines()
    assert "| SPKR    | # Snt  # Wrd | Corr    Sub    Del    Ins    Err  S.Err |" in lines
    assert "| s2      |     2      3 | 66.7    0.0   33.3    0.0   33.3   50.0 |" in lines
    assert "| Sum/Avg |     3      6 | 66.7   16.7   16.7   16.7   50.0   66.7 |" in lines
    start = lines.index("id: (s1-s1-a)")
    assert lines[start - 1 : start + 5] == [
        "Speaker sentences   0:  s1   #utts: 1",
        "id: (s1-s1-a)",
        "Scores: (#C #S #D #I) 2 1 0 1",
        "REF:  set white at ***",
        "HYP:  set red   at now",
        "Eval:     S        I  ",
    ]
