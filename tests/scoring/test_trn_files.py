"""The files of a decoding: they are read as they were written, and what is damaged is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.trn_files import read_decoded, read_trn, write_decoded, write_trn

names = st.from_regex(r"[^()\s]{1,6}", fullmatch=True).filter(str.isprintable)


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
    with pytest.raises(ValueError, match=r"^id: got 'a b', allowed are names without spaces"):
        Utterance("a b", "s", "x", "x")
    with pytest.raises(ValueError, match=r"^speaker: got '\(s\)'"):
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
        (b"a (s-1)\nb (s-1)\n", r"hyp.trn:2: got the id \(s-1\) a second time, allowed is once"),
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
    message = r"hyp.trn lacks 1 utterances of the other trn file: s-2\. The first is at .*ref.trn:2\."
    with pytest.raises(ValueError, match=message):
        read_decoded(tmp_path)
    write_trn(tmp_path / "hyp.trn", {f"s-{number}": "a" for number in range(1, 8)})
    with pytest.raises(ValueError, match=r"ref.trn lacks 5 utterances .*: s-3, s-4, s-5, \.\.\..*hyp.trn:3\."):
        read_decoded(tmp_path)


def test_utterances_outside_utt2spk_are_named(tmp_path):
    write_decoded(tmp_path, [Utterance("1", "s", "a", "a")])
    write_trn(tmp_path / "ref.trn", {"s-1": "a", "t-2": "b"})
    write_trn(tmp_path / "hyp.trn", {"s-1": "a", "t-2": "b"})
    with pytest.raises(ValueError, match=r"utt2spk does not name 1 utterances of ref.trn: t-2"):
        read_decoded(tmp_path)


def test_durations_come_back_and_old_ones_go(tmp_path):
    utterances = [Utterance("b", "s", "x", "x", 1.25), Utterance("a", "t", "x", "x", 12.34567)]
    write_decoded(tmp_path, utterances)
    assert (tmp_path / "utt2dur").read_text() == "a 12.3457\nb 1.2500\n"
    assert {u.id: u.duration for u in read_decoded(tmp_path)} == {"a": 12.3457, "b": 1.25}
    write_decoded(tmp_path, [Utterance("a", "t", "x", "x")])
    assert [u.duration for u in read_decoded(tmp_path)] == [None]
    with pytest.raises(ValueError, match=r"^duration: got -1 for a, allowed are seconds above 0"):
        Utterance("a", "s", "x", "x", -1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1.5\nb\n", r"utt2dur:2: got 'b', allowed is `utterance seconds`, above 0"),
        ("a 1.5\nb -2\n", r"utt2dur:2: got 'b -2'"),
        ("a 0.0\nb 2\n", r"utt2dur:1: got 'a 0.0'"),
        ("a 1.5\nb nan\n", r"utt2dur:2: got 'b nan'"),
        ("a 1.5\n", r"utt2dur lacks 1 utterances of ref.trn: b\. Decode again"),
    ],
)
def test_damaged_durations_are_named(tmp_path, content, message):
    write_decoded(tmp_path, [Utterance("a", "s", "x", "x", 1.5), Utterance("b", "s", "x", "x", 2)])
    (tmp_path / "utt2dur").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_decoded(tmp_path)
