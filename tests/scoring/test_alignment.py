"""Alignments with the fewest errors, and the counts of errors in them."""

import random
from collections import Counter

import jiwer
import kaldialign
import pytest
from decoded import random_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.scoring.alignment import ErrorCounts, Utterance, align, count_errors, pooled

words = st.lists(st.sampled_from(["bin", "blue", "at", "f", "two", "now"]), max_size=9)


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


def test_counts_of_nothing():
    assert pooled([]) == ErrorCounts()
