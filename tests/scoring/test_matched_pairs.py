"""The matched-pairs test: stretches by hand, symmetry, and sc_stats' own numbers."""

import math
import re

import numpy as np
import pytest
from decoded import decoded, needs_sctk, sctk
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.scoring.alignment import Utterance, align, count_errors
from asrsparse.scoring.matched_pairs import matched_pairs, stretches
from asrsparse.scoring.trn_files import write_trn

words = st.lists(st.sampled_from("abc"), max_size=8)


def of(reference, *hypotheses):
    """The stretches of two hypotheses; capital letters are right words."""
    return stretches(*(align(reference.split(), hypothesis.split()) for hypothesis in hypotheses))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("A B C D E F", "A B C D E F", []),
        ("x B C D E F", "A B C D E F", [(1, 0)]),
        ("A B C D E x", "A B C D E F", [(1, 0)]),
        ("x B C D E x", "A B C D E F", [(1, 0), (1, 0)]),  # two right words and more part them
        ("x B C y E F", "A B C D E F", [(1, 0), (1, 0)]),
        ("x B y D E F", "A B C D E F", [(2, 0)]),  # one does not
        ("x B C y E F", "A x C D E F", [(2, 1)]),  # right in both, or it does not count
        ("A x B C D E F", "A B C D E F", [(1, 0)]),
        ("x B i C D E F", "A B C D E F", [(2, 0)]),  # what is inserted parts two right words
        ("x B C i D E F", "A B C D E F", [(1, 0), (1, 0)]),
        ("A B C D E F", "A B C D E F i", [(0, 1)]),
        ("A B C D E F i", "A B C D E F", [(1, 0)]),
        ("", "A B C D E F", [(6, 0)]),
    ],
)
def test_two_words_right_in_both_systems_part_stretches(first, second, expected):
    assert of("A B C D E F", first, second) == expected
    assert of("A B C D E F", second, first) == [(two, one) for one, two in expected]


def test_an_empty_reference_is_one_stretch_or_none():
    assert of("", "i j", "k") == [(2, 1)]
    assert of("", "", "") == []


@given(words, words, words)
def test_no_error_is_lost(reference, first, second):
    alignments = align(reference, first), align(reference, second)
    found = stretches(*alignments)
    assert all(one or two for one, two in found)
    assert np.sum(found or [(0, 0)], axis=0).tolist() == [count_errors(alignment).errors for alignment in alignments]


def test_systems_that_change_places_turn_the_sign():
    worse, better = decoded(0.3, seed=1), decoded(0.1, seed=2)
    there, back = matched_pairs(worse, better), matched_pairs(better, worse)
    assert there.mean < 0
    assert (there.stretches, there.mean, there.std, there.z) == (back.stretches, -back.mean, back.std, -back.z)
    assert there.p == back.p < 0.001


def test_equal_systems_differ_by_nothing():
    same = matched_pairs(decoded(0.2), decoded(0.2))
    assert (same.mean, same.std, same.z, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert matched_pairs([], []).p == 1.0


def test_too_few_stretches_show_nothing():
    one = [Utterance("a", "s", "a b", "a x")], [Utterance("a", "s", "a b", "a b")]
    assert (matched_pairs(*one).stretches, matched_pairs(*one).mean, matched_pairs(*one).p) == (1, -1.0, 1.0)
    two = [[pair[0], Utterance("b", "s", "a b", pair[0].hypothesis)] for pair in one]
    assert (matched_pairs(*two).z, matched_pairs(*two).p) == (-math.inf, 0.0)


def test_p_is_as_often_small_as_it_says_when_systems_are_equally_good():
    rng = np.random.default_rng(0)
    trials = [matched_pairs(*(decoded(0.1, seed=int(s)) for s in rng.integers(2**31, size=2))).p for _ in range(200)]
    assert 0.02 <= np.mean(np.array(trials) < 0.05) <= 0.09


@needs_sctk
def test_sc_stats_has_the_same_stretches_mean_and_z(tmp_path):
    """Each text ends with a word that both systems have right: sc_stats overlooks what one inserts behind the last."""
    many = [f"w{number}" for number in range(1000)]  # few words are alike, so there is one best alignment
    systems = {"one": decoded(0.15, 300, 1, many), "two": decoded(0.1, 300, 2, many)}
    systems = {
        name: [Utterance(u.id, u.speaker, f"{u.reference} end", f"{u.hypothesis} end") for u in utterances]
        for name, utterances in systems.items()
    }
    write_trn(tmp_path / "ref.trn", {u.trn_id: u.reference for u in systems["one"]})
    aligned = ""
    for name, utterances in systems.items():
        write_trn(tmp_path / name, {u.trn_id: u.hypothesis for u in utterances})
        aligned += sctk(tmp_path, f"sclite -s -i rm -r ref.trn trn -h {name} trn {name} -f 0 -o sgml stdout")
    printed = sctk(tmp_path, "sc_stats -p -t mapsswe -v -n -", stdin=aligned)
    numbers = re.search(
        r"# segs: (\d+)\).*\(mean: +(\S+)\) \(std dev: +(\S+)\) \(Z Stat: +(\S+)\) \(Stat Diff: (\w+)\)", printed
    )
    ours = matched_pairs(systems["one"], systems["two"])
    assert int(numbers[1]) == ours.stretches
    # sc_stats takes first minus second
    assert [float(number) for number in numbers.group(2, 3, 4)] == pytest.approx(
        [-ours.mean, ours.std, -ours.z], abs=6e-4
    )
    assert (numbers[5] == "Yes") == (ours.p < 0.05)
