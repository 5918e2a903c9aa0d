"""Writes small Kaldi data directories, and prepares them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from asrsparse.corpora.kaldi import prepare_kaldi
from asrsparse.corpora.manifests import SPLITS, read_split

RATE = 16_000


def write_tone(path: Path, seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> Path:
    """A tone whose pitch depends on its name, at half of the full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 200 + 50 * (sum(path.name.encode()) % 20)
    tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype="PCM_16")
    return path


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files as they are given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def write_dir(folder: Path, speaker: str = "anna", number: int = 3, **files: str | bytes) -> Path:
    """A data directory of some utterances of two seconds, each a WAV file; `files` replace its own (wav_scp=...)."""
    names = [f"{speaker}-{index}" for index in range(number)]
    paths = {name: write_tone(folder / "wav" / f"{name}.wav") for name in names}
    return write_files(
        folder,
        {
            "wav.scp": "".join(f"{name} {path}\n" for name, path in paths.items()),
            "text": "".join(f"{name} bin blue {'now' if index % 2 else 'soon'}\n" for index, name in enumerate(names)),
            "utt2spk": "".join(f"{name} {speaker}\n" for name in names),
            "spk2utt": f"{speaker} {' '.join(names)}\n",
            **{name.replace("_", "."): content for name, content in files.items()},
        },
    )


def write_corpus(folder: Path) -> Path:
    """Writes the data directories train, dev and test, of three utterances each."""
    for split, speaker in zip(SPLITS, ("anna", "bert", "carl"), strict=True):
        write_dir(folder / split, speaker)
    return folder


def prepare(corpus: Path, **arguments):
    """Prepares the data directories of a corpus beside it, and returns the manifests of each split."""
    prepare_kaldi(corpus, corpus.parent / "prepared", num_jobs=1, **{"max_left_out": 0.0, **arguments})
    manifests = corpus.parent / "prepared" / "manifests"
    return {
        path.name.split("_")[0]: read_split(manifests, path.name.split("_")[0]) for path in manifests.glob("*_rec*")
    }


def reasons(corpus: Path, split: str) -> dict[str, str]:
    """Returns the ids of the utterances that a split leaves out, and the reasons."""
    lines = (corpus.parent / "prepared" / f"{split}_left_out.tsv").read_text().splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def samples(path: Path) -> np.ndarray:
    """Returns the 16-bit samples of a file."""
    return soundfile.read(path, dtype="int16")[0]
