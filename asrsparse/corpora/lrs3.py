"""The LRS3-TED corpus: sentences from TED and TEDx talks (Afouras et al., arXiv 1809.00496); about 438 hours.

Layout of the corpus folder; `lrs.py` shows a text file:

    pretrain/<talk>/00001.mp4 and .txt     longer stretches, with the times of words
    trainval/<talk>/50001.mp4 and .txt     sentences of at most 100 letters
    test/<talk>/00001.mp4 and .txt         of talks that the other two have none of
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrsparse.corpora.lrs import Clip, is_talker_and_number, prepare_clips

logger = logging.getLogger(__name__)

PARTS = ("pretrain", "trainval", "test")
NUM_VALID = 1200  # as many as AV-HuBERT's list has
LAYOUT = (
    "Expected are pretrain/<talk>/*.mp4 and .txt, and likewise trainval and test. LRS3 is no longer handed out by its "
    "publishers: this recipe is for those who have it."
)


def prepare_lrs3(
    corpus_dir: Path,
    output_dir: Path,
    valid_ids: str | Path | None = None,
    pretrain: bool = True,
    max_seconds: float = 24.0,
    video: bool = True,
    landmarks_dir: Path | None = None,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """Writes the manifests of LRS3's splits: train is pretrain and trainval without dev, dev a part of trainval.

    Args:
        corpus_dir: The corpus in its own layout (see the top of this file).
        output_dir: Where manifests, sound and mouths go, see `prepare_clips`.
        valid_ids: A list of dev, one utterance of trainval a line, as AV-HuBERT and ESPnet hand it out; without one,
            1,200 of them are chosen by a hash of their names, which are others than theirs.
        pretrain: Whether to train on the part pretrain, too; without it about 30 h are left.
        max_seconds: The longest segment into which clips of pretrain are cut.
        video: Whether to make the mouths.
        landmarks_dir: Where the mouths are, see `prepare_clips`; by default the faces are looked for.
        num_jobs: Number of processes that decode; by default one for each core.
        max_left_out: The largest share of clips that may be unusable before this stops.

    Raises:
        ValueError: If the folder is not the corpus, the list is not one of its utterances, too many clips are unusable,
            or a split would be empty.
    """
    parts = find_clips(corpus_dir, PARTS if pretrain else PARTS[1:])
    dev = choose_dev(parts["trainval"], None if valid_ids is None else Path(valid_ids))
    splits = {
        "train": [clip for part in ("pretrain", "trainval") for clip in parts.get(part, []) if clip not in dev],
        "dev": [clip for clip in parts["trainval"] if clip in dev],
        "test": parts["test"],
    }
    prepare_clips("lrs3", splits, output_dir, max_seconds, video, landmarks_dir, num_jobs, max_left_out)


def find_clips(corpus_dir: Path, parts: Sequence[str] = PARTS) -> Mapping[str, list[Clip]]:
    """Lists the clips of each part, sorted: all that have a video or a text.

    Raises:
        ValueError: If there is no such folder, or a part of the corpus is not in it.
    """
    if not corpus_dir.is_dir():
        raise ValueError(f"No folder {corpus_dir} with the LRS3 corpus. {LAYOUT}")
    found = {part: _clips_of(corpus_dir, part) for part in parts}
    missing = [part for part, clips in found.items() if not clips]
    if missing:
        remedy = " corpus.pretrain=false trains without pretrain." if missing == ["pretrain"] else ""
        raise ValueError(f"{corpus_dir} holds no clip of {' and '.join(missing)}. {LAYOUT}{remedy}")
    return found


def _clips_of(corpus_dir: Path, part: str) -> list[Clip]:
    files = (path for path in (corpus_dir / part).glob("*/*") if path.suffix in (".mp4", ".txt"))
    names = {f"{path.parent.name}/{path.stem}" for path in files}
    return [Clip(corpus_dir, part, name) for name in sorted(names) if is_talker_and_number(name)]


def choose_dev(trainval: Sequence[Clip], valid_ids: Path | None) -> set[Clip]:
    """The clips of dev: those of a list, or 1,200 of trainval by a hash of their names, a tenth of it at most."""
    if valid_ids is not None:
        return _listed(trainval, valid_ids)
    by_hash = sorted(trainval, key=lambda clip: hashlib.blake2b(clip.name.encode(), digest_size=8).digest())
    return set(by_hash[: min(NUM_VALID, -(-len(trainval) // 10))])


def _listed(trainval: Sequence[Clip], valid_ids: Path) -> set[Clip]:
    if not valid_ids.is_file():
        raise ValueError(f"corpus.valid_ids: no file {valid_ids}. Name a list, or leave it out (null).")
    clips = {clip.name: clip for clip in trainval}
    lines = valid_ids.read_text(encoding="utf-8", errors="replace").split("\n")
    names = [read_valid_id(line, f"{valid_ids}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    unknown = [name for name in names if name not in clips]
    if len(unknown) == len(names):
        raise ValueError(f"{valid_ids} names no utterance of trainval; its first line is {lines[0]!r}. Is it LRS3's?")
    if unknown:
        shown = ", ".join(unknown[:5])
        logger.warning(
            "lrs3: trainval has %d of the %d utterances of %s not: %s", len(unknown), len(names), valid_ids, shown
        )
    return {clips[name] for name in names if name in clips}


def read_valid_id(line: str, where: str) -> str:
    """`talker/number` of a line, which is `trainval/talker/number` (AV-HuBERT) or `talker_number` (ESPnet).

    Raises:
        ValueError: If it is neither.

    Example:
        >>> read_valid_id("trainval/n706Sqp20Mk/50005", "list:1"), read_valid_id("Z_-706Sqp2k_50005", "list:2")
        ('n706Sqp20Mk/50005', 'Z_-706Sqp2k/50005')
    """
    match = re.fullmatch(r"\s*(?:(?:trainval/)?([\w-]+)/|([\w-]+)_)(\d+)(?:\.mp4)?\s*", line)
    if match is None:
        raise ValueError(f"{where}: got {line!r}, allowed are trainval/TALKER/NUMBER and TALKER_NUMBER.")
    return f"{match[1] or match[2]}/{match[3]}"
