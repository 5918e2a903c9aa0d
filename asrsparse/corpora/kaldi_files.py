"""Reads the files of a Kaldi data directory and checks them as Kaldi's own `utils/validate_data_dir.sh` does.

Each message names the file and the line. The lines of the files have these columns:

    utt2spk          utterance speaker
    text             utterance WORDS
    wav.scp          recording path, or `file.ark:123`, or `command |`; without `segments`, recordings are utterances
    segments         utterance recording begin end       in seconds; optional, like the following files
    spk2utt          speaker utterance ...
    utt2dur          utterance seconds
    video.scp        recording path                      (Kaldi itself has no such file)

Each file is sorted by the bytes of its first column (`LC_ALL=C sort`), in which each value is there once.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

_BLANKS = re.compile(r"[ \t]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_ILLEGAL_WORDS = {"<s>", "</s>", "#0"}
_SORT = "Sort it: LC_ALL=C sort -u -o FILE FILE, or Kaldi's utils/fix_data_dir.sh"


@dataclass(frozen=True)
class KaldiLine:
    """A line of a file, without its first column.

    Attributes:
        where: The place of the line, `file:number`, for messages.
        value: The text after the first column.
    """

    where: str
    value: str


Table = dict[str, KaldiLine]
"""The lines of a file by their first column."""


@dataclass(frozen=True)
class Segment:
    """The place of an utterance in its recording.

    Attributes:
        recording: The id of the recording.
        start: The start in seconds.
        end: The end in seconds, or None for the end of the recording.
        where: The place of the line that says so, `file:number`, for messages.
    """

    recording: str
    start: float = 0.0
    end: float | None = None
    where: str = ""


@dataclass(frozen=True)
class DataDir:
    """A checked data directory.

    Attributes:
        folder: The directory.
        speakers: The speaker of each utterance (utt2spk).
        texts: The text of each utterance (text); some may be empty.
        wavs: The audio of each recording (wav.scp).
        segments: The place of each utterance in its recording (segments).
        seconds: The duration of each utterance (utt2dur); empty if there is no such file.
        videos: The video of recordings (video.scp); empty if there is no such file.
    """

    folder: Path
    speakers: Table
    texts: Table
    wavs: Table
    segments: dict[str, Segment]
    seconds: dict[str, float] = field(default_factory=dict)
    videos: Table = field(default_factory=dict)


def read_data_dir(folder: Path) -> DataDir:
    """Reads and checks a data directory. It warns of what Kaldi allows but is probably a mistake.

    Raises:
        ValueError: If a file is missing or malformed, or two files contradict each other.
    """
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}: expected is a Kaldi data directory, with wav.scp, text and utt2spk.")
    speakers, texts, wavs = (
        read_table(folder / name, columns) for name, columns in (("utt2spk", 2), ("text", None), ("wav.scp", None))
    )
    _check_speakers(folder, speakers)
    _check_texts(texts)
    _check_same_ids(folder / "utt2spk", speakers, folder / "text", texts)
    segments = _read_segments(folder, speakers, wavs)
    seconds = {}
    if (folder / "utt2dur").is_file():
        durations = read_table(folder / "utt2dur", columns=2)
        _check_same_ids(folder / "utt2spk", speakers, folder / "utt2dur", durations)
        seconds = {name: _number(line, line.value, above=0.0) for name, line in durations.items()}
    videos = read_table(folder / "video.scp") if (folder / "video.scp").is_file() else {}
    _check_known(videos, wavs, folder / "wav.scp")
    return DataDir(folder, speakers, texts, wavs, segments, seconds, videos)


def read_table(path: Path, columns: int | None = None) -> Table:
    """Reads a file of a data directory.

    Args:
        path: The file.
        columns: The number of columns of each line; with None, all text after the first column is one value.

    Raises:
        ValueError: If the file is missing, empty, not UTF-8, or has Windows line ends; if the last line has no line
            end; if a line is blank or has another number of columns; or if the file is not sorted by the bytes of its
            first column, or repeats a value there.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}: a Kaldi data directory has wav.scp, text and utt2spk.")
    table: Table = {}
    last = ""
    for where, line in _lines(path):
        name, *rest = _BLANKS.split(line, maxsplit=1)
        value = rest[0].rstrip(" \t") if rest else ""
        if name.encode() <= last.encode():
            what = "is there twice" if name in table else f"comes after {last!r}, so the file is not sorted"
            raise ValueError(f"{where}: {name!r} {what}. {_SORT}.")
        got = len(_BLANKS.split(value)) + 1 if value else 1
        if columns is not None and got != columns:
            hint = " Ids have no spaces." if got > columns else ""
            raise ValueError(f"{where}: got {got} columns in {line!r}, expected {columns}.{hint}")
        table[name] = KaldiLine(where, value)
        last = name
    return table


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the place of each line, `file:number`, and its text."""
    content = path.read_bytes()
    if not content:
        raise ValueError(f"{path} is empty.")
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        yield f"{path}:{number}", _decoded(line, f"{path}:{number}")
    if lines[-1]:
        raise ValueError(f"{path}:{len(lines)}: the last line has no line end: was the file cut off? Add one.")


def _decoded(line: bytes, where: str) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start + 1} of the line, {line[error.start]:#x}, is not UTF-8. Convert the file: "
            "iconv -f latin1 -t utf-8."
        ) from None
    if text.endswith("\r"):
        raise ValueError(f"{where}: the line has a Windows line end (CR LF). Convert the file: dos2unix.")
    if not text or text[0] in " \t":
        raise ValueError(f"{where}: got {text!r}, expected an id at the beginning of the line.")
    return text


def _check_same_ids(path: Path, table: Table, other_path: Path, other: Table) -> None:
    for one, lacking_path, two in ((table, other_path, other), (other, path, table)):
        lacking = next((name for name in one if name not in two), None)
        if lacking is not None:
            raise ValueError(
                f"{one[lacking].where}: {lacking!r} is not in {lacking_path}; both must have the same ids "
                f"({path.name} has {len(table)}, {other_path.name} {len(other)}). Kaldi's utils/fix_data_dir.sh keeps "
                "the ids that all files have."
            )


def _check_speakers(folder: Path, speakers: Table) -> None:
    """Compares utt2spk with spk2utt, if there is one; warns of ids that Kaldi sorts otherwise, and of one speaker."""
    wrong = [name for name, line in speakers.items() if not name.startswith(line.value)]
    if wrong:
        logger.warning(
            "%s: %d utterance ids do not begin with the id of their speaker: %s of %s, for example. Kaldi expects it; "
            "its scripts would sort these utterances by speaker into another order.",
            folder / "utt2spk",
            len(wrong),
            wrong[0],
            speakers[wrong[0]].value,
        )
    if len({line.value for line in speakers.values()}) == 1:
        logger.warning("%s: all utterances are of one speaker.", folder / "utt2spk")
    if (folder / "spk2utt").is_file():
        _check_spk2utt(read_table(folder / "spk2utt"), speakers, folder)


def _check_spk2utt(speakers: Table, of_utterances: Table, folder: Path) -> None:
    listed: set[str] = set()
    for speaker, line in speakers.items():
        for name in _BLANKS.split(line.value) if line.value else []:
            if name not in of_utterances or of_utterances[name].value != speaker or name in listed:
                raise ValueError(
                    f"{line.where}: {speaker!r} has {name!r}, which contradicts {folder / 'utt2spk'} or is repeated. "
                    "Write the file again: utils/utt2spk_to_spk2utt.pl utt2spk > spk2utt."
                )
            listed.add(name)
    lacking = next((name for name in of_utterances if name not in listed), None)
    if lacking is not None:
        raise ValueError(f"{of_utterances[lacking].where}: {lacking!r} is not in {folder / 'spk2utt'}.")


def _check_texts(texts: Table) -> None:
    for line in texts.values():
        illegal = _ILLEGAL_WORDS.intersection(line.value.split(" "))
        blanks = {character for character in line.value if character.isspace() and character not in " \t"}
        if illegal or blanks:
            got = ", ".join(map(repr, sorted(illegal | blanks)))
            raise ValueError(f"{line.where}: the text has {got}, which Kaldi reserves. Remove it.")


def _read_segments(folder: Path, speakers: Table, wavs: Table) -> dict[str, Segment]:
    """Returns the place of each utterance; without a file, each utterance is the recording of the same id."""
    path = folder / "segments"
    if not path.is_file():
        _check_same_ids(folder / "utt2spk", speakers, folder / "wav.scp", wavs)
        return {name: Segment(name, where=wavs[name].where) for name in speakers}
    table = read_table(path, columns=4)
    _check_same_ids(folder / "utt2spk", speakers, path, table)
    segments = {name: _segment(line) for name, line in table.items()}
    unknown = next((segment for segment in segments.values() if segment.recording not in wavs), None)
    if unknown is not None:
        raise ValueError(f"{unknown.where}: {unknown.recording!r} is not in {folder / 'wav.scp'}.")
    used = {segment.recording for segment in segments.values()}
    _check_known({name: line for name, line in wavs.items() if name not in used}, used, path)
    _warn_of_overlaps(path, segments)
    return segments


def _segment(line: KaldiLine) -> Segment:
    recording, start, end = _BLANKS.split(line.value)
    begin = _number(line, start, above=-math.inf)
    if begin < 0:
        raise ValueError(f"{line.where}: the segment begins at {start} s, before its recording.")
    finish = _number(line, end, above=-math.inf)
    if finish <= begin:
        raise ValueError(f"{line.where}: the segment ends at {end} s, not after its start at {start} s.")
    return Segment(recording, begin, finish, line.where)


def _number(line: KaldiLine, text: str, above: float) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not above < value < math.inf:
        limit = "" if above == -math.inf else f" above {above:g}"
        raise ValueError(f"{line.where}: got {text!r}, expected a number of seconds{limit}.")
    return value


def _check_known(table: Table, known: Iterable[str], path: Path) -> None:
    names = set(known)
    for name, line in table.items():
        if name not in names:
            raise ValueError(f"{line.where}: {name!r} is not in {path}.")


def _warn_of_overlaps(path: Path, segments: dict[str, Segment]) -> None:
    """Warns of overlapping segments: they are allowed, since two people may talk at once, but may also be an error."""
    by_time = sorted(segments.items(), key=lambda item: (item[1].recording, item[1].start))
    overlaps = []
    last = Segment("")
    for name, segment in by_time:
        assert segment.end is not None
        if segment.recording == last.recording and last.end is not None and segment.start < last.end:
            overlaps.append(name)
        if segment.recording != last.recording or last.end is None or segment.end > last.end:
            last = segment
    if overlaps:
        logger.warning(
            "%s: %d segments begin before another one of their recording ends; the first is %s (%s).",
            path,
            len(overlaps),
            overlaps[0],
            segments[overlaps[0]].where,
        )
