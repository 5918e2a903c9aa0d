"""Tests `video.faces`: a face is followed through a video; frames are drawn, and the detector finds bright squares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import BrightSquares, squares

from asrsparse.video.faces import HaarFaces, nearest, track_faces
from asrsparse.video.io import resampled_frames

CENTRE = (80.0, 60.0)


def test_a_face_that_moves_is_followed_with_one_search_in_two_seconds():
    centres = [(40 + number, 60) for number in range(75)]
    detector = BrightSquares()
    track = track_faces(squares(centres), detector)
    assert (track.num_searched, track.num_found) == (19, 19)
    np.testing.assert_allclose(track.places[::4, :2], np.array(centres[::4]) - 0.5)
    assert np.isnan(track.places[1::4]).all()
    assert detector.searches == track.num_full_searches == 2


def test_a_face_that_jumps_is_found_again():
    track = track_faces(squares([(40, 60)] * 20 + [(120, 60)] * 20), BrightSquares())
    assert track.num_found == 10
    assert track.num_full_searches == 2
    assert track.places[20, 0] == pytest.approx(119.5)


def test_frames_without_a_face_have_no_place():
    track = track_faces(squares([CENTRE] * 8 + [(np.nan, 0)] * 8 + [CENTRE] * 8), BrightSquares())
    assert np.isnan(track.places[8:16]).all()
    assert (track.num_searched, track.num_found, track.num_blank) == (6, 4, 2)


def test_two_faces_of_similar_size_are_counted_and_a_small_one_beside_is_not():
    alone = squares([CENTRE] * 50)
    similar, small = alone.copy(), alone.copy()
    similar[:, 10:45, 5:40] = 240
    small[:, 10:20, 10:20] = 240
    assert track_faces(similar, BrightSquares()).num_two_faces == 1
    assert track_faces(small, BrightSquares()).num_two_faces == 0
    np.testing.assert_allclose(track_faces(similar, BrightSquares()).places[0, 2], 40)  # the bigger one


def test_no_frame_gives_no_place():
    assert track_faces([], BrightSquares()).places.shape == (0, 3)


faces = st.lists(st.tuples(*[st.floats(1, 500)] * 3), min_size=1, max_size=6)


@given(faces, st.tuples(*[st.floats(1, 500)] * 3))
def test_the_nearest_face_is_one_of_them_and_never_much_smaller_than_the_biggest(faces, last):
    found = np.array(faces)
    for face in (nearest(found, None), nearest(found, np.array(last))):
        assert face.tolist() in found.tolist()
        assert face[2] >= 0.6 * found[:, 2].max()


def test_haar_finds_the_talker_and_near_its_place_the_same_one(grid_dir):
    detector = HaarFaces()
    _, frame = next(resampled_frames(grid_dir / "s1" / "bbaf2n.mp4"))
    (whole,) = detector.find(frame)
    (near,) = detector.find(frame, whole)
    assert np.abs(near - whole).max() < 0.1 * whole[2]
    assert 100 < near[2] < 200
    assert len(detector.find(np.full((288, 360), 128, np.uint8))) == 0
    assert len(detector.find(frame, np.array([5.0, 5.0, 60.0]))) == 0  # a corner, partly outside
