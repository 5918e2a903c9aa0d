"""Tests `video.contact_sheet`: random frames of random videos, the same ones for the same seed."""

import cv2
import numpy as np
import pytest

from asrsparse.video.contact_sheet import CAPTION, write_contact_sheet
from asrsparse.video.io import write_video


@pytest.fixture
def videos(tmp_path):
    paths = {}
    for number in range(12):
        paths[f"s1-{number}"] = tmp_path / f"{number}.mp4"
        write_video(paths[f"s1-{number}"], np.full((5, 96, 96), 10 + 20 * number, np.uint8))
    return paths


def sheet(tmp_path, videos, **arguments) -> np.ndarray:
    write_contact_sheet(tmp_path / "sheet.png", videos, **arguments)
    return cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)


def test_all_videos_are_shown_once_in_rows_of_ten_with_captions(tmp_path, videos):
    image = sheet(tmp_path, videos)
    assert image.shape == (2 * (96 + CAPTION), 960)
    shown = [int(np.median(image[r * (96 + CAPTION) :][:96, c * 96 :][:, :96])) for r in (0, 1) for c in range(10)]
    assert sorted(shown[:12]) == pytest.approx([10 + 20 * number for number in range(12)], abs=2)
    assert shown[12:] == [255] * 8
    assert image[96 : 96 + CAPTION, :96].min() < 100
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == ["sheet.png"]


def test_the_seed_determines_the_choice(tmp_path, videos):
    first, again, other = (sheet(tmp_path, videos, num_frames=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (96 + CAPTION, 960)


def test_no_video_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"videos: got none for .*sheet\.png, allowed is one or more"):
        write_contact_sheet(tmp_path / "sheet.png", {})
