"""Tests `synthesis.speech`: the result depends on text and voice alone, and phones and words have the right times."""

import subprocess
import sys
import time

import espeakng_loader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.corpora.synthesis.speech import Voice, resample, synthesize
from asrsparse.rates import SAMPLING_RATE

WORDS = ["farmer", "green", "small", "box", "seven", "under", "village", "eagle", "found", "my"]
# with flutter; with breath noise; with noise from the C library
NOISY_VOICES = ["en-us+m1", "en+f2", "en-us+caleb"]


def level(samples) -> float:
    return 10 * np.log10(np.mean(np.square(samples)) + 1e-12)


def fundamental(speech, word: int) -> float:
    """Fundamental frequency in the middle of a word, in Hz, by autocorrelation."""
    middle = int((speech.words[word].start + speech.words[word].duration / 2) * SAMPLING_RATE)
    frame = speech.waveform[middle - 500 : middle + 500]
    correlation = np.correlate(frame, frame, "full")[len(frame) - 1 :]
    return SAMPLING_RATE / (40 + correlation[40:300].argmax())


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), variant=st.sampled_from(["m1", "f3", "Annie"]))
def test_phones_and_words_lie_in_order_within_the_speech(words, variant):
    speech = synthesize(" ".join(words), Voice(f"en-us+{variant}"))
    assert [word.label for word in speech.words] == words
    for intervals in (speech.phones, speech.words):
        ends = [interval.start + interval.duration for interval in intervals]
        assert intervals[0].start >= 0.0
        assert all(interval.duration > 0 for interval in intervals)
        assert all(end <= after.start + 1e-9 for end, after in zip(ends, intervals[1:], strict=False))
        assert ends[-1] <= len(speech.waveform) / SAMPLING_RATE
    for phone in speech.phones:
        middle = phone.start + phone.duration / 2
        assert sum(word.start < middle < word.start + word.duration for word in speech.words) == 1


def test_audio_is_loud_in_the_phones_and_not_between_them():
    speech = synthesize("the eagle is young and the box is green, my uncle found it", Voice("en-us+m3"))
    in_phone = np.zeros(len(speech.waveform), dtype=bool)
    for phone in speech.phones:
        in_phone[int(phone.start * SAMPLING_RATE) : int((phone.start + phone.duration) * SAMPLING_RATE)] = True
    assert level(speech.waveform[in_phone]) > level(speech.waveform[~in_phone]) + 15


@pytest.mark.parametrize("name", NOISY_VOICES)
def test_the_same_samples_whatever_was_spoken_before(name):
    first = synthesize("the small cat", Voice(name))
    synthesize("something else", Voice("en-us+f5", rate=200))
    time.sleep(1.1)  # espeak-ng by itself seeds its noise with the time in seconds
    second = synthesize("the small cat", Voice(name))
    np.testing.assert_array_equal(first.waveform, second.waveform)
    assert first.phones == second.phones


def test_the_same_samples_in_another_process():
    code = (
        "import zlib; from asrsparse.corpora.synthesis.speech import *; "
        "print(zlib.crc32(synthesize('the small cat', Voice('en+f2')).waveform.tobytes()))"
    )
    sums = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(sums) == 1


def test_waveform_is_loud_and_not_clipped():
    for name in NOISY_VOICES:
        waveform = synthesize("the farmer found the green box", Voice(name)).waveform
        assert waveform.dtype == np.float32
        assert 0.05 < np.abs(waveform).max() < 1.0
        assert 1.0 < len(waveform) / SAMPLING_RATE < 4.0


def test_rate_and_pitch_change_the_audio():
    slow, fast = (synthesize("the farmer found the green box", Voice("en-us", rate=rate)) for rate in (120, 240))
    assert len(slow.waveform) > 1.5 * len(fast.waveform)
    low, high = (synthesize("the farmer found the green box", Voice("en-us", pitch=pitch)) for pitch in (10, 90))
    assert fundamental(high, 4) > 1.3 * fundamental(low, 4)


def test_words_that_are_joined_are_one_interval():
    speech = synthesize("a box for the dog", Voice("en-us"))
    assert [word.label for word in speech.words] == ["a", "box", "for the", "dog"]


@settings(deadline=None)
@given(length=st.integers(1, 5000), to_rate=st.sampled_from([8000, 11025, 16000, 22050]))
def test_resampled_length(length, to_rate):
    assert len(resample(np.ones(length), 22050, to_rate)) == -(-length * to_rate // 22050)


def test_resampling_removes_frequencies_above_half_of_the_new_rate():
    time_axis = np.arange(22050) / 22050
    high = np.hanning(22050) * np.sin(2 * np.pi * 9000 * time_axis)
    assert level(resample(high, 22050, 16000)) < level(high) - 60


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("en-uk+m1", r"no language 'en-uk'.*en-us.*language\+variant"),
        ("en-us+m33", r"no variant 'm33'.*Nearest of its \d+: m3"),
        ("en-us+", "no variant ''"),
        ("", "no language ''"),
    ],
)
def test_unknown_voice_names_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        Voice(name)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"rate": 79}, "rate: got 79 for the voice 'en-us', allowed are 80 to 450"),
        ({"pitch": 100}, "pitch: got 100 for the voice 'en-us', allowed are 0 to 99"),
        ({"pitch_range": -1}, "pitch_range: got -1 for the voice 'en-us', allowed are 0 to 99"),
    ],
)
def test_numbers_out_of_range(numbers, message):
    with pytest.raises(ValueError, match=message):
        Voice("en-us", **numbers)


@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_nothing_to_speak(text):
    with pytest.raises(ValueError, match="Nothing to speak in"):
        synthesize(text, Voice("en-us"))


def test_unreadable_data_are_named_and_leave_nothing_behind(monkeypatch, tmp_path):
    voice = Voice("en-us")
    before = synthesize("the small cat", voice)
    with monkeypatch.context() as patch:
        patch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "nowhere"))
        with pytest.raises(ValueError, match=r"cannot read its data in .*nowhere"):
            synthesize("the small cat", voice)
    np.testing.assert_array_equal(synthesize("the small cat", voice).waveform, before.waveform)
