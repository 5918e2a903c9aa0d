"""What every `prepare_*` function shares: the manifest files, and the record of a finished preparation."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lhotse import RecordingSet, SupervisionSet, load_manifest, validate_recordings_and_supervisions

from asrsparse.files import atomic_path, read_json, write_json

SPLITS = ("train", "dev", "test")
"""The splits of a corpus with one test set."""


def splits_with(test_splits: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of all splits of a corpus: train, dev and its test sets.

    Args:
        test_splits: The names of the test sets; they also name folders and files.

    Raises:
        ValueError: If there is no test set, a name is repeated, is `train` or `dev`, or has other characters than
            letters, digits, `_`, `-` and `.`.

    Example:
        >>> splits_with(["test-clean", "test-other"])
        ('train', 'dev', 'test-clean', 'test-other')
    """
    wrong = [name for name in test_splits if name in ("train", "dev") or not re.fullmatch(r"\w[\w.-]*", name)]
    if wrong or not test_splits or len(set(test_splits)) < len(test_splits):
        raise ValueError(
            f"corpus.test_splits: got {list(test_splits)}, allowed are different names of letters, digits, '_', '-' "
            "and '.', except train and dev, which leave out the utterances that cannot be trained on."
        )
    return ("train", "dev", *test_splits)


def manifest_paths(manifest_dir: Path, split: str) -> tuple[Path, Path]:
    """Returns the paths of the recordings and of the supervisions of a split."""
    return manifest_dir / f"{split}_recordings.jsonl.gz", manifest_dir / f"{split}_supervisions.jsonl.gz"


def write_split(manifest_dir: Path, split: str, recordings: RecordingSet, supervisions: SupervisionSet) -> None:
    """Validates the manifests of a split with lhotse and writes them, each completely or not at all.

    Args:
        manifest_dir: The folder of the manifests.
        split: The name of the split.
        recordings: The recordings.
        supervisions: The text and times of each utterance; where it has video, its manifest is `custom["video"]`.

    Raises:
        ValueError: If the split is empty.
    """
    if len(recordings) == 0 or len(supervisions) == 0:
        raise ValueError(
            f"The {split} split has {len(recordings)} recordings and {len(supervisions)} supervisions; each split "
            "needs at least one. Add data to the corpus folder."
        )
    # lhotse warns of each video that ends some milliseconds before or after its audio, which nearly all do.
    without_video = SupervisionSet.from_segments(dataclasses.replace(segment, custom=None) for segment in supervisions)
    validate_recordings_and_supervisions(recordings, without_video)
    for path, manifest in zip(manifest_paths(manifest_dir, split), (recordings, supervisions), strict=True):
        with atomic_path(path) as temporary:
            manifest.to_file(temporary)


def read_split(manifest_dir: Path, split: str) -> tuple[RecordingSet, SupervisionSet]:
    """Reads the manifests of a split that `write_split` wrote.

    Args:
        manifest_dir: The folder of the manifests.
        split: The name of the split.

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


def is_prepared(folder: Path, arguments: dict[str, Any], *older: dict[str, Any]) -> bool:
    """Returns whether a preparation with the same arguments has finished in a folder, by its `.completed` file.

    Args:
        folder: The folder of the manifests or cuts.
        arguments: The arguments as `mark_prepared` records them.
        older: The same arguments as earlier versions recorded them, so that their data need not be prepared again.
    """
    completed = folder / ".completed"
    return completed.is_file() and read_json(completed) in (arguments, *older)


def mark_prepared(folder: Path, arguments: dict[str, Any]) -> None:
    """Records that the preparation with `arguments` has finished; this is the last step of each `prepare_*`.

    Args:
        folder: The folder of the manifests or cuts.
        arguments: Values that JSON can represent.
    """
    write_json(folder / ".completed", arguments)


@contextmanager
def preparing(folder: Path, arguments: dict[str, Any]) -> Iterator[None]:
    """Marks a folder as incomplete while the body of the `with` statement writes it, and as prepared at its end.

    An older `.completed` is deleted first, and a new one is written only when the body has finished without an error.
    So neither an error nor a killed process leaves a folder that seems complete.

    Args:
        folder: The folder of the manifests or cuts.
        arguments: The arguments of the preparation, as values that JSON can represent.
    """
    (folder / ".completed").unlink(missing_ok=True)
    yield
    mark_prepared(folder, arguments)
