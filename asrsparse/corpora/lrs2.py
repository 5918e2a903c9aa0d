"""Prepares the LRS2-BBC corpus: about 224 hours from British television (Afouras et al., arXiv 1809.02108).

This is the layout of the corpus folder. The lists may also be in `mvlrs_v1`; `lrs_text.py` shows a text file.

    mvlrs_v1/pretrain/<programme>/00001.mp4 and .txt     longer clips, with the times of words
    mvlrs_v1/main/<programme>/00001.mp4 and .txt         sentences of at most 100 letters
    pretrain.txt                                         lines `<programme>/00001`, clips of pretrain
    train.txt val.txt test.txt                           likewise, clips of main; the rest of a line is not read
"""

from collections.abc import Mapping
from pathlib import Path

from asrsparse.corpora.lrs import Clip, is_talker_and_number, prepare_clips

LISTS = {
    "pretrain": ("train", "pretrain"),
    "train": ("train", "main"),
    "val": ("dev", "main"),
    "test": ("test", "main"),
}
"""Maps each list to its split and its subset."""

LAYOUT = (
    "Expected are mvlrs_v1/main/<programme>/*.mp4 and .txt, likewise mvlrs_v1/pretrain, and the lists pretrain.txt, "
    "train.txt, val.txt and test.txt beside mvlrs_v1 or in it. The BBC gives LRS2 to universities that sign its "
    "form: https://www.bbc.co.uk/rd/projects/lip-reading-datasets."
)


def prepare_lrs2(
    corpus_dir: Path,
    output_dir: Path,
    pretrain: bool = True,
    max_seconds: float = 24.0,
    video: bool = True,
    landmarks_dir: Path | None = None,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """Writes the manifests of LRS2's splits, by its own lists: train is pretrain.txt and train.txt, dev is val.txt.

    Args:
        corpus_dir: The corpus in its own layout (see the top of this file).
        output_dir: As for `lrs.prepare_clips`, like the other arguments that are not explained here.
        pretrain: Whether to train on the subset pretrain, too; without it about 28 h are left.
        max_seconds: The longest segment in seconds into which clips of pretrain are split.
        video: As for `lrs.prepare_clips`.
        landmarks_dir: As for `lrs.prepare_clips`.
        num_jobs: As for `lrs.prepare_clips`.
        max_left_out: As for `lrs.prepare_clips`.

    Raises:
        ValueError: If the folder is not the corpus, a list is malformed, too many clips are unusable, or a split would
            be empty.
    """
    splits = find_splits(corpus_dir, pretrain)
    prepare_clips("lrs2", splits, output_dir, max_seconds, video, landmarks_dir, num_jobs, max_left_out)


def find_splits(corpus_dir: Path, pretrain: bool = True) -> Mapping[str, list[Clip]]:
    """Returns the clips of train, dev and test, as the lists name them.

    Args:
        corpus_dir: The folder of the corpus.
        pretrain: Whether to train on the subset pretrain, too.

    Raises:
        ValueError: If there is no such folder, the videos or a list are not in it, or a line of a list is malformed.
    """
    root = corpus_dir / "mvlrs_v1"
    if not (root / "main").is_dir():
        raise ValueError(f"No folder {root / 'main'}: {corpus_dir} is not LRS2. {LAYOUT}")
    splits: dict[str, list[Clip]] = {"train": [], "dev": [], "test": []}
    for name, (split, subset) in LISTS.items():
        if name != "pretrain" or pretrain:
            splits[split] += [Clip(root, subset, clip) for clip in read_list(_find_list(corpus_dir, name))]
    return splits


def _find_list(corpus_dir: Path, name: str) -> Path:
    for folder in (corpus_dir, corpus_dir / "mvlrs_v1"):
        if (folder / f"{name}.txt").is_file():
            return folder / f"{name}.txt"
    remedy = " corpus.pretrain=false trains without pretrain." if name == "pretrain" else ""
    raise ValueError(f"{corpus_dir} holds no list {name}.txt. {LAYOUT}{remedy}")


def read_list(path: Path) -> list[str]:
    """Returns the `programme/number` of each line of a list, each once, in their order.

    Raises:
        ValueError: If a line does not begin with `programme/number`.
    """
    names: dict[str, None] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            name = line.split()[0]
            if not is_talker_and_number(name):
                raise ValueError(f"{path}:{number}: got {line!r}, expected PROGRAMME/NUMBER.")
            names[name] = None
    return list(names)
