"""Tests `synthesis.mouth_drawing`: the drawn mouth fits the phones, faces differ, and frames are reproducible."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.corpora.synthesis import mouth_drawing
from asrsparse.corpora.synthesis.mouth_drawing import SIZE, draw_mouth_region, face_of
from asrsparse.corpora.synthesis.speech import Interval
from asrsparse.corpora.synthesis.visemes import GLIDES, VISEMES

SPEAKERS = ["alan", "bert", "adele", "betty", "quinn", "rosa", "sarah", "simon"]
PHONES = sorted({phone for viseme in VISEMES.values() for phone in viseme.phones.split()} | GLIDES.keys())


def draw(*phones: str, speaker: str = "alan", seconds: float = 0.3, seed: Any = 0, num_frames: int = 25) -> np.ndarray:
    """The mouth of a speaker who says the phones, from 0.2 s on."""
    intervals = [Interval(phone, 0.2 + number * seconds, seconds) for number, phone in enumerate(phones)]
    return draw_mouth_region(intervals, num_frames, face_of(speaker), np.random.default_rng(seed))


def middle(phone: str, speaker: str) -> np.ndarray:
    """The frame in the middle of a phone."""
    return draw(phone, speaker=speaker)[8]


def dark(frame: np.ndarray) -> np.ndarray:
    """Where the inside of a mouth is seen: much darker than the picture."""
    return frame < 0.35 * np.median(frame)


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("phone", list("pbm"))
def test_closed_lips_show_a_line_at_most(phone, speaker):
    rows = dark(middle(phone, speaker)).any(axis=1).sum()
    assert rows <= 6
    assert dark(middle("a", speaker)).any(axis=1).sum() > rows + 2


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_is_more_open_than_i(speaker):
    assert dark(middle("a", speaker)).sum() > 80 + dark(middle("i:", speaker)).sum()


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_round_mouth_is_narrower(speaker):
    assert 1.15 * dark(middle("O:", speaker)).any(axis=0).sum() < dark(middle("0", speaker)).any(axis=0).sum()


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("phone", list("fsS"))
def test_teeth_are_visible(phone, speaker):
    bright = [(middle(p, speaker) > 1.1 * np.median(middle(p, speaker)))[38:60, 28:68].sum() for p in (phone, "u:")]
    assert bright[0] > bright[1] + 20


def test_frame_v_shows_the_mouth_in_its_middle():
    open_at_once = [Interval("m", 0.0, 0.4), Interval("a", 0.4, 0.4)]
    frames = draw_mouth_region(open_at_once, 20, face_of("alan"), np.random.default_rng(0))
    area = [dark(frame).sum() for frame in frames]
    steepest = int(np.argmax(np.diff(area)))
    assert steepest in (9, 10)  # from frame 9 (0.38 s) to 10 (0.42 s), and a little later, for /m/ is stronger


def test_pauses_are_at_rest(monkeypatch):
    monkeypatch.setattr(mouth_drawing, "_head_motion", still)
    frames = draw("a", num_frames=30).astype(int)
    assert np.abs(frames[0] - frames[[1, 2, 20, 29]]).max() < 12  # noise
    assert np.abs(frames[0] - frames[8]).max() > 60


def still(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.tile([[1.0, 0.0, SIZE / 2], [0.0, 1.0, SIZE / 2]], (num_frames, 1, 1))


def test_the_same_frames_each_time():
    np.testing.assert_array_equal(draw("b", "aI"), draw("b", "aI"))
    assert (draw("b", "aI") != draw("b", "aI", seed=1)).mean() > 0.5


def test_later_phones_do_not_change_earlier_frames():
    shorter, longer = draw("b", "a"), draw("b", "a", "u:", num_frames=40)
    np.testing.assert_array_equal(shorter[:18], longer[:18])  # /u:/ begins at 0.8 s, and is prepared from 0.74 s on
    assert (shorter[20] != longer[20]).any()


def test_speakers_differ_in_everything_except_a_beard():
    one, other = (dataclasses.asdict(face_of(speaker)) for speaker in ("anna", "bert"))
    assert all(one[name] != other[name] for name in one if name != "beard")
    assert (draw(speaker="anna") != draw(speaker="bert")).mean() > 0.5


def test_the_head_moves_slowly_and_stays_in_the_frame():
    for seed in range(20):
        heads = mouth_drawing._head_motion(250, np.random.default_rng(seed))
        mouth = heads[:, :, 2]
        assert np.abs(mouth - SIZE / 2).max() < 5
        assert np.abs(np.diff(mouth, axis=0)).max() < 0.5
        sizes = np.linalg.det(heads[:, :, :2])
        assert 0.8 < sizes.min() <= sizes.max() < 1.25


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*PHONES, "??"]), st.floats(0, 0.3)), max_size=10),
    st.integers(1, 30),
    st.text("abc", min_size=1, max_size=5),
    st.integers(0, 2**32),
)
def test_any_phones_give_frames(phones, num_frames, speaker, seed):
    starts = np.cumsum([0.0, *(seconds for _, seconds in phones)])
    intervals = [Interval(phone, start, s) for (phone, s), start in zip(phones, starts, strict=False)]
    frames = draw_mouth_region(intervals, num_frames, face_of(speaker), np.random.default_rng(seed))
    assert (frames.shape, frames.dtype) == ((num_frames, SIZE, SIZE), np.uint8)
    assert (frames.std(axis=(1, 2)) > 3).all()
