"""Reads the text files of LRS2 and LRS3, and splits long clips between words.

A text file looks like this. `Ref:` and the places of the face are in LRS3 only, and not every file has word times.

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
MARGIN = 0.2  # seconds of a pause that a segment keeps at most


@dataclass(frozen=True)
class Transcript:
    """The text of a clip.

    Attributes:
        text: All words.
        words: Each word with its times in seconds; empty if the text file has no times.
    """

    text: str
    words: list[AlignmentItem]


@dataclass(frozen=True)
class Segment:
    """A segment of a clip.

    Attributes:
        start: Its start in seconds from the beginning of the clip.
        end: Its end in seconds from the beginning of the clip.
        words: The words in it, with their times in seconds from the beginning of the clip.
    """

    start: float
    end: float
    words: Sequence[AlignmentItem]


def read_transcript(path: Path) -> Transcript:
    """Reads a text file. Marks in braces, such as `{LG}` for laughter, are no words and are removed.

    Raises:
        ValueError: If there is no such file, it has no line `Text:`, that line has no words, or a line of the table of
            words is malformed.
    """
    if not path.is_file():
        raise ValueError(f"no text: {path}")
    lines = _read(path).split("\n")
    text_line = next((line.partition(":")[2] for line in lines if line.startswith("Text:")), None)
    if text_line is None:
        raise ValueError(f"no Text line: {path}")
    text = _without_marks(text_line)
    if not text:
        raise ValueError(f"no words: {path}")
    return Transcript(text, read_words(lines, path))


def read_words(lines: Sequence[str], path: Path) -> list[AlignmentItem]:
    """Reads the table of words at the end of a text file; the list is empty if there is none.

    Args:
        lines: All lines of the file.
        path: The file, for messages.

    Raises:
        ValueError: If a line is not `word start end score` with 0 <= start <= end, or a word begins before the one
            before it.
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
        symbol = _without_marks(match[1])
        if symbol:
            words.append(AlignmentItem(symbol=symbol, start=start, duration=round(end - start, ndigits=8)))
    return words


def _without_marks(text: str) -> str:
    return " ".join(re.sub(r"\{[^}]*\}", " ", text).split())


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # as ESPnet reads them; every byte is a character there


def split_at_words(words: Sequence[AlignmentItem], duration: float, max_seconds: float) -> list[Segment]:
    """Splits a clip between words into segments of at most `max_seconds`, each as long as possible.

    A segment keeps half of the pause before it and after it, but at most `MARGIN` seconds. Its borders are those of
    video frames, so that audio and video are split at the same time. A clip that is short enough, or has no times of
    words, stays whole.

    Args:
        words: The words with their times in seconds, in order.
        duration: The duration of the clip in seconds.
        max_seconds: The longest segment; a segment is longer only if it is a single word.

    Example:
        >>> words = [AlignmentItem("SO", 0.1, 0.9), AlignmentItem("WHAT", 1.4, 0.6), AlignmentItem("IS", 2.0, 0.6)]
        >>> [(s.start, s.end, [word.symbol for word in s.words]) for s in split_at_words(words, 3.0, 1.7)]
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
    """Returns the video frames at which segments that begin with each word begin, and those that end with it end."""
    # Words that overlap are separated where the later one begins.
    middles = [(min(before.end, after.start) + after.start) / 2 for before, after in pairwise(words)]
    begins = [max(middle, word.start - MARGIN) for middle, word in zip([0.0, *middles], words, strict=True)]
    ends = [min(middle, word.end + MARGIN) for middle, word in zip([*middles, math.inf], words, strict=True)]
    return _frames(begins, last_frame), _frames(ends, last_frame)


def _frames(times: Sequence[float], last_frame: int) -> list[int]:
    return [min(round(time * FRAMES_PER_SECOND), last_frame) for time in times]
