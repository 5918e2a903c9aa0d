"""Alignment, counts and files in sclite's form."""

import random
import re
from collections import Counter

import jiwer
import kaldialign
import pytest
from decoded import VOCABULARY, decoded, needs_sctk, sctk
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.scoring.alignment import ErrorCounts, Utterance, align, count_errors, pooled
from asrsparse.scoring.sclite import format_result
from asrsparse.scoring.trn_files import read_decoded, read_trn, write_decoded, write_trn

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


def random_pair(rng, kind):
    """A reference and a hypothesis of one kind."""
    vocabulary = [f"w{number}" for number in range(rng.choice([2, 5, 20, 1000]))]
    reference = rng.choices(vocabulary, k=rng.randint(200, 600) if kind == "long" else rng.randint(1, 25))
    other = rng.choices(vocabulary, k=rng.randint(1, 25))
    share = rng.choice([0.02, 0.1, 0.3, 0.6])
    noisy = " ".join(
        rng.choice(["", "x", f"{word} y", rng.choice(vocabulary)]) if rng.random() < share else word
        for word in reference
    )
    return {
        "equal": (reference, list(reference)),
        "empty": ([], []),
        "no reference": ([], other),
        "no hypothesis": (reference, []),
        "disjoint": (reference, [f"x{word}" for word in other]),
        "unrelated": (reference, other),
    }.get(kind, (reference, noisy.split()))


def test_ten_thousand_pairs_of_every_kind_agree_with_kaldialign_and_jiwer():
    """With kaldialign in insertions, deletions, substitutions; with jiwer in their sum: it may choose another of the

    alignments with the fewest errors, in which two substitutions are an insertion and a deletion.
    """
    rng = random.Random(0)
    kinds = ("equal", "empty", "no reference", "no hypothesis", "disjoint", "unrelated", "noisy", "noisy", "noisy")
    pairs = [random_pair(rng, "long" if number % 100 == 0 else kinds[number % 9]) for number in range(10_000)]
    ours = [count_errors(align(*pair)) for pair in pairs]
    theirs = [kaldialign.edit_distance(*pair) for pair in pairs]
    expected = [(d["ins"], d["del"], d["sub"], d["total"]) for d in theirs]
    assert [(c.insertions, c.deletions, c.substitutions, c.errors) for c in ours] == expected
    words = jiwer.process_words(*([" ".join(pair[side]) for pair in pairs] for side in (0, 1)))
    assert [c.errors for c in ours] == [errors_of_jiwer(chunks) for chunks in words.alignments]
    assert pooled(ours).errors == words.insertions + words.deletions + words.substitutions
    assert pooled(ours).rate == pytest.approx(words.wer)


def errors_of_jiwer(chunks):
    sizes = Counter()
    for chunk in chunks:
        length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        sizes[chunk.type] += length
    return sizes["insert"] + sizes["delete"] + sizes["substitute"]


def sclite_scores(folder, utterances):
    """sclite's (correct, substitutions, deletions, insertions) by trn id, and the numbers of its line Sum/Avg."""
    write_decoded(folder, utterances)
    command = "sclite -s -e utf-8 -i rm -r ref.trn trn -h hyp.trn trn -o pralign sum stdout"
    printed = sctk(folder, command)
    found = re.findall(r"id: \((\S+)\)\nScores: \(#C #S #D #I\) ([\d ]+)", printed)
    total = next(line for line in printed.splitlines() if "Sum/Avg" in line)
    return {key: tuple(map(int, numbers.split())) for key, numbers in found}, re.findall(r"[\d.]+", total)


def our_scores(utterances):
    counts = {u.trn_id: u.word_errors for u in utterances}
    return {key: (c.correct, c.substitutions, c.deletions, c.insertions) for key, c in counts.items()}


@needs_sctk
@pytest.mark.parametrize("error_rate", [0.0, 0.05, 0.2])
def test_result_has_the_numbers_of_sclite(tmp_path, error_rate):
    utterances = decoded(error_rate, 400, vocabulary=[*VOCABULARY, "Blue", "été", "o'clock", "well-known"])
    utterances = [u for u in utterances if u.reference and u.hypothesis]
    theirs, total = sclite_scores(tmp_path, utterances)
    assert our_scores(utterances) == theirs
    ours = next(line for line in format_result(utterances, "x").splitlines() if "Sum/Avg" in line)
    assert re.findall(r"[\d.]+", ours) == total


@needs_sctk
def test_where_sclite_finds_more_errors_its_own_weights_are_why(tmp_path):
    """At absurd error rates. sclite weighs 4/3/3: never fewer errors than ours, and never a greater weight."""
    rng = random.Random(3)
    pairs = [random_pair(rng, "unrelated") for _ in range(400)]
    utterances = [Utterance(f"{i:03d}", "s", " ".join(r), " ".join(h)) for i, (r, h) in enumerate(pairs)]
    theirs, _ = sclite_scores(tmp_path, utterances)
    differing = 0
    for key, (correct, *ours) in our_scores(utterances).items():
        others = theirs[key][1:]
        assert correct + ours[0] + ours[1] == sum(theirs[key][:3])  # words of the reference
        assert sum(ours) <= sum(others)
        assert 4 * ours[0] + 3 * (ours[1] + ours[2]) >= 4 * others[0] + 3 * (others[1] + others[2])
        differing += sum(ours) != sum(others)
    assert differing < 0.2 * len(utterances)


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
    message = r"hyp.trn lacks 1 utterances of the other trn file: s-2\. The first stands at .*ref.trn:2\."
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
    with pytest.raises(ValueError, match=r"Duration of a: got -1, allowed are seconds above 0"):
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
