"""Synthesises speech with the times of phones and words, by the espeak-ng library in the package `espeakng_loader`.

Times are in seconds from the first sample.

Shape legend: T samples at `SAMPLING_RATE`.
"""

import ctypes
import difflib
import functools
import math
import os
import threading
from _ctypes import dlclose
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from asrsparse.rates import SAMPLING_RATE

# Constants of espeak-ng's speak_lib.h, by their names there.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_OPTIONS = 0x0001 | 0x8000  # PHONEME_EVENTS | DONT_EXIT
_EVENT_LIST_TERMINATED, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_POS_CHARACTER, _CHARS_UTF8 = 1, 1


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # of the word's first character, counted from 1
        ("length", ctypes.c_int),  # characters of the word
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_one_at_a_time = threading.Lock()


class Interval(NamedTuple):
    """A phone or a word with its time.

    Attributes:
        label: The phone or the word.
        start: Its start in seconds.
        duration: Its duration in seconds.
    """

    label: str
    start: float
    duration: float


@dataclass(frozen=True)
class Speech:
    """Synthesised speech with the times of its phones and words.

    Attributes:
        waveform: The samples (T,), float32 in [-1, 1], one channel, at `SAMPLING_RATE`.
        phones: The phones in order, by espeak-ng's ASCII names without stress marks; gaps between them are pauses. (By
            IPA names a glide between two vowels would have an empty name, like a pause.)
        words: The words in order, each from its first to its last phone. Words that espeak-ng joins (`"for the"`) are
            one interval.
    """

    waveform: NDArray[np.float32]
    phones: list[Interval]
    words: list[Interval]


@dataclass(frozen=True)
class Voice:
    """The settings of a voice.

    Args:
        name: A language of espeak-ng and, after `+`, one of its voice variants: `"en-us+m3"`.
        rate: The words per minute, 80 to 450.
        pitch: The pitch, 0 to 99; 50 is the default of the voice.
        pitch_range: The range of the pitch, 0 (monotone) to 99; 50 is the default of the voice.

    Raises:
        ValueError: If espeak-ng has no such voice, or a number is out of its range.
    """

    name: str = "en-us"
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50

    def __post_init__(self) -> None:
        _check_voice_name(self.name)
        for what, low, high in (("rate", 80, 450), ("pitch", 0, 99), ("pitch_range", 0, 99)):
            if not low <= getattr(self, what) <= high:
                got = getattr(self, what)
                raise ValueError(f"{what}: got {got} for the voice {self.name!r}, allowed are {low} to {high}.")


def synthesize(text: str, voice: Voice) -> Speech:
    """Synthesises a text. The same text and voice give the same samples, independent of earlier calls.

    Args:
        text: One or more words.
        voice: The settings of the voice.

    Raises:
        ValueError: If nothing in `text` can be spoken.

    Example:
        >>> speech = synthesize("the small cat", Voice("en-us+m3"))
        >>> [word.label for word in speech.words]
        ['the', 'small', 'cat']
        >>> [phone.label for phone in speech.phones]
        ['D', '@2', 's', 'm', 'O:', 'l', 'k', 'a', 't']
        >>> speech.waveform.dtype, 0.5 < len(speech.waveform) / SAMPLING_RATE < 2.0
        (dtype('float32'), True)
    """
    with _one_at_a_time:
        recording = _speak(text, voice)
    if not any(event.kind == _EVENT_WORD for event in recording.events):
        raise ValueError(f"Nothing to speak in {text!r}: a text needs at least one word.")
    waveform = resample(np.concatenate(recording.buffers) / 32768.0, recording.sample_rate, SAMPLING_RATE)
    phones = _phones(recording.events, len(waveform) / SAMPLING_RATE)
    words = _words(recording.events, phones, text)
    return Speech(waveform, [phone for _, phone in phones], words)


