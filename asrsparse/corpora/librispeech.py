"""Prepares the LibriSpeech corpus: about 960 hours of read English books (Panayotov et al., ICASSP 2015).

This is the layout of the corpus folder. The subsets may also be in a folder `LibriSpeech` in it.

    train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-0000.flac   16 kHz, one for each utterance
    train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt   lines `<speaker>-<chapter>-0000 WORDS`
    ...                                                                 likewise the other subsets
    SPEAKERS.TXT                                                        not read

FLAC files are read from where they are. lhotse's own `prepare_librispeech` skips missing files silently and stops at
the first damaged one. Here both are named and counted, and lhotse's `parse_utterance` reads the others.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.recipes.librispeech import LIBRISPEECH, download_librispeech, parse_utterance
from rich.progress import track

from asrsparse.corpora.left_out import LeftOut, LeftOutUtterance
from asrsparse.corpora.manifests import is_prepared, preparing, splits_with, write_split

logger = logging.getLogger(__name__)

TRAINING_SUBSETS = {100: ("train-clean-100",), 960: ("train-clean-100", "train-clean-360", "train-other-500")}
"""Maps hours of training data to the subsets that have them."""

DEV_SUBSETS = ("dev-clean", "dev-other")
"""The subsets that together are dev, as in icefall and ESPnet."""

LAYOUT = (
    "Expected are train-clean-100, dev-clean, dev-other, test-clean, test-other and, for 960 h, train-clean-360 and "
    "train-other-500, each with <speaker>/<chapter>/*.flac and *.trans.txt. The archives are at "
    "https://www.openslr.org/12; corpus.download=true downloads the missing ones."
)
_LINE = re.compile(r"(\d+-\d+-\d+)(?:\s+(.*))?")


def prepare_librispeech(
    corpus_dir: Path,
    output_dir: Path,
    hours: int = 960,
    test_splits: Sequence[str] = ("dev-clean", "dev-other", "test-clean", "test-other"),
    download: bool = False,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """Writes the manifests of train, of dev (dev-clean and dev-other together) and of each test set.

    A second call with the same arguments and the same files returns at once.

    Args:
        corpus_dir: The corpus in its own layout (see the top of this file).
        output_dir: The folder that gets `manifests/`.
        hours: The hours of training data, 100 or 960.
        test_splits: The subsets that are test sets, in the order of reports.
        download: Whether to download missing subsets into `corpus_dir`: 7 GB with 100 h, 60 GB with 960 h.
        num_jobs: The number of threads that read headers; by default as many as Python's `ThreadPoolExecutor` chooses.
        max_left_out: The largest share of the utterances of a split that may be unusable.

    Raises:
        ValueError: If an argument is wrong, a subset is missing, a transcript is malformed, or too many utterances of a
            split are unusable.
    """
    subsets_of = choose_subsets(hours, test_splits)
    subsets = sorted({subset for subsets in subsets_of.values() for subset in subsets})
    if download:
        download_subsets(corpus_dir, subsets)
    root = find_root(corpus_dir, subsets)
    arguments = {
        "files": _fingerprint(root, subsets),
        "subsets": {split: list(subsets) for split, subsets in subsets_of.items()},
        "max_left_out": max_left_out,
    }
    manifest_dir = output_dir / "manifests"
    older = {"parts" if key == "subsets" else key: value for key, value in arguments.items()}
    if is_prepared(manifest_dir, arguments, older):
        return
    with preparing(manifest_dir, arguments):
        for split, its_subsets in subsets_of.items():
            left_out = LeftOut(f"librispeech {split}", max_left_out)
            utterances = [
                utterance for subset in its_subsets for utterance in read_subset(root / subset, left_out, num_jobs)
            ]
            left_out.close(len(utterances) + len(left_out.utterances), output_dir / f"{split}_left_out.tsv")
            recordings, supervisions = zip(*utterances, strict=True)
            write_split(
                manifest_dir,
                split,
                RecordingSet.from_recordings(recordings),
                SupervisionSet.from_segments(supervisions),
            )


def choose_subsets(hours: int, test_splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the subsets of each split.

    Args:
        hours: The hours of training data, 100 or 960.
        test_splits: The subsets that are test sets.

    Raises:
        ValueError: If there are no such subsets.

    Example:
        >>> choose_subsets(100, ["test-clean"])
        {'train': ('train-clean-100',), 'dev': ('dev-clean', 'dev-other'), 'test-clean': ('test-clean',)}
    """
    if hours not in TRAINING_SUBSETS:
        raise ValueError(f"corpus.hours: got {hours}, allowed are {' and '.join(map(str, TRAINING_SUBSETS))}.")
    unknown = [subset for subset in test_splits if subset not in LIBRISPEECH or subset.startswith("train")]
    if unknown:
        known = [subset for subset in LIBRISPEECH if not subset.startswith("train")]
        raise ValueError(
            f"corpus.test_splits: got {', '.join(unknown)}, allowed for LibriSpeech are {', '.join(known)}."
        )
    subsets = {"train": TRAINING_SUBSETS[hours], "dev": DEV_SUBSETS} | {subset: (subset,) for subset in test_splits}
    return {split: subsets[split] for split in splits_with(test_splits)}


