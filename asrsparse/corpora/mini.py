"""Synthesises the mini corpus: sentences of a small grammar, spoken by espeak-ng voices, with drawn mouths.

The times of its words and phones are known.

Shape legend: T samples at 16 kHz.
"""

import hashlib
import logging
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem
from lhotse.utils import compute_num_frames
from numpy.typing import NDArray
from rich.progress import track

from asrsparse.corpora.manifests import SPLITS, is_prepared, mark_prepared, write_split
from asrsparse.corpora.synthesis.mouth_drawing import draw_mouth_region, face_of
from asrsparse.corpora.synthesis.speech import Interval, Speech, Voice, synthesize
from asrsparse.files import atomic_path
from asrsparse.rates import SAMPLING_RATE, SECONDS_PER_FRAME
from asrsparse.video.io import video_array, write_video

logger = logging.getLogger(__name__)

SOURCES = ("grammar.txt", "words.txt", "speakers.txt")
_MOST_REPEATS = 1000


@dataclass(frozen=True)
class Grammar:
    """The grammar of the sentences.

    Attributes:
        patterns: The patterns of sentences: words in lower case, slots in upper case.
        slots: The words of each slot.
    """

    patterns: list[list[str]]
    slots: dict[str, list[str]]

    @property
    def vocabulary(self) -> set[str]:
        """Every word that a sentence may hold."""
        tokens = {token for pattern in self.patterns for token in pattern}
        return {word for token in tokens for word in self.slots.get(token, [token])}

    def sentence(self, rng: np.random.Generator) -> str:
        """Returns a random sentence: a pattern, and a word for each of its slots; all choices are equally likely."""
        pattern = self.patterns[rng.integers(len(self.patterns))]
        choices = [self.slots.get(token, [token]) for token in pattern]
        return " ".join(words[rng.integers(len(words))] for words in choices)


@dataclass(frozen=True)
class Speaker:
    """One line of speakers.txt.

    Attributes:
        name: The name of the speaker.
        split: The split in which the speaker speaks.
        voice: The voice of the speaker.
    """

    name: str
    split: str
    voice: Voice


def prepare_mini(
    grammar_dir: Path,
    output_dir: Path,
    seed: int = 0,
    train_minutes: float = 30.0,
    dev_minutes: float = 3.0,
    test_minutes: float = 5.0,
    video: bool = True,
) -> None:
    """Synthesises the mini corpus into FLAC files and writes its manifests; returns at once if that is already done.

    The same sources and arguments give the same files byte for byte; the audio does not depend on `video`. No sentence
    is spoken twice.

    Args:
        grammar_dir: The folder of grammar.txt, words.txt and speakers.txt.
        output_dir: The folder that gets `audio/<split>/<speaker>/<id>.flac`, `video/<speaker>/<id>.mp4` and
            `manifests/`; the manifests name the files by this path as it is given.
        seed: The seed of all random choices: sentences, tempo, pitch, pauses, gain and noise; motion of the head and
            light.
        train_minutes: The minutes of speech in train, divided equally among its speakers; each speaks at least one
            sentence.
        dev_minutes: The minutes of speech in dev.
        test_minutes: The minutes of speech in test.
        video: Whether to draw the mouth regions of the speakers.

    Raises:
        ValueError: If a source is missing or malformed, a number of minutes is not above zero, or the grammar has too
            few sentences.
    """
    minutes = dict(zip(SPLITS, (train_minutes, dev_minutes, test_minutes), strict=True))
    for split, value in minutes.items():
        if not value > 0:
            raise ValueError(f"{split}_minutes: got {value}, allowed are numbers above 0.")
    sources = {name: _read(grammar_dir / name) for name in SOURCES}
    arguments = {"seed": seed, "minutes": minutes, "video": video, "sources": _sha256(sources.values())}
    manifest_dir = output_dir / "manifests"
    if is_prepared(manifest_dir, arguments | {"files": _fingerprint(output_dir)}):
        logger.info("The mini corpus is already prepared in %s.", output_dir)
        return
    grammar = read_grammar(grammar_dir)
    speakers = read_speakers(grammar_dir / "speakers.txt")
    sentences = _different_sentences(grammar, np.random.default_rng(seed))
    for folder in ("audio", "video"):
        shutil.rmtree(output_dir / folder, ignore_errors=True)
    for split in SPLITS:
        own = [speaker for speaker in speakers if speaker.split == split]
        _prepare_split(split, own, sentences, minutes[split], seed, output_dir, video)
    mark_prepared(manifest_dir, arguments | {"files": _fingerprint(output_dir)})


