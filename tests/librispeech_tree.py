"""A small corpus in the exact layout of LibriSpeech, made of utterances of the mini corpus.

To try the recipe on: `python tests/librispeech_tree.py DIR [MINUTES]` writes DIR/LibriSpeech with so many minutes for
training (10).
"""

import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut

SUBSETS = {"train": ["train-clean-100"], "dev": ["dev-clean", "dev-other"], "test": ["test-clean", "test-other"]}
"""The subsets that share the utterances of a split of the mini corpus."""
SUBSETS_960 = SUBSETS | {"train": ["train-clean-100", "train-clean-360", "train-other-500"]}

UTTERANCES_OF_CHAPTER = 5


def write_librispeech(
    folder: Path, cuts: Mapping[str, Iterable[MonoCut]], subsets: Mapping[str, list[str]] = SUBSETS
) -> None:
    """Writes the subsets and SPEAKERS.TXT."""
    lines = [";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for split, its_subsets in subsets.items():
        its_cuts = list(cuts[split])
        for number, subset in enumerate(its_subsets):
            lines += write_subset(
                folder / subset, its_cuts[number :: len(its_subsets)], first_speaker=100 * (len(lines) + 1)
            )
    (folder / "SPEAKERS.TXT").write_text("".join(f"{line}\n" for line in lines))


def write_subset(folder: Path, cuts: list[MonoCut], first_speaker: int) -> list[str]:
    """Writes one subset, and returns its lines of SPEAKERS.TXT."""
    lines = []
    for number, name in enumerate(sorted({cut.supervisions[0].speaker for cut in cuts})):
        speaker = first_speaker + number
        own = [cut for cut in cuts if cut.supervisions[0].speaker == name]
        for begin in range(0, len(own), UTTERANCES_OF_CHAPTER):
            write_chapter(folder / str(speaker) / str(1000 + begin), own[begin : begin + UTTERANCES_OF_CHAPTER])
        minutes = sum(cut.duration for cut in own) / 60
        lines.append(f"{speaker:<5}| F | {folder.name:<17}| {minutes:5.2f} | {name.title()}")
    return lines


def write_chapter(folder: Path, cuts: list[MonoCut]) -> None:
    """Writes FLAC files and the transcript of a chapter, `<subset>/<speaker>/<chapter>`."""
    folder.mkdir(parents=True)
    chapter = f"{folder.parent.name}-{folder.name}"
    lines = []
    for number, cut in enumerate(cuts):
        name = f"{chapter}-{number:04d}"
        samples = np.round(cut.load_audio()[0] * 32768).clip(-32768, 32767).astype(np.int16)
        soundfile.write(folder / f"{name}.flac", samples, 16_000)
        lines.append(f"{name} {cut.supervisions[0].text.upper()}\n")
    (folder / f"{chapter}.trans.txt").write_text("".join(lines))


def main(folder: Path, minutes: float = 10.0) -> None:
    """Speaks the mini corpus and writes it as LibriSpeech."""
    from asrsparse.corpora.manifests import SPLITS, read_split
    from asrsparse.corpora.mini import prepare_mini
    from asrsparse.data.cuts import make_cuts

    grammar_dir = Path(__file__).parents[1] / "data" / "mini"
    with tempfile.TemporaryDirectory() as spoken:
        prepare_mini(grammar_dir, Path(spoken), train_minutes=minutes, video=False)
        cuts = {split: make_cuts(*read_split(Path(spoken) / "manifests", split)) for split in SPLITS}
        write_librispeech(folder / "LibriSpeech", cuts, SUBSETS_960)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
