"""Babble noise: many voices of the corpus itself at once, mixed into speech at a given ratio of signal to noise.

Training and tests hear other babble: that of `babble_train.flac` speaks with utterances of train, that of
`babble_test.flac` with utterances of dev, so that no model has met the noise that it is tested in, and no utterance of
the test set speaks in the background of itself.

Shape legend: B utterances, T samples.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
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

BABBLE_OF = {"train": "train", "test": "dev"}
"""Who speaks in the babble for which use: a split."""

NUM_VOICES = 20
"""At once; from about eight on, no single one is understood."""

BABBLE_SECONDS = 60.0
_PEAK = 0.9
_SILENCE = 1e-6


def prepare_babble(cuts_dir: Path, use: str) -> Path:
    """The babble for a use, made at its first one, and again when cuts were prepared since.

    Args:
        cuts_dir: Where cuts are, and babble goes.
        use: `train` or `test`.

    Returns:
        Its file.

    Raises:
        ValueError: If there are no cuts to make it of, or they are silent.
    """
    path, cuts = cuts_dir / f"babble_{use}.flac", CutIndex.open(cuts_path(cuts_dir, BABBLE_OF[use]))
    if not path.is_file() or path.stat().st_mtime_ns < cuts.path.stat().st_mtime_ns:
        write_babble(path, cuts)
    return path


def write_babble(path: Path, cuts: CutIndex, seed: int = 0) -> None:
    """Writes a minute of babble: voices that each say one utterance after another, all equally loud.

    Where there are fewer utterances than the voices need, they are said again, by other voices at other times.

    Args:
        path: `*.flac`.
        cuts: Whose audio is used, in random order.
        seed: Of that order.

    Raises:
        ValueError: If there is no sound in any cut.
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
    """Utterances in random order, again and again: samples per second, and samples of mean power 1."""
    while True:
        for row in rng.permutation(len(cuts)):
            (cut,) = cuts.read([row])
            samples = cut.load_audio().mean(axis=0)
            yield cut.sampling_rate, samples / max(np.sqrt(power(samples)), _SILENCE)


def _voice(spoken: Iterator[Samples], num_samples: int) -> Samples:
    """One utterance after another."""
    said: list[Samples] = []
    while sum(map(len, said)) < num_samples:
        said.append(next(spoken))
    return np.concatenate(said)[:num_samples]


def power(samples: Samples) -> float:
    """Mean square.

    Example:
        >>> power(np.array([1.0, -3.0], np.float32))
        5.0
    """
    return float(np.mean(np.square(samples, dtype=np.float64)))


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise to speech at a ratio of their mean powers.

    Args:
        speech: (T,); silence is left alone, for which no ratio is defined.
        noise: (T,), not silent.
        snr_db: Ten times the decimal logarithm of the ratio.

    Returns:
        (T,); speech keeps its level, so that the sum may exceed 1.

    Example:
        >>> mix(np.array([1.0, 1.0], np.float32), np.array([2.0, -2.0], np.float32), snr_db=0.0).tolist()
        [2.0, 0.0]
    """
    gain = np.float32(np.sqrt(power(speech) / power(noise) / 10 ** (snr_db / 10)))
    mixed: Samples = speech + gain * noise
    return mixed


class Noise(Protocol):
    """What is mixed into the waveforms of a batch."""

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Mixes noise into waveforms (B, T) with their lengths (B,), in place."""


@dataclass(frozen=True)
class NoNoise:
    """The null object."""

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Leaves the waveforms as they are."""


QUIET = NoNoise()


@dataclass(frozen=True)
class BabbleNoise:
    """Mixes babble into batches; what an utterance gets depends on the seed, the epoch and its id alone.

    So it is the same on every rank, in every loader process and after a resume.

    Args:
        path: The babble, of `prepare_babble`.
        snr_db: The lowest and the highest ratio, between which each utterance draws its own.
        share: Of the utterances, that hear it; the others are clean.
        seed: Of the draws.

    Raises:
        ValueError: If a value is outside its range, or (at first use) the babble is missing, silent or damaged.
    """

    path: Path
    snr_db: tuple[float, float] = (-5.0, 20.0)
    share: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        lowest, highest = self.snr_db
        if not -60.0 <= lowest <= highest <= 60.0:
            raise ValueError(f"noise.snr_db: got {lowest} to {highest}, allowed are -60 to 60 dB, the lowest first.")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"noise.share: got {self.share}, allowed is [0, 1].")

    @cached_property
    def _babble(self) -> Samples:
        """The samples."""
        try:
            babble: Samples = soundfile.read(self.path, dtype="float32")[0]
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(f"No babble {self.path} ({error}). Delete it; the next run makes it again.") from None
        if babble.ndim != 1 or not babble.any():
            raise ValueError(f"{self.path} is no babble, since it is silent or has several channels. Delete it.")
        return babble

    def add_to(self, audio: Tensor, audio_lens: Tensor, ids: Sequence[str], epoch: int = 0) -> None:
        """Mixes babble into waveforms, in place.

        Args:
            audio: (B, T), zero behind `audio_lens`.
            audio_lens: Samples of each (B,).
            ids: B utterance ids.
            epoch: Which varies the draws.
        """
        for row, length, name in zip(audio, audio_lens.tolist(), ids, strict=True):
            rng = np.random.default_rng([self.seed, epoch, *_number(name)])
            hears, ratio, place = rng.random(3)
            if hears < self.share:
                lowest, highest = self.snr_db
                speech = row[:length].numpy()
                speech[:] = mix(speech, self._stretch(place, length), lowest + ratio * (highest - lowest))

    def _stretch(self, place: float, length: int) -> Samples:
        """`length` samples of the babble from a place in [0, 1) on; it begins again at its end."""
        stretch: Samples = self._babble.take(np.arange(length) + int(place * len(self._babble)), mode="wrap")
        return stretch


def _number(name: str) -> Iterable[int]:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


def training_babble(cuts_dir: str, snr_db: Sequence[float], share: float, seed: int) -> BabbleNoise:
    """The noise of a training; arguments as for `BabbleNoise`, the babble is made if need be."""
    lowest, highest = snr_db
    return BabbleNoise(prepare_babble(Path(cuts_dir), "train"), (lowest, highest), share, seed)
