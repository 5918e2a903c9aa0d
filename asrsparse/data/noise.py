"""Noise that is mixed into speech at a given ratio of signal to noise: babble, which is many voices at once.

`NOISE_TYPES` says for each name how its files are made. There are two files of each type, one for each use: the noise
of `babble_train.flac` is made of utterances of train, that of `babble_test.flac` of utterances of dev. So no model was
trained on the noise that it is tested in, and no utterance of a test set is part of its own noise.

Shape legend: B utterances, T samples.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path
from asrsparse.files import atomic_path

Samples = NDArray[np.float32]

NUM_VOICES = 20
"""The number of voices that speak at once in babble; from about eight on, no single one is understood."""

BABBLE_SECONDS = 60.0
_PEAK = 0.9
_SILENCE = 1e-6


def write_babble(path: Path, cuts: CutIndex, seed: int = 0) -> None:
    """Writes a minute of babble: voices that each say one utterance after another, all equally loud.

    Where there are fewer utterances than the voices need, other voices repeat them at other times.

    Args:
        path: The file to write, `*.flac`.
        cuts: The utterances whose audio is used, in random order.
        seed: The seed of that order.

    Raises:
        ValueError: If the audio of all cuts is silent.
    """
    spoken = _speak(cuts, np.random.default_rng(seed))
    rate, first = next(spoken)
    babble = np.zeros(int(BABBLE_SECONDS * rate), np.float32)
    voices = chain([first], (samples for _, samples in spoken))
    for _ in range(NUM_VOICES):
        babble += _voice(voices, len(babble))
    if not babble.any():
        raise ValueError(f"{path}: no babble can be made, since the utterances for it are silent.")
    with atomic_path(path) as temporary:
        soundfile.write(temporary, babble * (_PEAK / np.abs(babble).max()), rate, subtype="PCM_16")


def _speak(cuts: CutIndex, rng: np.random.Generator) -> Iterator[tuple[int, Samples]]:
    """Yields utterances in random order, again and again: samples per second, and samples (T,) of mean power 1."""
    while True:
        for row in rng.permutation(len(cuts)):
            (cut,) = cuts.read([row])
            samples = cut.load_audio().mean(axis=0)
            yield cut.sampling_rate, samples / max(np.sqrt(power(samples)), _SILENCE)


def _voice(spoken: Iterator[Samples], num_samples: int) -> Samples:
    """Returns `num_samples` samples of one utterance after another."""
    said: list[Samples] = []
    while sum(map(len, said)) < num_samples:
        said.append(next(spoken))
    return np.concatenate(said)[:num_samples]


def power(samples: Samples) -> float:
    """Returns the mean square of samples.

    Example:
        >>> power(np.array([1.0, -3.0], np.float32))
        5.0
    """
    return float(np.mean(np.square(samples, dtype=np.float64)))


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise to speech at a ratio of their mean powers.

    Args:
        speech: The speech (T,); silence stays as it is, since no ratio is defined for it.
        noise: The noise (T,), which is not silent.
        snr_db: Ten times the decimal logarithm of the ratio.

    Returns:
        The sum (T,); speech keeps its level, so that the sum may exceed 1.

    Example:
        >>> mix(np.array([1.0, 1.0], np.float32), np.array([2.0, -2.0], np.float32), snr_db=0.0).tolist()
        [2.0, 0.0]
    """
    gain = np.float32(np.sqrt(power(speech) / power(noise) / 10 ** (snr_db / 10)))
    mixed: Samples = speech + gain * noise
    return mixed


@dataclass(frozen=True)
class NoiseType:
    """How the files of one type of noise are made.

    Attributes:
        write: Writes a file of noise, made of the audio of some cuts.
        split_of_use: The split whose utterances are in the noise, for the uses `train` and `test`.
    """

    write: Callable[[Path, CutIndex], None]
    split_of_use: Mapping[str, str]


BABBLE = "babble"

NOISE_TYPES = {BABBLE: NoiseType(write_babble, {"train": "train", "test": "dev"})}
"""All types of noise by their names, which are lower-case letters; a new type is a line here."""


def prepare_noise(cuts_dir: Path, name: str, use: str) -> Path:
    """Returns the file of a noise for one use; it is made when it is missing or older than its cuts.

    Args:
        cuts_dir: The folder of the prepared cuts, which also gets the files of noise.
        name: A name in `NOISE_TYPES`.
        use: `train` or `test`.

    Raises:
        ValueError: If there is no noise of this name, or there are no cuts to make it of, or they are silent.
    """
    if name not in NOISE_TYPES:
        raise ValueError(f"name: got the noise {name!r}, allowed are {', '.join(sorted(NOISE_TYPES))}.")
    noise = NOISE_TYPES[name]
    path, cuts = cuts_dir / f"{name}_{use}.flac", CutIndex.open(cuts_path(cuts_dir, noise.split_of_use[use]))
    if not path.is_file() or path.stat().st_mtime_ns < cuts.path.stat().st_mtime_ns:
        noise.write(path, cuts)
    return path


