"""The LibriSpeech corpus: about 960 hours of read English books (Panayotov et al., ICASSP 2015).

Layout of the corpus folder, in which the parts may also lie in a folder `LibriSpeech`:

    train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-0000.flac   16 kHz, one for each utterance
    train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt   lines `<speaker>-<chapter>-0000 WORDS`
    ...                                                                 likewise each part of `PARTS_OF` and `DEV`
    SPEAKERS.TXT                                                        not read

FLAC files are read where they lie. lhotse's own `prepare_librispeech` passes over missing files and ends at the first
damaged one; here they are named and counted, and its `parse_utterance` reads the others.
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

PARTS_OF = {100: ("train-clean-100",), 960: ("train-clean-100", "train-clean-360", "train-other-500")}
"""The training parts by hours."""

DEV = ("dev-clean", "dev-other")
"""Together they are dev, as in icefall and ESPnet."""

LAYOUT = (
    "Expected are train-clean-100, dev-clean, dev-other, test-clean, test-other and, for 960 h, train-clean-360 and "
    "train-other-500, each with <speaker>/<chapter>/*.flac and *.trans.txt. The archives are at "
    "https://www.openslr.org/12; corpus.download=true fetches those that are not there."
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
        output_dir: Where `manifests/` goes.
        hours: Of training: 100 or 960.
        test_splits: Parts that are decoded, in the order of reports.
        download: Whether to fetch what is not there into `corpus_dir`: 30 GB with 100 h, 60 GB with 960 h.
        num_jobs: Number of threads that read headers.
        max_left_out: The largest share of a split that may be unusable before this stops.

    Raises:
        ValueError: If an argument is wrong, a part of the corpus is not there, a transcript is malformed, or too many
            utterances of a split are unusable.
    """
    parts_of = choose_parts(hours, test_splits)
    parts = sorted({part for parts in parts_of.values() for part in parts})
    if download:
        download_parts(corpus_dir, parts)
    root = find_root(corpus_dir, parts)
    arguments = {
        "files": _fingerprint(root, parts),
        "parts": {split: list(parts) for split, parts in parts_of.items()},
        "max_left_out": max_left_out,
    }
    manifest_dir = output_dir / "manifests"
    if is_prepared(manifest_dir, arguments):
        return
    with preparing(manifest_dir, arguments):
        for split, its_parts in parts_of.items():
            left_out = LeftOut(f"librispeech {split}", max_left_out)
            utterances = [utterance for part in its_parts for utterance in read_part(root / part, left_out, num_jobs)]
            left_out.close(len(utterances) + len(left_out.utterances), output_dir / f"{split}_left_out.tsv")
            recordings, supervisions = zip(*utterances, strict=True)
            write_split(
                manifest_dir,
                split,
                RecordingSet.from_recordings(recordings),
                SupervisionSet.from_segments(supervisions),
            )


def choose_parts(hours: int, test_splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The parts of each split.

    Raises:
        ValueError: If there are no such parts.

    Example:
        >>> choose_parts(100, ["test-clean"])
        {'train': ('train-clean-100',), 'dev': ('dev-clean', 'dev-other'), 'test-clean': ('test-clean',)}
    """
    if hours not in PARTS_OF:
        raise ValueError(f"corpus.hours: got {hours}, allowed are {' and '.join(map(str, PARTS_OF))}.")
    unknown = [part for part in test_splits if part not in LIBRISPEECH or part.startswith("train")]
    if unknown:
        known = [part for part in LIBRISPEECH if not part.startswith("train")]
        raise ValueError(f"corpus.test_splits: got {', '.join(unknown)}, allowed for LibriSpeech are {known}.")
    parts = {"train": PARTS_OF[hours], "dev": DEV} | {part: (part,) for part in test_splits}
    return {split: parts[split] for split in splits_with(test_splits)}


def download_parts(corpus_dir: Path, parts: Sequence[str]) -> None:
    """Fetches parts with lhotse, and unpacks them in `corpus_dir/LibriSpeech`; what is there is left alone.

    An interrupted download goes on where it stopped.

    Args:
        corpus_dir: Where the corpus shall lie.
        parts: Names of parts.
    """
    missing = [part for part in parts if _is_missing(corpus_dir, part)]
    if missing:
        logger.info("downloading %s to %s", ", ".join(missing), corpus_dir)
        download_librispeech(corpus_dir, missing)


def _is_missing(corpus_dir: Path, part: str) -> bool:
    """Whether a part is to be fetched. lhotse deletes a folder that it did not finish, so never one of the user's."""
    unfinished = (corpus_dir / f"{part}.tar.gz").is_file()
    folder = corpus_dir / "LibriSpeech" / part
    there = folder.is_dir() or (corpus_dir / part).is_dir()
    return not there or (unfinished and not (folder / ".completed").is_file())


def find_root(corpus_dir: Path, parts: Sequence[str]) -> Path:
    """The folder that holds the parts: `corpus_dir`, or `LibriSpeech` in it.

    Raises:
        ValueError: If a part is in neither.
    """
    root = corpus_dir / "LibriSpeech" if (corpus_dir / "LibriSpeech").is_dir() else corpus_dir
    missing = [part for part in parts if not (root / part).is_dir()]
    if missing:
        raise ValueError(f"{root} does not hold {', '.join(missing)}. {LAYOUT}")
    return root


def _fingerprint(root: Path, parts: Sequence[str]) -> str:
    """A hash of the transcripts, and of which FLAC files there are."""
    digest = hashlib.blake2b(str(root).encode(), digest_size=8)
    for part in parts:
        for path in sorted((root / part).rglob("*.flac")):
            digest.update(f"{path.name}\n".encode())
        for path in sorted((root / part).rglob("*.trans.txt")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_part(
    folder: Path, left_out: LeftOut, num_jobs: int | None = None
) -> list[tuple[Recording, SupervisionSegment]]:
    """Reads the transcripts of a part and the headers of its FLAC files.

    Args:
        folder: Such as `LibriSpeech/dev-clean`.
        left_out: Takes what has no words, no file, or a damaged one.
        num_jobs: Number of threads.

    Returns:
        The others, in the order of their ids' letters.

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
    """The lines of a transcript, `speaker-chapter-number WORDS`.

    Raises:
        ValueError: If a line does not begin with such an id, whose parts name the folders of its file.
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
    except Exception as error:  # lhotse and its audio backends raise many kinds, and all mean this
        return LeftOutUtterance(name, f"audio does not decode: {file}: {str(error)[:100]!r}", 0.0)
    return recording, supervision


def flac(folder: Path, name: str) -> Path:
    """The file of an utterance of a part.

    Example:
        >>> str(flac(Path("dev-clean"), "84-121123-0000"))
        'dev-clean/84/121123/84-121123-0000.flac'
    """
    speaker, chapter, _ = name.split("-")
    return folder / speaker / chapter / f"{name}.flac"
