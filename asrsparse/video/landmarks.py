"""Landmarks that a user has, instead of a detector: one file for each video, with an entry for each of its pictures.

Two layouts, in pixels of the upright picture:

* JSON: a list; an entry is `null` where no face was found, `[x, y]` (the mouth's centre), `[x, y, width]` (with the
  width of the square to cut), or 68 points `[x, y]` in the order of iBUG 300-W, of which 36 to 47 are the eyes and 48
  to 67 the mouth;
* NPZ: the array `landmarks` of shape (S, 2), (S, 3) or (S, 68, 2), NaN where no face was found.

Shape legend: S pictures of the source.
"""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from asrsparse.files import read_json
from asrsparse.video.faces import Places

EYES, MOUTH = slice(36, 48), slice(48, 68)
WIDTH_IN_EYE_TO_MOUTH = 1.5  # cuts what the detector's way cuts
WIDTH_OF_CENTRES = 96.0  # where only centres are known: no scaling
SHAPES = {(2,): "[x, y]", (3,): "[x, y, width]", (68, 2): "68 points [x, y]"}
LAYOUTS = (
    "Allowed are, for all pictures alike, [x, y], [x, y, width], or 68 points [x, y]; null (JSON) or NaN (NPZ) where "
    "there is no face."
)


def read_landmarks(path: Path, allow_pickle: bool = False) -> Places:
    """Reads where the mouth is in each picture of a video.

    Args:
        path: `*.json`, `*.npz`, or, if allowed, `*.pkl`.
        allow_pickle: Reads auto_avsr's `*.pkl` too, a list with None or an array (68, 2) for each picture. Nothing but
            lists and arrays is made of it.

    Returns:
        (S, 3): x, y and width of the square to cut; NaN where there is no face.

    Raises:
        ValueError: If there is no such file, or it has another layout.
    """
    if not path.is_file():
        raise ValueError(f"no landmarks: {path}")
    if path.suffix == ".json":
        points = _from_entries(read_json(path), path)
    elif path.suffix == ".npz":
        points = _from_npz(path)
    elif path.suffix in (".pkl", ".pickle"):
        points = _from_entries(_unpickled(path, allow_pickle), path)
    else:
        raise ValueError(f"landmarks are of an unknown kind: got {path}, allowed are .json, .npz and (see docs) .pkl")
    return _squares(points)


def landmark_file(folder: Path, key: str) -> Path:
    """The file of one video: `<folder>/<key>.npz` where there is one, else `.json`."""
    npz = folder / f"{key}.npz"
    return npz if npz.is_file() else folder / f"{key}.json"


def _from_entries(entries: Any, path: Path) -> np.ndarray:
    """Points (S, 2), (S, 3) or (S, 68, 2) from a list with None for those that are missing."""
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"malformed landmarks: {path} holds no list. {LAYOUTS}")
    known = [entry for entry in entries if entry is not None]
    try:
        points = np.array(known, np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"malformed landmarks: {path} has entries of several shapes. {LAYOUTS}") from None
    if not known:
        return np.full((len(entries), 2), np.nan)
    whole = np.full((len(entries), *points.shape[1:]), np.nan)
    whole[[entry is not None for entry in entries]] = points
    return _checked(whole, path)


def _from_npz(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "landmarks" not in arrays:
                raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}, wanted is `landmarks`")
            points = np.asarray(arrays["landmarks"], np.float64)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"malformed landmarks: {path}: {error}. {LAYOUTS}") from None
    return _checked(points, path)


def _checked(points: np.ndarray, path: Path) -> np.ndarray:
    if points.ndim == 0 or len(points) == 0 or points.shape[1:] not in SHAPES:
        raise ValueError(f"malformed landmarks: {path} has the shape {points.shape}. {LAYOUTS}")
    return points


def _squares(points: np.ndarray) -> Places:
    """Centre and width (S, 3) from points (S, 2), (S, 3) or (S, 68, 2)."""
    squares: Places
    if points.shape[1:] == (3,):
        squares = np.array(points)
    elif points.shape[1:] == (2,):
        squares = np.concatenate([points, np.full((len(points), 1), WIDTH_OF_CENTRES)], axis=1)
    else:
        mouths, eyes = points[:, MOUTH].mean(axis=1), points[:, EYES].mean(axis=1)
        lengths = np.hypot(*(mouths - eyes).T)
        squares = np.concatenate([mouths, WIDTH_IN_EYE_TO_MOUTH * lengths[:, None]], axis=1)
    squares[~np.isfinite(squares).all(axis=1) | (squares[:, 2] <= 0)] = np.nan
    return squares


_PARTS_OF_ARRAYS = {"numpy.dtype", "numpy.ndarray"} | {
    f"numpy.{core}.{part}"
    for core in ("core", "_core")  # NumPy 1 and 2
    for part in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
}


class _ArraysOnly(pickle.Unpickler):
    """Makes NumPy arrays, and nothing else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses what is no part of an array."""
        if f"{module}.{name}" not in _PARTS_OF_ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        with warnings.catch_warnings():  # NumPy 2 has moved its parts, and says so
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().find_class(module, name)


def _unpickled(path: Path, allowed: bool) -> Any:
    if not allowed:
        raise ValueError(
            f"landmarks in a pickle: {path} could run any program while it is read. Convert it to .json or .npz, or, "
            "if it is from where you trust, allow it with allow_pickle=True"
        )
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"malformed landmarks: {path}: {error}. {LAYOUTS}") from None
