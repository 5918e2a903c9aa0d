"""Reads landmarks that a user has, which replace the face detector: one file for each video, one entry for each frame.

There are two layouts, both in pixels of the upright frame:

* JSON: a list; an entry is `null` where no face was found, `[x, y]` (the centre of the mouth), `[x, y, width]` (with
  the width of the square to crop), or 68 points `[x, y]` in the order of iBUG 300-W (Sagonas et al., ICCV workshops
  2013), of which 36 to 47 are the eyes and 48 to 67 the mouth.
* NPZ: the array `landmarks` of shape (S, 2), (S, 3) or (S, 68, 2), NaN where no face was found.

Shape legend: S frames of the file at its own rate.
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
WIDTH_IN_EYE_TO_MOUTH = 1.5  # gives the same crop as the detector, in distances from the eyes to the mouth
WIDTH_OF_CENTRES = 96.0  # pixels, where only centres are known: no scaling
SHAPES = {(2,): "[x, y]", (3,): "[x, y, width]", (68, 2): "68 points [x, y]"}
LAYOUTS = (
    "Allowed are, the same for all frames, [x, y], [x, y, width], or 68 points [x, y]; null (JSON) or NaN (NPZ) where "
    "there is no face."
)


def read_landmarks(path: Path, allow_pickle: bool = False) -> Places:
    """Reads the place of the mouth in each frame of a video.

    Args:
        path: The file, `*.json`, `*.npz`, or, if allowed, `*.pkl`.
        allow_pickle: Whether to read `*.pkl` of auto_avsr, too: a list with None or an array (68, 2) for each frame.
            Only lists and arrays are unpickled, nothing else that a pickle may contain.

    Returns:
        The places (S, 3): x, y and width of the square to crop; NaN where there is no face.

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
        raise ValueError(f"path: got {path}, allowed are landmarks in .json, .npz and, with allow_pickle=True, .pkl.")
    return _squares(points)


def landmark_file(folder: Path, key: str) -> Path:
    """Returns the file of landmarks of one video: `<folder>/<key>.npz` where there is one, else `.json`."""
    npz = folder / f"{key}.npz"
    return npz if npz.is_file() else folder / f"{key}.json"


def _from_entries(entries: Any, path: Path) -> np.ndarray:
    """Returns points (S, 2), (S, 3) or (S, 68, 2) from a list with None for those that are missing."""
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"malformed landmarks: {path} holds no list. {LAYOUTS}")
    known = [entry for entry in entries if entry is not None]
    try:
        points = np.array(known, np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"malformed landmarks: {path} has entries of several shapes. {LAYOUTS}") from None
    if not known:
        return np.full((len(entries), 2), np.nan)
    complete = np.full((len(entries), *points.shape[1:]), np.nan)
    complete[[entry is not None for entry in entries]] = points
    return _checked(complete, path)


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
    """Returns centres and widths (S, 3) from points (S, 2), (S, 3) or (S, 68, 2)."""
    squares: Places
    if points.shape[1:] == (3,):
        squares = np.array(points)
    elif points.shape[1:] == (2,):
        squares = np.concatenate([points, np.full((len(points), 1), WIDTH_OF_CENTRES)], axis=1)
    else:
        centres, eyes = points[:, MOUTH].mean(axis=1), points[:, EYES].mean(axis=1)
        lengths = np.hypot(*(centres - eyes).T)
        squares = np.concatenate([centres, WIDTH_IN_EYE_TO_MOUTH * lengths[:, None]], axis=1)
    squares[~np.isfinite(squares).all(axis=1) | (squares[:, 2] <= 0)] = np.nan
    return squares


_NAMES_IN_PICKLED_ARRAYS = {"numpy.dtype", "numpy.ndarray"} | {
    f"numpy.{core}.{name}"
    for core in ("core", "_core")  # NumPy 1 and 2
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays, and refuses everything else: an ordinary unpickler runs any function a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns a function or class by its name; raises an UnpicklingError if arrays do not need it."""
        if f"{module}.{name}" not in _NAMES_IN_PICKLED_ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        with warnings.catch_warnings():  # NumPy 2 warns that it has moved these functions
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().find_class(module, name)


def _unpickled(path: Path, allowed: bool) -> Any:
    if not allowed:
        raise ValueError(
            f"path: got the pickle {path}, which could run any program while it is read. Convert it to .json or .npz, "
            "or, if you trust its source, allow it with allow_pickle=True."
        )
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"malformed landmarks: {path}: {error}. {LAYOUTS}") from None