class Noise(Protocol):
    """Noise for the waveforms of a batch."""

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Mixes noise into waveforms (B, T) with their lengths (B,), in place."""


@dataclass(frozen=True)
class NoNoise:
    """No noise: the null object of `Noise`."""

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Leaves the waveforms as they are."""


QUIET = NoNoise()


@dataclass(frozen=True)
class FileNoise:
    """Noise of a file; what an utterance gets depends on the seed, the epoch and its id alone.

    So it is the same on every rank, in every loader process and after a resume.

    Args:
        path: The file of `prepare_noise`, of one channel and with the sampling rate of the speech.
        snr_db: The lowest and the highest ratio in dB; each utterance draws its own ratio between them.
        share: The share of the utterances that get noise, in [0, 1]; the others stay clean.
        seed: The seed of the draws.

    Raises:
        ValueError: If a value is outside its range, or (at first use) the file is missing, silent or damaged.
    """

    path: Path
    snr_db: tuple[float, float]
    share: float
    seed: int

    def __post_init__(self) -> None:
        lowest, highest = self.snr_db
        if not -60.0 <= lowest <= highest <= 60.0:
            raise ValueError(f"snr_db: got {lowest} to {highest}, allowed are -60 to 60 dB, the lowest first.")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share: got {self.share}, allowed is [0, 1].")

    @cached_property
    def _samples(self) -> Samples:
        """The samples of the file (T,)."""
        try:
            samples: Samples = soundfile.read(self.path, dtype="float32")[0]
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(f"No noise {self.path} ({error}). Delete it; the next run makes it again.") from None
        if samples.ndim != 1 or not samples.any():
            raise ValueError(
                f"{self.path} is silent or has several channels, allowed is noise of one channel. Delete it; the next "
                "run makes it again."
            )
        return samples

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Mixes noise into waveforms, in place.

        Args:
            audio: Waveforms (B, T), zero behind `audio_lens`.
            audio_lens: Samples of each utterance (B,).
            ids: B utterance ids.
            epoch: The epoch; in each one the draws are others.
        """
        for row, length, name in zip(audio, audio_lens.tolist(), ids, strict=True):
            rng = np.random.default_rng([self.seed, epoch, *_number(name)])
            drawn, ratio, place = rng.random(3)
            if drawn < self.share:
                lowest, highest = self.snr_db
                speech = row[:length].numpy()
                speech[:] = mix(speech, self._stretch(place, length), lowest + ratio * (highest - lowest))

    def _stretch(self, place: float, length: int) -> Samples:
        """Returns `length` samples of the noise from a place in [0, 1) on; behind its end it begins again."""
        stretch: Samples = self._samples.take(np.arange(length) + int(place * len(self._samples)), mode="wrap")
        return stretch


def _number(name: str) -> Iterable[int]:
    """Returns a hash of an id as two numbers of 32 bits."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


def noise_of_training(name: str, cuts_dir: Path | str, snr_db: Sequence[float], share: float, seed: int) -> FileNoise:
    """Returns the noise of a training; its file is made where it is missing.

    Args:
        name: A name in `NOISE_TYPES`.
        cuts_dir: The folder of the prepared cuts.
        snr_db: See `FileNoise`.
        share: See `FileNoise`.
        seed: See `FileNoise`.
    """
    lowest, highest = snr_db
    return FileNoise(prepare_noise(Path(cuts_dir), name, "train"), (lowest, highest), share, seed)


def training_babble(cuts_dir: Path | str, snr_db: Sequence[float], share: float, seed: int) -> FileNoise:
    """Returns the babble of a training; the arguments are those of `noise_of_training`."""
    return noise_of_training(BABBLE, cuts_dir, snr_db, share, seed)


def noise_of_test(name: str, cuts_dir: Path, snr_db: float) -> FileNoise:
    """Returns the noise of a test, at one ratio for all utterances; its file is made where it is missing.

    Args:
        name: A name in `NOISE_TYPES`.
        cuts_dir: The folder of the prepared cuts.
        snr_db: The ratio in dB.
    """
    return FileNoise(prepare_noise(cuts_dir, name, "test"), (snr_db, snr_db), share=1.0, seed=0)