def resample(waveform: NDArray[Any], from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """Lowers the sampling rate of a waveform by removing all frequencies above half of `to_rate`.

    Args:
        waveform: The samples (T,).
        from_rate: The sampling rate of `waveform`, in samples per second.
        to_rate: The sampling rate of the result, not above `from_rate`.

    Returns:
        The samples (ceil(T * to_rate / from_rate),), float32.

    Example:
        >>> tone = np.hanning(22050) * np.sin(2 * np.pi * 1000 * np.arange(22050) / 22050)
        >>> expected = np.hanning(16000) * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> bool(np.abs(resample(tone, 22050, 16000) - expected).max() < 1e-3)
        True
    """
    common = math.gcd(from_rate, to_rate)
    length = -(-len(waveform) * to_rate // from_rate)
    # The Fourier transform assumes a periodic signal: 0.1 s of silence keeps the end from affecting the beginning.
    periods = -(-(len(waveform) + from_rate // 10) * common // from_rate)
    spectrum = np.fft.rfft(waveform, periods * (from_rate // common))
    lowered = np.fft.irfft(spectrum, periods * (to_rate // common)) * (to_rate / from_rate)
    return lowered[:length].astype(np.float32)


class _RecordedEvent(NamedTuple):
    kind: int
    text_position: int
    start: float
    phone: str


@dataclass
class _Recording:
    """Collects the 16-bit buffers and the events that espeak-ng passes to its callback."""

    sample_rate: int = 0
    buffers: list[NDArray[np.int16]] = field(default_factory=list)
    events: list[_RecordedEvent] = field(default_factory=list)

    def receive(self, samples: Any, num_samples: int, events: Any) -> int:
        if num_samples > 0:
            self.buffers.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            event = events[index]
            phone = _phone_name(event.id.string) if event.type == _EVENT_PHONEME else ""
            self.events.append(_RecordedEvent(event.type, event.text_position, event.audio_position / 1000, phone))
            index += 1
        return 0  # tells espeak-ng to continue


def _phone_name(mnemonic: bytes) -> str:
    name = mnemonic.decode("utf-8", errors="ignore")
    return name.lstrip("',*") or name  # without stress


def _speak(text: str, voice: Voice) -> _Recording:
    recording = _Recording()
    callback = _SYNTH_CALLBACK(recording.receive)
    with _fresh_library() as (library, recording.sample_rate):
        library.espeak_SetSynthCallback(callback)
        _check(library.espeak_SetVoiceByName(voice.name.encode()), f"taking the voice {voice.name!r}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            _check(library.espeak_SetParameter(parameter, value, 0), f"setting parameter {parameter} to {value}")
        encoded = text.encode()
        spoken = library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        _check(spoken, f"speaking {text!r}")
    return recording


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Loads espeak-ng and unloads it afterwards; yields the library and its sampling rate.

    espeak-ng keeps pitch flutter, noise and wave phase in static variables that cannot be reset. So a sentence would
    depend on all sentences before it. Loading the library again for each sentence costs some milliseconds.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Synth.argtypes = (
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    )
    try:
        data_path = espeakng_loader.get_data_path()
        # espeak-ng truncates this path to 160 characters, so it gets the shorter form.
        shorter = min(data_path, os.path.relpath(data_path), key=len)
        sample_rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, shorter.encode(), _INITIALIZE_OPTIONS)
        if sample_rate <= 0:
            raise ValueError(
                f"espeak-ng cannot read its data in {data_path} (code {sample_rate}). It reads paths of up to 159 "
                "characters: put the virtual environment into a folder with a shorter path, or install it again."
            )
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of breath noise; it starts with the time of day
        ctypes.CDLL(None).srand(1)  # some voices take their noise from the C library
        try:
            yield library, sample_rate
        finally:
            library.espeak_Terminate()
    finally:
        dlclose(library._handle)


def _check(code: int, doing: str) -> None:
    if code != 0:
        raise RuntimeError(f"espeak-ng failed at {doing}: it returned {code}, not 0.")


def _phones(events: list[_RecordedEvent], end: float) -> list[tuple[int, Interval]]:
    """Returns each phone with the text position of its word; it lasts until the next phone or pause begins."""
    marks = [event for event in events if event.kind == _EVENT_PHONEME]
    ends = [event.start for event in marks[1:]] + [end]
    return [
        (mark.text_position, Interval(mark.phone, mark.start, round(stop - mark.start, 3)))
        for mark, stop in zip(marks, ends, strict=True)
        if not mark.phone.startswith("_") and stop > mark.start  # `_`, `_:`, `_|` are pauses
    ]


def _words(events: list[_RecordedEvent], phones: list[tuple[int, Interval]], text: str) -> list[Interval]:
    """Returns the words with the times of the phones at their text positions; labels end where the next one begins."""
    spoken = {position for position, _ in phones}
    begins = [event.text_position - 1 for event in events if event.kind == _EVENT_WORD]
    begins = [begin for begin in begins if begin + 1 in spoken]
    words = []
    for begin, next_begin in zip(begins, [*begins[1:], len(text)], strict=True):
        own = [phone for position, phone in phones if position == begin + 1]
        duration = own[-1].start + own[-1].duration - own[0].start
        words.append(Interval(text[begin:next_begin].strip(), own[0].start, round(duration, 3)))
    return words


@functools.cache
def _known_names() -> tuple[dict[str, str], frozenset[str]]:
    """Returns the languages (in lower case) and the voice variants for which espeak-ng has files."""
    data = Path(espeakng_loader.get_data_path())
    languages = {path.name.lower(): path.name for path in (data / "lang").rglob("*") if path.is_file()}
    return languages, frozenset(path.name for path in (data / "voices" / "!v").iterdir())


def _check_voice_name(name: str) -> None:
    languages, variants = _known_names()
    language, plus, variant = name.partition("+")
    # espeak-ng itself silently ignores an unknown variant.
    for what, got, known in (("language", language.lower(), languages), ("variant", variant, variants)):
        if got in known or (what == "variant" and not plus):
            continue
        nearest = difflib.get_close_matches(got, known, n=3, cutoff=0.0)
        raise ValueError(
            f"name: got the voice {name!r}, but espeak-ng has no {what} {got!r}. Nearest of its {len(known)}: "
            f"{', '.join(nearest)}. A voice is a language, or language+variant: 'en-us', 'en-us+m3'."
        )
