"""Small Kaldi data directories."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

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
