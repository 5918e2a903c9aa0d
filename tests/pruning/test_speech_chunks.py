import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.pruning import KaldiVadChunks, SegmentPruner, SpeechChunks

RATE = 16000
FEATURES, WAVEFORM = 100, RATE

stretches = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=8)
"""Stretches of tenths of a second, and whether somebody speaks in them."""


def rows_of(spoken, seed, noise=0.1):
    """Log-mel rows (1, R, 8) that are about 4 louder where somebody speaks, and whether somebody does (R,)."""
    speech = torch.cat([torch.full((10 * tenths,), speaks) for tenths, speaks in spoken])
    generator = torch.Generator().manual_seed(seed)
    return (4.0 * speech[:, None] + noise * torch.randn(len(speech), 8, generator=generator))[None], speech


def wave_of(spoken, seed, speech_level=0.1, noise_level=0.0005):
    """A waveform (1, T) of noise, louder where somebody speaks, and whether somebody does (T,)."""
    speech = torch.cat([torch.full((RATE // 10 * tenths,), speaks) for tenths, speaks in spoken])
    drawn = torch.randn(len(speech), generator=torch.Generator().manual_seed(seed))
    return (drawn * torch.where(speech, speech_level, noise_level))[None], speech


def choose(pruner, values, rate):
    return pruner.choose(values, torch.tensor([values.size(1)]), rate)[0]


def in_rows(kept, rate, chunk_seconds, num_rows):
    return kept.repeat_interleave(round(rate * chunk_seconds))[:num_rows]


@pytest.mark.parametrize(("make", "rate"), [(rows_of, FEATURES), (wave_of, WAVEFORM)])
def test_a_pause_is_dropped_and_all_around_speech_is_kept(make, rate):
    values, _ = make([(4, False), (6, True), (8, False), (2, True)], seed=0)
    kept = choose(SegmentPruner(0.1, 0.1, SpeechChunks()), values, rate)
    assert kept.long().tolist() == [0] * 3 + [1] * 8 + [0] * 6 + [1] * 3


@given(stretches, st.integers(0, 99), st.sampled_from([0.01, 0.04, 0.12, 0.2]))
@settings(deadline=None)
def test_no_speech_is_lost(spoken, seed, chunk_seconds):
    if sum(tenths for tenths, speaks in spoken if speaks) < 0.1 * sum(tenths for tenths, _ in spoken):
        spoken = [*spoken, (12, True)]
    values, speech = rows_of(spoken, seed)
    kept = choose(SegmentPruner(0.05, chunk_seconds, SpeechChunks()), values, FEATURES)
    assert in_rows(kept, FEATURES, chunk_seconds, len(speech))[speech].all()


@given(stretches, st.integers(0, 99), st.floats(0.05, 1.0), st.sampled_from([0.01, 0.04, 0.12, 0.2]))
@settings(deadline=None)
def test_the_least_share_is_kept_whatever_is_silent(spoken, seed, keep_ratio, chunk_seconds):
    values, _ = rows_of(spoken, seed)
    pruner = SegmentPruner(keep_ratio, chunk_seconds, SpeechChunks(level=1.0, margin_seconds=0.0))
    kept = choose(pruner, values, FEATURES)
    assert kept.sum() >= round(keep_ratio * len(kept))


@given(stretches, st.integers(0, 99), st.integers(-12, 12))
@settings(deadline=None)
def test_a_gain_changes_nothing(spoken, seed, exponent):
    pruner = SegmentPruner(0.1, 0.12, SpeechChunks())
    wave, _ = wave_of(spoken, seed)
    assert torch.equal(choose(pruner, wave, WAVEFORM), choose(pruner, wave * 2.0**exponent, WAVEFORM))
    rows, _ = rows_of(spoken, seed)
    assert torch.equal(choose(pruner, rows, FEATURES), choose(pruner, rows * 2.0**exponent, FEATURES))


@given(st.lists(st.tuples(stretches, st.integers(0, 99)), min_size=2, max_size=4), st.randoms())
@settings(deadline=None)
@pytest.mark.parametrize(
    ("make", "rate", "policy"),
    [(rows_of, FEATURES, SpeechChunks()), (wave_of, WAVEFORM, SpeechChunks()), (wave_of, WAVEFORM, KaldiVadChunks())],
)
def test_an_utterance_loses_the_same_in_any_batch(make, rate, policy, utterances, random):
    pruner = SegmentPruner(0.2, 0.12, policy)
    values = [make(*utterance)[0][0] for utterance in utterances]
    random.shuffle(values)
    padded, lens = torch.nn.utils.rnn.pad_sequence(values, batch_first=True), torch.tensor([len(v) for v in values])
    for kept, value in zip(pruner.choose(padded, lens, rate), values, strict=True):
        alone = choose(pruner, value[None], rate)
        assert torch.equal(kept[: len(alone)], alone)
        assert not kept[len(alone) :].any()


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_what_is_equally_loud_everywhere_is_kept(value):
    pruner = SegmentPruner(0.1, 0.12, SpeechChunks())
    assert choose(pruner, torch.full((1, RATE), value), WAVEFORM).all()
    assert choose(pruner, torch.full((1, 300, 8), value), FEATURES).all()


@given(st.integers(0, 99))
@settings(deadline=None)
def test_speech_without_pauses_is_kept(seed):
    """Syllables of 200 ms with closures of 80 ms between them."""
    times = torch.arange(300)
    loud = torch.where(times % 28 < 20, 4.0, 0.0)
    rows = loud[:, None] + torch.randn(300, 8, generator=torch.Generator().manual_seed(seed))
    assert choose(SegmentPruner(0.1, 0.12, SpeechChunks()), rows[None], FEATURES).all()


@given(st.integers(0, 99), st.floats(0.5, 4.0))
@settings(deadline=None)
def test_where_noise_is_as_loud_as_speech_more_is_kept(seed, noise):
    spoken = [(8, False), (8, True), (8, False)]
    clean, noisy = (rows_of(spoken, seed, level)[0] for level in (0.1, 0.1 + 8 * noise))
    pruner = SegmentPruner(0.1, 0.12, SpeechChunks())
    assert choose(pruner, noisy, FEATURES).sum() >= choose(pruner, clean, FEATURES).sum()


def test_a_higher_level_drops_more():
    rows = torch.linspace(0, 1, 300)[None, :, None]
    pruners = [SegmentPruner(0.1, 0.1, SpeechChunks(level)) for level in (0.0, 0.5, 1.0)]
    kept = [int(choose(pruner, rows, FEATURES).sum()) for pruner in pruners]
    assert kept == [28, 15, 3]


def test_motion_of_the_lips_shows_speech_in_video():
    video = torch.zeros(1, 50, 8, 8, dtype=torch.uint8)
    video[0, 20:30:2] = 200
    kept = choose(SegmentPruner(0.1, 0.2, SpeechChunks()), video, rate=25)
    assert kept.tolist() == [False] * 3 + [True] * 4 + [False] * 3


def kaldis_decisions(wave, threshold=5.5, scale=0.5, context=2, proportion=0.12):
    """The rule of compute-vad, frame by frame, for whole frames of 10 ms."""
    frames = wave.view(-1, RATE // 100).double() * 32768
    energies = [math.log(max(1.0, float(frame.square().mean()) * 400)) for frame in frames]
    limit = threshold + scale * sum(energies) / len(energies)
    decisions = []
    for t in range(len(energies)):
        window = energies[max(0, t - context) : t + context + 1]
        decisions.append(sum(energy > limit for energy in window) >= proportion * len(window))
    return decisions


@given(stretches, st.integers(0, 99), st.sampled_from([1e-4, 1e-3, 1e-2]), st.sampled_from([0.12, 0.5, 0.8]))
@settings(deadline=None)
def test_kaldis_rule_is_that_of_compute_vad(spoken, seed, noise_level, proportion):
    wave, _ = wave_of(spoken, seed, noise_level=noise_level)
    speech = torch.tensor(kaldis_decisions(wave[0], proportion=proportion))
    pruner = SegmentPruner(1e-6, 0.01, KaldiVadChunks(proportion=proportion))
    kept = choose(pruner, wave, WAVEFORM)
    if speech.any():
        assert torch.equal(kept, speech)


def test_kaldis_rule_needs_waveforms():
    with pytest.raises(
        ValueError, match=r"segments.level: got one where .* allowed is waveform for segments=kaldi_vad"
    ):
        choose(SegmentPruner(0.5, 0.1, KaldiVadChunks()), torch.zeros(1, 50, 8), FEATURES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpeechChunks(level=1.5), r"level: got 1.5, allowed is \[0, 1\]"),
        (lambda: SpeechChunks(margin_seconds=-0.1), r"margin_seconds: got -0.1, allowed are seconds from 0 on"),
        (lambda: KaldiVadChunks(proportion=0.0), r"proportion: got 0.0, allowed is \(0, 1\]"),
        (lambda: KaldiVadChunks(context=-1), r"mean_scale and context: got 0.5 and -1, allowed are numbers from 0 on"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
