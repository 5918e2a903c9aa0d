import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.models.frontends import LogMelFrontend, normalise_utterances


def noise(num_utterances, num_samples, seed=0):
    return 0.1 * torch.randn(num_utterances, num_samples, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 1000))
def test_normalisation_is_mean_and_deviation_over_an_utterances_own_rows(lens, padding, seed):
    generator = torch.Generator().manual_seed(seed)
    features = 3 + 5 * torch.randn(len(lens), max(lens) + padding, 4, generator=generator)
    normalised = normalise_utterances(features, torch.tensor(lens))
    for row, length in enumerate(lens):
        own = features[row, :length]
        deviation = own.std(dim=0, correction=0).clamp(min=1e-5)
        torch.testing.assert_close(normalised[row, :length], (own - own.mean(dim=0)) / deviation, rtol=1e-4, atol=1e-4)
        assert torch.all(normalised[row, length:] == 0)


def test_what_stands_in_the_padding_changes_nothing():
    features, lens = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([9, 4])
    other = features.clone()
    other[1, 4:] = 1e4
    assert torch.equal(normalise_utterances(features, lens), normalise_utterances(other, lens))


def test_a_bin_that_never_moves_becomes_zero_not_a_number_less():
    assert torch.all(normalise_utterances(torch.full((1, 6, 2), 7.0), torch.tensor([6])) == 0)


def test_gain_does_not_change_features():
    frontend, lens = LogMelFrontend(), torch.tensor([16000])
    quiet, _ = frontend(noise(1, 16000), lens)
    loud, _ = frontend(4 * noise(1, 16000), lens)
    torch.testing.assert_close(quiet, loud, rtol=1e-3, atol=1e-3)


def test_features_come_every_10_ms():
    features, lens = LogMelFrontend(num_mel_bins=40)(noise(2, 16000), torch.tensor([16000, 8000]))
    assert features.shape == (2, 101, 40)
    assert lens.tolist() == [101, 51]
    assert torch.all(features[1, 51:] == 0)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_windows_follow_the_sampling_rate(rate):
    _, lens = LogMelFrontend(sampling_rate=rate)(noise(1, rate), torch.tensor([rate]))
    assert lens.tolist() == [101]


@given(st.lists(st.integers(400, 20000), min_size=2, max_size=4))
def test_features_of_an_utterance_are_those_it_has_alone_to_its_very_end(lens):
    audio = torch.randn(len(lens), max(lens), generator=torch.Generator().manual_seed(0))
    audio = audio.masked_fill(torch.arange(max(lens)) >= torch.tensor(lens)[:, None], 0.0)
    frontend = LogMelFrontend()
    features, feature_lens = frontend(audio, torch.tensor(lens))
    for row, length in enumerate(lens):
        single, single_lens = frontend.logmel(audio[row : row + 1, :length], torch.tensor([length]))
        assert feature_lens[row] == single_lens[0] == single.size(1)
        single = (single - single.mean(dim=1)) / single.std(dim=1, correction=0)
        torch.testing.assert_close(features[row, : single.size(1)], single[0], rtol=1e-3, atol=1e-3)
        assert not features[row, single.size(1) :].any()


def test_features_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = LogMelFrontend()(noise(1, 4000), torch.tensor([4000]))
    assert features.dtype == torch.float32