def _prepare_split(
    split: str,
    speakers: list[Speaker],
    sentences: Iterator[str],
    minutes: float,
    seed: int,
    output_dir: Path,
    video: bool,
) -> None:
    segments = []
    for speaker in track(speakers, description=f"mini: speaking {split}"):
        spoken, index = 0.0, 0
        while spoken < minutes * 60 / len(speakers):
            segment = _speak(speaker, index, next(sentences), seed, output_dir / "audio" / split / speaker.name)
            if video:
                _draw(*segment, seed, output_dir / "video")
            segments.append(segment)
            spoken, index = spoken + segment[0].duration, index + 1
    recordings, supervisions = zip(*segments, strict=True)
    write_split(
        output_dir / "manifests",
        split,
        RecordingSet.from_recordings(recordings),
        SupervisionSet.from_segments(supervisions),
    )
    hours = sum(recording.duration for recording in recordings) / 3600
    logger.info("mini %s: %d utterances, %.3f h, %d speakers", split, len(recordings), hours, len(speakers))


def _speak(speaker: Speaker, index: int, text: str, seed: int, folder: Path) -> tuple[Recording, SupervisionSegment]:
    utterance_id = f"{speaker.name}-{index:04d}"
    rng = np.random.default_rng([seed, zlib.crc32(utterance_id.encode())])
    speech = synthesize(text, _vary(speaker.voice, rng))
    if (words := [word.label for word in speech.words]) != text.split():
        raise ValueError(
            f"The sentence {text!r} does not have a time for each of its words: espeak-ng gives times for {words}. It "
            "joins some words, such as 'of the'. Write the patterns of grammar.txt without them."
        )
    samples, lead = _record(speech, rng)
    path = folder / f"{utterance_id}.flac"
    with atomic_path(path) as temporary:
        soundfile.write(temporary, samples, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    duration = len(samples) / SAMPLING_RATE
    source = AudioSource(type="file", channels=[0], source=str(path))
    recording = Recording(utterance_id, [source], SAMPLING_RATE, len(samples), duration)
    alignment = {"word": _shift(speech.words, lead), "phone": _shift(speech.phones, lead)}
    return recording, SupervisionSegment(
        utterance_id, utterance_id, 0.0, duration, text=text, language="en", speaker=speaker.name, alignment=alignment
    )


def _draw(recording: Recording, segment: SupervisionSegment, seed: int, folder: Path) -> None:
    """Writes the video of an utterance and puts its manifest into the segment.

    The random numbers are independent of those of the speech, so that the audio does not depend on the video.
    """
    rng = np.random.default_rng([seed, zlib.crc32(segment.id.encode()), 1])
    phones = [Interval(phone.symbol, phone.start, phone.duration) for phone in segment.alignment["phone"]]
    num_frames = compute_num_frames(recording.duration, SECONDS_PER_FRAME, SAMPLING_RATE)
    frames = draw_mouth_region(phones, num_frames, face_of(segment.speaker), rng)
    key = f"{segment.speaker}/{segment.id}.mp4"
    write_video(folder / key, frames)
    segment.custom = {"video": video_array(folder, key, frames.shape)}


def _vary(voice: Voice, rng: np.random.Generator) -> Voice:
    """Returns the voice with a slightly different rate and pitch, as people do not speak all sentences alike."""
    rate = round(voice.rate * rng.uniform(0.93, 1.07))
    pitch = round(voice.pitch + rng.uniform(-5, 5))
    return Voice(voice.name, min(max(rate, 80), 450), min(max(pitch, 0), 99), voice.pitch_range)


def _record(speech: Speech, rng: np.random.Generator) -> tuple[NDArray[np.int16], float]:
    """Adds pauses of 0.05 to 0.3 s around the speech, a gain, and white noise 25 to 45 dB below the speech.

    Returns:
        The samples (T,), 16 bit, and the seconds of the pause before the speech.
    """
    lead, trail = (int(rng.uniform(0.05, 0.3) * SAMPLING_RATE) for _ in range(2))
    level = float(np.sqrt(np.mean(np.square(speech.waveform)))) * 10 ** (-rng.uniform(25, 45) / 20)
    quiet = np.pad(speech.waveform, (lead, trail))
    noisy = quiet + level * rng.standard_normal(len(quiet))
    gain = rng.uniform(0.2, 0.9) / np.abs(noisy).max()
    return np.round(noisy * gain * 32767).astype(np.int16), lead / SAMPLING_RATE


def _shift(intervals: list[Interval], seconds: float) -> list[AlignmentItem]:
    return [AlignmentItem(i.label, round(i.start + seconds, 4), i.duration) for i in intervals]


def _different_sentences(grammar: Grammar, rng: np.random.Generator) -> Iterator[str]:
    spoken: set[str] = set()
    repeats = 0
    while repeats < _MOST_REPEATS:
        sentence = grammar.sentence(rng)
        repeats = repeats + 1 if sentence in spoken else 0
        if not repeats:
            spoken.add(sentence)
            yield sentence
    raise ValueError(
        f"The grammar of the mini corpus has only about {len(spoken)} different sentences, and none is spoken twice. "
        "Add patterns or words to it, or ask for fewer minutes."
    )


def read_grammar(grammar_dir: Path) -> Grammar:
    """Reads grammar.txt (one pattern a line) and words.txt (`SLOT: word word ...`); `#` begins a comment.

    Raises:
        ValueError: If a file is missing or empty, a line is malformed, or a slot is without words.
    """
    slots: dict[str, list[str]] = {}
    for where, line in _lines(grammar_dir / "words.txt"):
        match = re.fullmatch(r"([A-Z]+):((?: +[a-z]+)+)", line)
        if match is None:
            raise ValueError(f"{where}: got {line!r}, allowed is a slot and its words: 'COLOUR: red green'.")
        if match[1] in slots:
            raise ValueError(f"{where}: the slot {match[1]} is defined twice. Put its words on one line.")
        slots[match[1]] = match[2].split()
    patterns = []
    for where, line in _lines(grammar_dir / "grammar.txt"):
        pattern = line.split()
        for token in pattern:
            if not re.fullmatch("[a-z]+|[A-Z]+", token):
                raise ValueError(f"{where}: got {token!r}, allowed are words (a-z) and slots (A-Z).")
            if token.isupper() and token not in slots:
                raise ValueError(
                    f"{where}: words.txt does not define the slot {token} (it has {', '.join(slots) or 'none'}). "
                    f"Add a line '{token}: word word ...'."
                )
        patterns.append(pattern)
    return Grammar(patterns, slots)


def read_speakers(path: Path) -> list[Speaker]:
    """Reads speakers.txt: `name split voice rate pitch range`, one speaker a line; `#` begins a comment.

    Raises:
        ValueError: If a line is malformed, a voice unknown, a name used twice, or a split has no speaker.
    """
    speakers: dict[str, Speaker] = {}
    for where, line in _lines(path):
        match = re.fullmatch(rf"([a-z0-9]+) +({'|'.join(SPLITS)}) +(\S+) +(\d+) +(\d+) +(\d+)", line)
        if match is None:
            raise ValueError(
                f"{where}: got {line!r}, allowed is 'name split voice rate pitch range', the split being one of "
                f"{', '.join(SPLITS)}: 'anna train en-us+f1 165 50 50'."
            )
        name, split, voice, *numbers = match.groups()
        if name in speakers:
            raise ValueError(f"{where}: the speaker {name} is defined twice. Give each speaker a name of their own.")
        try:
            speakers[name] = Speaker(name, split, Voice(voice, *(int(number) for number in numbers)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    for split in SPLITS:
        if not any(speaker.split == split for speaker in speakers.values()):
            raise ValueError(f"{path} names no speaker for {split}. Each of {', '.join(SPLITS)} needs at least one.")
    return list(speakers.values())


def _read(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"No file {path}. The mini corpus is made from {', '.join(SOURCES)} in one folder.")
    return path.read_text(encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the place of each line (`file:number`) and its text, without comments and blank lines."""
    lines = [
        (f"{path}:{number}", line.split("#")[0].strip()) for number, line in enumerate(_read(path).splitlines(), 1)
    ]
    if not any(line for _, line in lines):
        raise ValueError(f"{path} has no lines except comments.")
    return ((where, line) for where, line in lines if line)


def _fingerprint(output_dir: Path) -> str:
    """Returns a hash of the manifests and of the names and sizes of all audio and video files."""
    manifests = (path.read_bytes() for path in sorted(output_dir.glob("manifests/*.jsonl.gz")))
    media = sorted([*output_dir.glob("audio/*/*/*"), *output_dir.glob("video/*/*")])
    sizes = (f"{path.relative_to(output_dir)} {path.stat().st_size}" for path in media)
    return _sha256([*manifests, *sizes])


def _sha256(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return digest.hexdigest()