def download_subsets(corpus_dir: Path, subsets: Sequence[str]) -> None:
    """Downloads subsets with lhotse and unpacks them in `corpus_dir/LibriSpeech`; existing subsets are not changed.

    An interrupted download continues where it stopped.

    Args:
        corpus_dir: The folder of the corpus.
        subsets: The names of the subsets.
    """
    missing = [subset for subset in subsets if _is_missing(corpus_dir, subset)]
    if missing:
        logger.info("downloading %s to %s", ", ".join(missing), corpus_dir)
        download_librispeech(corpus_dir, missing)


def _is_missing(corpus_dir: Path, subset: str) -> bool:
    """Returns whether a subset must be downloaded: it is not there, or lhotse has begun to unpack it and not finished.

    lhotse deletes a folder that it did not finish, so it must not be called for folders that the user made.
    """
    unfinished = (corpus_dir / f"{subset}.tar.gz").is_file()
    folder = corpus_dir / "LibriSpeech" / subset
    there = folder.is_dir() or (corpus_dir / subset).is_dir()
    return not there or (unfinished and not (folder / ".completed").is_file())


def find_root(corpus_dir: Path, subsets: Sequence[str]) -> Path:
    """Returns the folder that holds the subsets: `LibriSpeech` in `corpus_dir`, if there is one, or `corpus_dir`.

    Raises:
        ValueError: If a subset is missing there.
    """
    root = corpus_dir / "LibriSpeech" if (corpus_dir / "LibriSpeech").is_dir() else corpus_dir
    missing = [subset for subset in subsets if not (root / subset).is_dir()]
    if missing:
        raise ValueError(f"{root} does not hold {', '.join(missing)}. {LAYOUT}")
    return root


def _fingerprint(root: Path, subsets: Sequence[str]) -> str:
    """Returns a hash of the transcripts and of the names of the FLAC files."""
    digest = hashlib.blake2b(str(root).encode(), digest_size=8)
    for subset in subsets:
        for path in sorted((root / subset).rglob("*.flac")):
            digest.update(f"{path.name}\n".encode())
        for path in sorted((root / subset).rglob("*.trans.txt")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_subset(
    folder: Path, left_out: LeftOut, num_jobs: int | None = None
) -> list[tuple[Recording, SupervisionSegment]]:
    """Reads the transcripts of a subset and the headers of its FLAC files.

    Args:
        folder: The folder of the subset, such as `LibriSpeech/dev-clean`.
        left_out: Gets the utterances that have no words or no file, or whose file is damaged.
        num_jobs: The number of threads; by default as many as Python's `ThreadPoolExecutor` chooses.

    Returns:
        The other utterances, sorted by id.

    Raises:
        ValueError: If a transcript is malformed.
    """
    lines = [line for path in sorted(folder.rglob("*.trans.txt")) for line in read_transcript(path)]
    with ThreadPoolExecutor(num_jobs) as pool:
        results = pool.map(partial(_read_utterance, folder), lines)
        read = list(track(results, f"Reading {folder.name}", total=len(lines)))
    for bad in read:
        if isinstance(bad, LeftOutUtterance):
            left_out.add(bad.utterance_id, bad.reason)
    return [utterance for utterance in read if not isinstance(utterance, LeftOutUtterance)]


def read_transcript(path: Path) -> Iterator[str]:
    """Yields the lines of a transcript, `speaker-chapter-number WORDS`.

    Raises:
        ValueError: If a line does not begin with such an id; its numbers name the folders of the FLAC file.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not _LINE.fullmatch(line.strip()):
            raise ValueError(f"{path}:{number}: got {line!r}, expected SPEAKER-CHAPTER-NUMBER WORDS.")
        yield line.strip()


def _read_utterance(folder: Path, line: str) -> tuple[Recording, SupervisionSegment] | LeftOutUtterance:
    name, _, words = line.partition(" ")
    if not words.strip():
        return LeftOutUtterance(name, "no words", 0.0)
    if not (file := flac(folder, name)).is_file():
        return LeftOutUtterance(name, f"no file: {file}", 0.0)
    try:
        recording, supervision = parse_utterance(folder, line, {})
    except Exception as error:  # lhotse and its audio backends raise many kinds, and all of them mean this
        return LeftOutUtterance(name, f"audio does not decode: {file}: {str(error)[:100]!r}", 0.0)
    return recording, supervision


def flac(folder: Path, name: str) -> Path:
    """Returns the FLAC file of an utterance.

    Args:
        folder: The folder of the subset.
        name: The id of the utterance.

    Example:
        >>> str(flac(Path("dev-clean"), "84-121123-0000"))
        'dev-clean/84/121123/84-121123-0000.flac'
    """
    speaker, chapter, _ = name.split("-")
    return folder / speaker / chapter / f"{name}.flac"
