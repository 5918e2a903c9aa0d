"""Tests `synthesis.visemes`: lips close and round with their phones, and are at rest in pauses."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.corpora.mini import read_grammar, read_speakers
from asrsparse.corpora.synthesis.speech import Interval, Voice, synthesize
from asrsparse.corpora.synthesis.visemes import GLIDES, REST, VISEMES, Pose, mouth_poses, visemes_of

SHIPPED = Path(__file__).parents[3] / "data" / "mini"
PHONES = sorted({phone for viseme in VISEMES.values() for phone in viseme.phones.split()} | GLIDES.keys())


def in_a_row(*phones: tuple[str, float], start: float = 0.2) -> list[Interval]:
    """Phones of some seconds, one after the other."""
    starts = start + np.cumsum([0.0, *(seconds for _, seconds in phones)])
    return [Interval(phone, begin, seconds) for (phone, seconds), begin in zip(phones, starts, strict=False)]


def poses(*phones: tuple[str, float], num_frames: int = 30) -> dict[str, np.ndarray]:
    """Each number of the pose over the frames."""
    return dict(zip(Pose._fields, mouth_poses(in_a_row(*phones), num_frames).T, strict=True))


def test_no_phone_is_in_two_visemes():
    phones = [phone for viseme in VISEMES.values() for phone in viseme.phones.split()]
    assert len(phones) == len(set(phones))
    assert GLIDES.keys().isdisjoint(phones)


def test_every_phone_of_the_shipped_corpus_has_a_viseme_of_its_own():
    words = sorted(read_grammar(SHIPPED).vocabulary)
    languages = {speaker.voice.name.split("+")[0] for speaker in read_speakers(SHIPPED / "speakers.txt")}
    spoken = {
        phone.label
        for language in languages
        for begin in range(0, len(words), 20)
        for phone in synthesize(" ".join(words[begin : begin + 20]), Voice(language)).phones
    }
    assert len(spoken) > 40
    unknown = {phone for phone in spoken - {"h", "?"} if visemes_of(phone) == [VISEMES["glottal"]]}
    assert unknown == set()


@pytest.mark.parametrize("phone", list("pbm"))
@pytest.mark.parametrize("vowel", ["a", "i:", "u:", "oU"])
def test_lips_meet_between_vowels_even_in_a_short_consonant(phone, vowel):
    opening = poses((vowel, 0.15), (phone, 0.045), (vowel, 0.15))["opening"]
    assert opening[7:12].min() < 0.02 < 0.15 < min(opening[6], opening[12])


def test_vowels_open_and_round_the_mouth_as_they_should():
    at_last = {vowel: {name: values[10] for name, values in poses((vowel, 0.4)).items()} for vowel in PHONES}
    assert at_last["a"]["opening"] > at_last["E"]["opening"] > at_last["I"]["opening"] > at_last["i:"]["opening"]
    assert at_last["u:"]["rounding"] > at_last["O:"]["rounding"] > 0.5 > at_last["i:"]["rounding"]
    assert at_last["i:"]["spread"] > 0.9 > at_last["@"]["spread"]
    assert at_last["f"]["tuck"] > 0.9 > at_last["s"]["tuck"]


def test_a_glide_moves():
    opening = poses(("aI", 0.4))["opening"]
    assert opening[6] > 0.9
    assert opening[13] < 0.4


def test_h_has_the_shape_of_its_vowel():
    rounding = poses(("h", 0.08), ("u:", 0.2))["rounding"]
    assert rounding[6] > 0.7


def test_rounding_begins_before_its_phone():
    alone, before_w = poses(("t", 0.2), ("i:", 0.2)), poses(("t", 0.2), ("w", 0.2))
    assert before_w["rounding"][9] > alone["rounding"][9] + 0.2


def test_pauses_are_at_rest():
    assert not mouth_poses([], 10).any()
    spoken = mouth_poses(in_a_row(("a", 0.2)), 30)
    assert not np.delete(spoken, np.arange(3, 13), axis=0).any()
    assert REST.pose == Pose()


def test_an_unknown_phone_shows_its_neighbours():
    unknown, known = poses(("a", 0.2), ("q'", 0.05), ("a", 0.2)), poses(("a", 0.45))
    np.testing.assert_allclose(unknown["opening"], known["opening"], atol=0.15)


def test_phones_that_reach_over_the_ends_are_clipped():
    whole = mouth_poses([Interval("a", -0.3, 2.0)], 10)
    np.testing.assert_allclose(whole[3:7], np.broadcast_to(visemes_of("a")[0].pose, (4, 6)))


@given(
    st.lists(st.tuples(st.sampled_from([*PHONES, "??"]), st.floats(0, 0.3), st.floats(0, 0.3)), max_size=20),
    st.integers(1, 60),
)
def test_poses_lie_among_those_of_the_visemes(phones, num_frames):
    starts = np.cumsum([0.0, *(pause + seconds for _, pause, seconds in phones)])
    intervals = [Interval(p, start + pause, s) for (p, pause, s), start in zip(phones, starts, strict=False)]
    found = mouth_poses(intervals, num_frames)
    every = np.array([viseme.pose for viseme in (REST, *VISEMES.values())])
    assert found.shape == (num_frames, len(Pose._fields))
    assert (found >= every.min(axis=0) - 1e-9).all()
    assert (found <= every.max(axis=0) + 1e-9).all()
