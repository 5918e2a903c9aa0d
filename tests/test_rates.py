"""The one grid of frames: numbers of the subsampling against ESPnet's layers counted one by one, and of CTC."""

from hypothesis import given
from hypothesis import strategies as st

from asrsparse.rates import (
    FEATURES_PER_SECOND,
    FRAMES_PER_SECOND,
    SAMPLES_PER_FRAME,
    SAMPLING_RATE,
    SECONDS_PER_FRAME,
    ctc_frames,
    encoder_frames,
    least_seconds,
    subsampled,
)


def test_the_rates_are_of_one_grid():
    assert SAMPLES_PER_FRAME * FRAMES_PER_SECOND == SAMPLING_RATE
    assert 4 * FRAMES_PER_SECOND == FEATURES_PER_SECOND
    assert SECONDS_PER_FRAME == 0.04


@given(st.integers(min_value=1, max_value=2000))
def test_the_least_duration_for_frames_gives_them_and_a_row_less_does_not(num_frames):
    num_features = round(least_seconds(num_frames) * FEATURES_PER_SECOND)
    assert (subsampled(num_features), subsampled(num_features - 1)) == (num_frames, num_frames - 1)


def convolved(length: int) -> int:
    """Frames after a convolution of width 3 and stride 2 without padding, counted one by one."""
    return len(range(0, length - 2, 2))


@given(st.integers(min_value=0, max_value=16_000 * 40))
def test_encoder_frames_are_those_of_the_two_convolutions(samples):
    features = len(range(0, samples + 1, 160))  # windows that are centred on multiples of 10 ms
    assert encoder_frames(samples / 16_000) == convolved(convolved(features))


@given(st.lists(st.integers(min_value=1, max_value=3), max_size=12))
def test_ctc_frames_are_the_shortest_path_that_collapses_to_the_labels(labels):
    path: list[int] = []
    for label in labels:
        path += [0, label] if path and path[-1] == label else [label]
    assert ctc_frames(labels) == len(path)
