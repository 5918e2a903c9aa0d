"""The text files of LRS2 and LRS3, and where long clips are cut.

A text file; `Ref:` and the places of the face are in LRS3's only, and the times of words not in every file:

    Text:  SO WHAT IS IT
    Conf:  4
    Ref:   ...

    FRAME 	X 	Y 	W 	H
    000001 	0.380 	0.271 	0.272 	0.411

    WORD START END ASDSCORE
    SO 0.06 0.21 4.3
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lhotse.supervision import AlignmentItem

from asrsparse.rates import FRAMES_PER_SECOND

WORD_TABLE = "WORD START END ASDSCORE"
MARGIN = 0.2  # seconds of the pause that stay with a segment


@dataclass(frozen=True)
class Transcript:
    """What is said in a clip, and when, where the text file says so."""

    text: str
    words: list[AlignmentItem]


@dataclass(frozen=True)
class Segment:
    """A part of a clip: seconds from its beginning, and the words in it."""

    start: float
    end: float
    words: Sequence[AlignmentItem]


def read_transcript(path: Path) -> Transcript:
    """Reads a text file; what stands in braces (`{LG}`, laughter) is no word and goes.

    Raises:
        ValueError: If there is no such file, it has no line `Text:` or no words in it, or a line of the table of words
            is malformed.
    """
    if not path.is_file():
        raise ValueError(f"no text: {path}")
    lines = _read(path).split("\n")
    said = next((line.partition(":")[2] for line in lines if line.startswith("Text:")), None)
    if said is None:
        raise ValueError(f"no Text line: {path}")
    text = _without_noises(said)
    if not text:
        raise ValueError(f"no words: {path}")
    return Transcript(text, read_words(lines, path))


def read_words(lines: Sequence[str], path: Path) -> list[AlignmentItem]:
    """Reads the table of words at the end of a text file's lines; empty where there is none.

    Args:
        lines: All lines of the file.
        path: Its name, for messages.

    Raises:
        ValueError: If a line is not `word start end score` with 0 <= start <= end, or a word
            begins before the last one.
    """
    head = next((number for number, line in enumerate(lines) if line.strip() == WORD_TABLE), len(lines))
    words: list[AlignmentItem] = []
    for number, line in enumerate(lines[head + 1 :], start=head + 2):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s+\S+\s*", line)
        start, end = (float(match[2]), float(match[3])) if match else (math.inf, 0.0)
        if match is None or start > end or (words and start < words[-1].start):
            raise ValueError(f"malformed word: {path}:{number}: got {line!r}, expected `{WORD_TABLE}`, in order")
        symbol = _without_noises(match[1])
        if symbol:
            words.append(AlignmentItem(symbol=symbol, start=start, duration=round(end - start, ndigits=8)))
    return words


def _without_noises(text: str) -> str:
    return " ".join(re.sub(r"\{[^}]*\}", " ", text).split())


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # as ESPnet reads them; every byte is a character there


def cut_at_words(words: Sequence[AlignmentItem], duration: float, max_seconds: float) -> list[Segment]:
    """Parts a clip at borders of words into segments of at most `max_seconds`, each as long as it may be.

    A segment keeps half of the pauses around it, `MARGIN` seconds at most; its borders are those of video frames, so
    that sound and picture are cut at the same time. A clip that is short enough, or has no times of words, stays whole.

    Args:
        words: With times in seconds, in their order.
        duration: Of the clip, in seconds.
        max_seconds: The longest segment; only a word that is longer makes one that is, too.

    Example:
        >>> words = [AlignmentItem("SO", 0.1, 0.9), AlignmentItem("WHAT", 1.4, 0.6), AlignmentItem("IS", 2.0, 0.6)]
        >>> [(s.start, s.end, [word.symbol for word in s.words]) for s in cut_at_words(words, 3.0, 1.7)]
        [(0.0, 1.2, ['SO']), (1.2, 2.8, ['WHAT', 'IS'])]
    """
    if duration <= max_seconds or not words:
        return [Segment(0.0, duration, words)]
    last_frame = math.floor(duration * FRAMES_PER_SECOND + 1e-6)
    begins, ends = _borders(words, last_frame)
    most = max_seconds * FRAMES_PER_SECOND + 1e-6
    segments, first = [], 0
    for number in range(1, len(words) + 1):
        if number == len(words) or ends[number] - begins[first] > most:
            start, end = (frame / FRAMES_PER_SECOND for frame in (begins[first], ends[number - 1]))
            segments.append(Segment(start, end, words[first:number]))
            first = number
    return segments


def _borders(words: Sequence[AlignmentItem], last_frame: int) -> tuple[list[int], list[int]]:
    """The video frames at which a segment would begin that begins with each word, and end that ends with it."""
    # Words that overlap are parted where the later one begins.
    middles = [(min(before.end, after.start) + after.start) / 2 for before, after in pairwise(words)]
    begins = [max(middle, word.start - MARGIN) for middle, word in zip([0.0, *middles], words, strict=True)]
    ends = [min(middle, word.end + MARGIN) for middle, word in zip([*middles, math.inf], words, strict=True)]
    return _frames(begins, last_frame), _frames(ends, last_frame)


def _frames(times: Sequence[float], last_frame: int) -> list[int]:
    return [min(round(time * FRAMES_PER_SECOND), last_frame) for time in times]
