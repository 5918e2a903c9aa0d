"""Prepares the LRS3-TED corpus: about 438 hours of TED and TEDx talks (Afouras et al., arXiv 1809.00496).

This is the layout of the corpus folder; `lrs_text.py` shows a text file.

    pretrain/<talk>/00001.mp4 and .txt     longer clips, with the times of words
    trainval/<talk>/50001.mp4 and .txt     sentences of at most 100 letters
    test/<talk>/00001.mp4 and .txt         sentences of other talks
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrsparse.corpora.lrs import Clip, is_talker_and_number, prepare_clips

logger = logging.getLogger(__name__)

SUBSETS = ("pretrain", "trainval", "test")
NUM_VALID = 1200  # as many as AV-HuBERT's list has
LAYOUT = (
    "Expected are pretrain/<talk>/*.mp4 and .txt, and likewise trainval and test. The publishers of LRS3 no longer "
    "distribute it: this recipe is for those who have it."
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
    """Writes the manifests of LRS3's splits: dev is taken from trainval, train is pretrain and the rest of trainval.

    Args:
        corpus_dir: The corpus in its own layout (see the top of this file).
        output_dir: As for `lrs.prepare_clips`, like the other arguments that are not explained here.
        valid_ids: A file that lists the utterances of dev, one of trainval in each line, as AV-HuBERT and ESPnet
            publish it. Without one, 1,200 utterances are chosen by a hash of their names; these differ from theirs.
        pretrain: Whether to train on the subset pretrain, too; without it about 30 h are left.
        max_seconds: The longest segment in seconds into which clips of pretrain are split.
        video: As for `lrs.prepare_clips`.
        landmarks_dir: As for `lrs.prepare_clips`.
        num_jobs: As for `lrs.prepare_clips`.
        max_left_out: As for `lrs.prepare_clips`.

    Raises:
        ValueError: If the folder is not the corpus, the list names none of its utterances, too many clips are unusable,
            or a split would be empty.
    """
    subsets = find_clips(corpus_dir, SUBSETS if pretrain else SUBSETS[1:])
    dev = choose_dev(subsets["trainval"], None if valid_ids is None else Path(valid_ids))
    splits = {
        "train": [clip for subset in ("pretrain", "trainval") for clip in subsets.get(subset, []) if clip not in dev],
        "dev": [clip for clip in subsets["trainval"] if clip in dev],
        "test": subsets["test"],
    }
    prepare_clips("lrs3", splits, output_dir, max_seconds, video, landmarks_dir, num_jobs, max_left_out)


def find_clips(corpus_dir: Path, subsets: Sequence[str] = SUBSETS) -> Mapping[str, list[Clip]]:
    """Returns the clips of each subset that have a video or a text, sorted by name.

    Args:
        corpus_dir: The folder of the corpus.
        subsets: The names of the subsets.

    Raises:
        ValueError: If there is no such folder, or a subset is not in it.
    """
    if not corpus_dir.is_dir():
        raise ValueError(f"No folder {corpus_dir} with the LRS3 corpus. {LAYOUT}")
    found = {subset: _clips_of(corpus_dir, subset) for subset in subsets}
    missing = [subset for subset, clips in found.items() if not clips]
    if missing:
        remedy = " corpus.pretrain=false trains without pretrain." if missing == ["pretrain"] else ""
        raise ValueError(f"{corpus_dir} holds no clip of {' and '.join(missing)}. {LAYOUT}{remedy}")
    return found


def _clips_of(corpus_dir: Path, subset: str) -> list[Clip]:
    files = (path for path in (corpus_dir / subset).glob("*/*") if path.suffix in (".mp4", ".txt"))
    names = {f"{path.parent.name}/{path.stem}" for path in files}
    return [Clip(corpus_dir, subset, name) for name in sorted(names) if is_talker_and_number(name)]


def choose_dev(trainval: Sequence[Clip], valid_ids: Path | None) -> set[Clip]:
    """Returns the clips of dev.

    Args:
        trainval: The clips of trainval.
        valid_ids: A file that lists the clips of dev. Without one, 1,200 clips are chosen by a hash of their names, but
            not more than a tenth of all.

    Raises:
        ValueError: If there is no such file, a line is malformed, or none of the listed clips is in `trainval`.
    """
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
            "lrs3: trainval lacks %d of the %d utterances of %s: %s", len(unknown), len(names), valid_ids, shown
        )
    return {clips[name] for name in names if name in clips}


def read_valid_id(line: str, where: str) -> str:
    """Returns `talker/number` of a line of the form `trainval/talker/number` (AV-HuBERT) or `talker_number` (ESPnet).

    Args:
        line: The line.
        where: The place of the line, `file:number`, for messages.

    Raises:
        ValueError: If the line has neither form.

    Example:
        >>> read_valid_id("trainval/n706Sqp20Mk/50005", "list:1"), read_valid_id("Z_-706Sqp2k_50005", "list:2")
        ('n706Sqp20Mk/50005', 'Z_-706Sqp2k/50005')
    """
    match = re.fullmatch(r"\s*(?:(?:trainval/)?([\w-]+)/|([\w-]+)_)(\d+)(?:\.mp4)?\s*", line)
    if match is None:
        raise ValueError(f"{where}: got {line!r}, allowed are trainval/TALKER/NUMBER and TALKER_NUMBER.")
    return f"{match[1] or match[2]}/{match[3]}"
