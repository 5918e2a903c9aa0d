"""What every `prepare_*` shares: manifest files, their writing, and how a finished preparation is known."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lhotse import RecordingSet, SupervisionSet, load_manifest, validate_recordings_and_supervisions

from asrsparse.files import atomic_path, read_json, write_json

SPLITS = ("train", "dev", "test")
"""Those of a corpus with one test set."""


def splits_with(test_splits: Sequence[str]) -> tuple[str, ...]:
    """All splits of a corpus: train, dev and its test sets.

    Args:
        test_splits: Names of folders and files.

    Raises:
        ValueError: If there is none, one twice, or one whose name is taken or no name.

    Example:
        >>> splits_with(["test-clean", "test-other"])
        ('train', 'dev', 'test-clean', 'test-other')
    """
    wrong = [name for name in test_splits if name in ("train", "dev") or not re.fullmatch(r"\w[\w.-]*", name)]
    if wrong or not test_splits or len(set(test_splits)) < len(test_splits):
        raise ValueError(
            f"corpus.test_splits: got {list(test_splits)}, allowed are different names of letters, digits, '_', '-' "
            "and '.', but for train and dev, from which utterances that cannot be trained on are left out."
        )
    return ("train", "dev", *test_splits)


def manifest_paths(manifest_dir: Path, split: str) -> tuple[Path, Path]:
    """The files of a split's recordings and supervisions."""
    return manifest_dir / f"{split}_recordings.jsonl.gz", manifest_dir / f"{split}_supervisions.jsonl.gz"


def write_split(manifest_dir: Path, split: str, recordings: RecordingSet, supervisions: SupervisionSet) -> None:
    """Validates a split's manifests with lhotse and writes them, each whole or not at all.

    Raises:
        ValueError: If the split is empty.
    """
    if len(recordings) == 0 or len(supervisions) == 0:
        raise ValueError(
            f"The {split} split has {len(recordings)} recordings and {len(supervisions)} supervisions; each split "
            "needs at least one. Add data to the corpus folder."
        )
    # lhotse warns of each video that ends some milliseconds before or after its audio, as nearly all do.
    without_video = SupervisionSet.from_segments(dataclasses.replace(segment, custom=None) for segment in supervisions)
    validate_recordings_and_supervisions(recordings, without_video)
    for path, manifest in zip(manifest_paths(manifest_dir, split), (recordings, supervisions), strict=True):
        with atomic_path(path) as temporary:
            manifest.to_file(temporary)


def read_split(manifest_dir: Path, split: str) -> tuple[RecordingSet, SupervisionSet]:
    """Reads what `write_split` wrote.

    Raises:
        ValueError: If the split was never prepared.
    """
    paths = manifest_paths(manifest_dir, split)
    for path in paths:
        if not path.is_file():
            known = sorted(other.name.split("_recordings.")[0] for other in manifest_dir.glob("*_recordings.*"))
            raise ValueError(
                f"No manifest {path}. Run `asrsparse prepare` first (splits there: {', '.join(known) or 'none'})."
            )
    return load_manifest(paths[0]), load_manifest(paths[1])


def is_prepared(manifest_dir: Path, arguments: dict[str, Any]) -> bool:
    """Whether a preparation with these very arguments has finished here (its `.completed` file says so)."""
    completed = manifest_dir / ".completed"
    return completed.is_file() and read_json(completed) == arguments


def mark_prepared(manifest_dir: Path, arguments: dict[str, Any]) -> None:
    """Records that the preparation with `arguments` (JSON values) has finished; the last thing a `prepare_*` does."""
    write_json(manifest_dir / ".completed", arguments)


@contextmanager
def preparing(manifest_dir: Path, arguments: dict[str, Any]) -> Iterator[None]:
    """The time in which what lies in a folder is nobody's whole work.

    An older `.completed` goes first, and the new one is written if the end is reached: neither an error nor a killed
    process leaves one.
    """
    (manifest_dir / ".completed").unlink(missing_ok=True)
    yield
    mark_prepared(manifest_dir, arguments)
