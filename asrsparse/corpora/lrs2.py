"""The LRS2-BBC corpus: sentences from British television (Afouras et al., arXiv 1809.02108); about 224 hours.

Layout of the corpus folder; the lists may lie in `mvlrs_v1`, too, and `lrs.py` shows a text file:

    mvlrs_v1/pretrain/<programme>/00001.mp4 and .txt     longer stretches, with the times of words
    mvlrs_v1/main/<programme>/00001.mp4 and .txt         sentences of at most 100 letters
    pretrain.txt train.txt val.txt test.txt              lines `<programme>/00001`, of main but for the first; what
                                                         follows on a line is not read
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
"""The split and the part of each list."""

LAYOUT = (
    "Expected are mvlrs_v1/main/<programme>/*.mp4 and .txt, likewise mvlrs_v1/pretrain, and the lists pretrain.txt, "
    "train.txt, val.txt and test.txt beside mvlrs_v1 or in it. The BBC hands LRS2 out to universities, who sign its "
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
        output_dir: Where manifests, sound and mouths go, see `prepare_clips`.
        pretrain: Whether to train on the part pretrain, too; without it about 28 h are left.
        max_seconds: The longest segment into which clips of pretrain are cut.
        video: Whether to make the mouths.
        landmarks_dir: Where the mouths are, see `prepare_clips`; by default the faces are looked for.
        num_jobs: Number of processes that decode; by default one for each core.
        max_left_out: The largest share of clips that may be unusable before this stops.

    Raises:
        ValueError: If the folder is not the corpus, a list is malformed, too many clips are unusable, or a split would
            be empty.
    """
    splits = find_splits(corpus_dir, pretrain)
    prepare_clips("lrs2", splits, output_dir, max_seconds, video, landmarks_dir, num_jobs, max_left_out)


def find_splits(corpus_dir: Path, pretrain: bool = True) -> Mapping[str, list[Clip]]:
    """The clips of train, dev and test, as the lists name them.

    Raises:
        ValueError: If there is no such folder, the videos or a list are not in it, or a line of a list is malformed.
    """
    root = corpus_dir / "mvlrs_v1"
    if not (root / "main").is_dir():
        raise ValueError(f"No folder {root / 'main'}: {corpus_dir} is not LRS2. {LAYOUT}")
    splits: dict[str, list[Clip]] = {"train": [], "dev": [], "test": []}
    for name, (split, part) in LISTS.items():
        if name != "pretrain" or pretrain:
            splits[split] += [Clip(root, part, clip) for clip in read_list(_find_list(corpus_dir, name))]
    return splits


def _find_list(corpus_dir: Path, name: str) -> Path:
    for folder in (corpus_dir, corpus_dir / "mvlrs_v1"):
        if (folder / f"{name}.txt").is_file():
            return folder / f"{name}.txt"
    remedy = " corpus.pretrain=false trains without pretrain." if name == "pretrain" else ""
    raise ValueError(f"{corpus_dir} holds no list {name}.txt. {LAYOUT}{remedy}")


def read_list(path: Path) -> list[str]:
    """Reads a list: `programme/number` of each line, each once, in their order.

    Raises:
        ValueError: If a line does not begin with one.
    """
    names: dict[str, None] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            name = line.split()[0]
            if not is_talker_and_number(name):
                raise ValueError(f"{path}:{number}: got {line!r}, expected PROGRAMME/NUMBER.")
            names[name] = None
    return list(names)
