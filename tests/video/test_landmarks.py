"""Tests `video.landmarks`: each layout gives the square to crop, and other files are refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from asrsparse.video.landmarks import read_landmarks


def face(x: float = 100.0, y: float = 120.0, length: float = 60.0) -> np.ndarray:
    """68 points with the mouth around (x, y), and the eyes `length` pixels above."""
    points = np.zeros((68, 2))
    points[48:68] = [x, y]
    points[36:48] = [x, y - length]
    points[48:68:2, 0] += 10
    points[49:68:2, 0] -= 10
    return points


def write(path: Path, entries: list) -> Path:
    """The same entries in the layout that the name says; those of NPZ have NaN for None."""
    if path.suffix == ".json":
        path.write_text(json.dumps([e if e is None else np.asarray(e).tolist() for e in entries]))
    elif path.suffix == ".npz":
        shape = np.shape(next(e for e in entries if e is not None))
        np.savez(path, landmarks=np.array([np.full(shape, np.nan) if e is None else e for e in entries]))
    else:
        path.write_bytes(pickle.dumps(entries))
    return path


@pytest.mark.parametrize("suffix", [".json", ".npz", ".pkl"])
@pytest.mark.parametrize(
    ("entry", "square"),
    [
        (np.array([100.0, 120.0]), [100, 120, 96]),
        (np.array([100.0, 120.0, 70.0]), [100, 120, 70]),
        (face(), [100, 120, 90]),
    ],
)
def test_every_layout_gives_the_same_squares(tmp_path, suffix, entry, square):
    path = write(tmp_path / f"a{suffix}", [entry, None, entry])
    squares = read_landmarks(path, allow_pickle=True)
    np.testing.assert_allclose(squares[[0, 2]], [square, square])
    assert np.isnan(squares[1]).all()


def test_a_list_without_any_face_is_read(tmp_path):
    assert np.isnan(read_landmarks(write(tmp_path / "a.json", [None] * 5))).all()


def test_a_pickle_is_refused_unless_allowed(tmp_path):
    path = write(tmp_path / "a.pkl", [face()])
    with pytest.raises(
        ValueError, match=r"path: got the pickle .*a\.pkl, which could run any program.*allow_pickle=True"
    ):
        read_landmarks(path)


class Evil:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_even_an_allowed_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.pkl", [Evil()])
    with pytest.raises(ValueError, match=r"malformed landmarks: .*a\.pkl: it asks for .*open, which no array needs"):
        read_landmarks(path, allow_pickle=True)
    assert not (tmp_path / "ran.txt").exists()


def test_objects_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", landmarks=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match=r"malformed landmarks: .*a\.npz: "):
        read_landmarks(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[[1, 2], [1, 2, 3]]", r"malformed landmarks: .*entries of several shapes.*Allowed are"),
        ("a.json", "[[1, 2, 3, 4]]", r"malformed landmarks: .*has the shape \(1, 4\).*Allowed are"),
        ("a.json", '[["x", "y"]]', r"malformed landmarks: .*entries of several shapes"),
        ("a.json", "{}", r"malformed landmarks: .*holds no list"),
        ("a.json", "[]", r"malformed landmarks: .*holds no list"),
        ("a.json", "[[1, 2", r"a\.json is not valid JSON"),
        ("a.npz", "", r"malformed landmarks: .*a\.npz: "),
        ("a.npz", "no zip", r"malformed landmarks: .*a\.npz: "),
        ("a.txt", "1 2", r"path: got .*a\.txt, allowed are landmarks in \.json, \.npz"),
    ],
)
def test_malformed_files_are_named_with_what_is_allowed(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_landmarks(tmp_path / name)


def test_an_npz_with_other_arrays_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"a\.npz: it holds points, wanted is `landmarks`"):
        read_landmarks(tmp_path / "a.npz")


def test_a_damaged_pickle_and_a_missing_file(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04junk")
    with pytest.raises(ValueError, match=r"malformed landmarks: .*a\.pkl"):
        read_landmarks(tmp_path / "a.pkl", allow_pickle=True)
    with pytest.raises(ValueError, match=r"no landmarks: .*b\.json"):
        read_landmarks(tmp_path / "b.json")
