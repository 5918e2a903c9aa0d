"""Tests `video.mouth_regions`: any video becomes 96x96 pixels at 25 frames a second, or is refused with a reason."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from video_files import BrightSquares, squares, write_video_file

from asrsparse.video.mouth_regions import (
    CROP_WIDTH,
    MOUTH_BELOW_CENTRE,
    crop,
    crop_mouth_region,
    fit_to_audio,
    mouth_places,
    smoothed,
)
from asrsparse.video.opencv import cv2

CENTRE = (80.0, 60.0)
NOWHERE = (np.nan, np.nan)


def crop_video(path: Path, **arguments):
    return crop_mouth_region(path, detector=BrightSquares(), **arguments)


def write_squares(tmp_path: Path, centres: list) -> Path:
    return write_video_file(tmp_path / "a.mp4", squares(centres))


# ---- what comes out


def test_the_mouth_region_is_cropped_where_it_is_in_a_face(tmp_path):
    frames = squares([CENTRE] * 30)
    x, y, width = mouth_places(np.array([[79.5, 59.5, 40.0]]))[0]
    assert (x, y, width) == (79.5, 59.5 + 40 * MOUTH_BELOW_CENTRE, 40 * CROP_WIDTH)
    region = crop_video(write_video_file(tmp_path / "a.mp4", frames))
    assert region.frames.shape == (30, 96, 96)
    assert region.frames.dtype == np.uint8
    assert (region.num_searched, region.num_found) == (8, 8)
    assert np.abs(region.frames[0].astype(int) - crop(frames[0], np.array([x, y, width]))).mean() < 3


def test_a_head_that_moves_keeps_its_mouth_in_the_middle(tmp_path):
    centres = [(60 + 0.5 * number, 55 + 0.2 * number) for number in range(50)]
    frames = crop_video(write_squares(tmp_path, centres)).frames[6:-6]  # at both ends the mean has one side only
    edges = (np.diff((frames > 160).astype(int), axis=1) < 0).argmax(axis=1)[:, 48]  # lower edge of the square
    assert np.ptp(edges) <= 96 / (CROP_WIDTH * 40) * 2  # two pixels of the source


def test_frames_without_a_face_are_interpolated_up_to_the_limit(tmp_path):
    whole = crop_video(write_squares(tmp_path, [CENTRE] * 50)).frames
    path = write_squares(tmp_path, [CENTRE] * 20 + [NOWHERE] * 10 + [CENTRE] * 20)
    gap = crop_video(path)
    assert gap.num_found < gap.num_searched
    assert np.abs(gap.frames[:18].astype(int) - whole[:18]).mean() < 3
    with pytest.raises(ValueError, match=r"face is lost: .*a\.mp4: for 0\.64 s from 0\.64 s on; allowed are 0\.3 s"):
        crop_video(path, max_gap=0.3)


def test_landmarks_replace_the_detector(tmp_path):
    path, frames = write_squares(tmp_path, [CENTRE] * 30), squares([CENTRE] * 30)
    places = np.tile([90.0, 70.0, 48.0], (30, 1))
    places[10:14] = np.nan
    region = crop_mouth_region(path, landmarks=places)
    assert (region.num_searched, region.num_found) == (30, 26)
    assert np.abs(region.frames[12].astype(int) - crop(frames[12], places[0])).mean() < 3


def test_landmarks_of_a_faster_video_are_those_of_the_frames_that_are_taken(tmp_path):
    times = np.arange(100) / 50
    path = write_video_file(tmp_path / "fast.mp4", squares([CENTRE] * 100), times)
    places = np.stack([40 + 20 * times, np.full(100, 60.0), np.full(100, 48.0)], axis=1)
    there = (np.arange(50) + 0.5) / 25
    frame = crop_mouth_region(path, landmarks=places).frames[25].astype(int)
    expected = crop(squares([CENTRE])[0], np.array([40 + 20 * there[25], 60, 48])).astype(int)
    assert np.abs(frame - expected).mean() < 6


# ---- what is refused


def test_no_face(tmp_path):
    path = write_squares(tmp_path, [NOWHERE] * 30)
    frames = squares([NOWHERE] * 30)
    frames[:, :20] = 190  # not black, and no square
    write_video_file(path, frames)
    with pytest.raises(ValueError, match=r"no face: .*a\.mp4: none was found in the 8 frames that were searched"):
        crop_video(path)


@pytest.mark.parametrize("brightness", [0, 128])
def test_a_black_video(tmp_path, brightness):
    path = write_video_file(tmp_path / "a.mp4", np.full((30, 120, 160), brightness, np.uint8))
    with pytest.raises(ValueError, match=r"black video: .*a\.mp4: 8 of 8 searched frames show nothing"):
        crop_video(path)


def test_two_faces_are_refused_and_a_small_one_beside_is_not(tmp_path):
    alone = squares([CENTRE] * 60)
    similar, small, once = alone.copy(), alone.copy(), np.concatenate([alone, alone, alone])
    similar[:, 5:40, 5:40] = once[:10, 5:40, 5:40] = 240
    small[:, 10:20, 10:20] = 240
    with pytest.raises(
        ValueError, match=r"two faces: .*a\.mp4: 2 of 2 frames show two of similar size.* give landmarks"
    ):
        crop_video(write_video_file(tmp_path / "a.mp4", similar))
    crop_video(write_video_file(tmp_path / "b.mp4", small))
    crop_video(write_video_file(tmp_path / "c.mp4", once))


def test_a_video_without_new_frames(tmp_path):
    times = np.concatenate([np.arange(20), np.arange(60, 80)]) / 25
    path = write_video_file(tmp_path / "a.mp4", squares([CENTRE] * 40), times)
    message = r"video stands still: .*a\.mp4: for 1\.6\d s from 0\.\d\d s on; allowed are 1 s"
    with pytest.raises(ValueError, match=message):
        crop_video(path)


def test_a_file_without_video(tmp_path):
    path = write_video_file(tmp_path / "a.mkv", squares([CENTRE] * 25), samples=np.zeros(16_000, np.int16))
    audio = tmp_path / "audio.wav"
    soundfile.write(audio, np.zeros(16_000), 16_000)
    with pytest.raises(ValueError, match=r"no video track: .*audio\.wav"):
        crop_video(audio)
    assert len(crop_video(path).frames) == 25


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 100])
def test_a_missing_empty_or_garbled_file(tmp_path, content):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"video does not decode: .*a\.mp4: "):
        crop_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("num_landmarks", [20, 40])
def test_landmarks_of_another_video(tmp_path, num_landmarks):
    path = write_squares(tmp_path, [CENTRE] * 30)
    message = rf"landmarks do not fit: .*a\.mp4 has 30 frames, the landmarks have {num_landmarks}; give one entry"
    with pytest.raises(ValueError, match=message):
        crop_mouth_region(path, landmarks=np.ones((num_landmarks, 3)))


def test_landmarks_without_a_face(tmp_path):
    with pytest.raises(ValueError, match=r"no face: .*a\.mp4: the landmarks are empty in all 30 frames"):
        crop_mouth_region(write_squares(tmp_path, [CENTRE] * 30), landmarks=np.full((30, 3), np.nan))


# ---- as long as the audio


@given(st.integers(3, 200), st.integers(-2, 2), st.floats(-0.49, 0.49))
def test_frames_are_fitted_to_the_audio_within_two(num_frames, difference, fraction):
    num_wanted = max(1, num_frames + difference)
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None]
    fitted = fit_to_audio(frames, (num_frames + difference + fraction) / 25, Path("a"))
    assert len(fitted) == num_wanted
    shared = min(num_frames, num_wanted)
    np.testing.assert_array_equal(fitted[:shared], frames[:shared])
    assert (fitted[shared:] == frames[-1]).all()


@pytest.mark.parametrize("seconds", [0.8, 1.2])
def test_other_lengths_are_refused(seconds):
    message = re.escape(f"audio and video differ in length: a.mp4 has 1.00 s of video for {seconds:.2f} s of audio; ")
    with pytest.raises(ValueError, match=message + "allowed is a difference of 0.08 s"):
        fit_to_audio(np.zeros((25, 96, 96), np.uint8), seconds, Path("a.mp4"))


# ---- smoothing


def test_one_wrong_place_changes_nothing():
    places = np.tile([100.0, 120.0, 90.0], (50, 1))
    places[21] = [300.0, 10.0, 30.0]
    np.testing.assert_allclose(smoothed(places), np.tile([100.0, 120.0, 90.0], (50, 1)))


def test_a_steady_motion_is_neither_delayed_nor_shortened():
    places = np.stack([100 + 0.5 * np.arange(60), 120 - 0.2 * np.arange(60), np.full(60, 90.0)], axis=1)
    np.testing.assert_allclose(smoothed(places)[12:-12], places[12:-12])


def test_shaking_is_removed():
    shaking = 100 + np.random.default_rng(0).normal(size=(200, 3))
    assert np.abs(np.diff(smoothed(shaking), axis=0)).mean() < 0.1 * np.abs(np.diff(shaking, axis=0)).mean()


@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any), st.integers(0, 1000))
def test_smoothed_places_are_complete_and_within_the_range_of_those_found(found, seed):
    places = np.random.default_rng(seed).uniform(10, 200, (len(found), 3))
    places[~np.array(found)] = np.nan
    steady = smoothed(places)
    assert steady.shape == places.shape
    assert (steady >= np.nanmin(places, axis=0) - 1e-9).all()
    assert (steady <= np.nanmax(places, axis=0) + 1e-9).all()


# ---- cropping


def test_a_crop_of_its_own_size_is_that_square_of_the_frame():
    frame = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    np.testing.assert_array_equal(crop(frame, np.array([10 + 47.5, 5 + 47.5, 96])), frame[5:101, 10:106])


@given(st.floats(-50, 250), st.floats(-50, 250), st.floats(5, 500))
def test_a_crop_has_its_size_anywhere_and_stays_within_the_brightness_of_the_frame(x, y, width):
    frame = np.random.default_rng(0).integers(50, 200, (120, 160), dtype=np.uint8)
    square = crop(frame, np.array([x, y, width]))
    assert square.shape == (96, 96)
    assert 50 <= square.min() <= square.max() <= 200


def test_a_fraction_of_a_pixel_moves_the_crop():
    frame = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (120, 1))
    first, second = (crop(frame, np.array([x, 60, 96])).astype(float).mean() for x in (60.0, 60.5))
    assert second - first == pytest.approx(1, abs=0.1)


# ---- real data


def test_real_mouth_regions_are_found_steady_and_dark_in_the_middle(grid_dir):
    for path in sorted((grid_dir / "s1").glob("*.mp4"))[::180]:
        region = crop_mouth_region(path)
        assert region.num_found >= 0.99 * region.num_searched
        assert region.frames.shape == (75, 96, 96)
        rows = region.frames[:, 30:70, 36:60].mean(axis=(0, 2))  # lips, and what is between them, are darker than skin
        assert 10 <= rows.argmin() <= 30
        still = np.abs(np.diff(region.frames[:, 30:34].astype(float), axis=0)).mean()  # below the nose
        assert still < 6


def test_a_process_that_is_forked_later_does_not_hang():
    """OpenCV's own threads would not be there in it, and be waited for."""
    assert cv2.getNumThreads() == 1
