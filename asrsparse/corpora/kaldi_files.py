"""The files of a Kaldi data directory, checked as Kaldi's own `utils/validate_data_dir.sh` does, with file and line.

    utt2spk          utterance speaker
    text             utterance WORDS
    wav.scp          recording path, `file.ark:123` or `command |`; without segments, recordings are utterances
    segments         utterance recording begin end       of some seconds; this and the following files may be missing
    spk2utt          speaker utterance ...
    utt2dur          utterance seconds
    video.scp        recording path                      (not Kaldi's)

Each is sorted by the bytes of its first column (`LC_ALL=C sort`), in which nothing stands twice.
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
class Row:
    """A line of a file, without its first column. `where` is `file:line`, for messages."""

    where: str
    value: str


Table = dict[str, Row]
"""A file by its first column."""


@dataclass(frozen=True)
class Segment:
    """Where an utterance is in its recording. `end` is None where it goes on to its end."""

    recording: str
    start: float = 0.0
    end: float | None = None
    where: str = ""


@dataclass(frozen=True)
class DataDir:
    """A checked data directory.

    Attributes:
        folder: Where it is.
        speakers: Of each utterance.
        texts: Of each utterance; some may be empty.
        wavs: Of each recording.
        segments: Of each utterance.
        seconds: Of each utterance, where the directory says so.
        videos: Of recordings, where the directory says so.
    """

    folder: Path
    speakers: Table
    texts: Table
    wavs: Table
    segments: dict[str, Segment]
    seconds: dict[str, float] = field(default_factory=dict)
    videos: Table = field(default_factory=dict)


def read_data_dir(folder: Path) -> DataDir:
    """Reads and checks a data directory; what Kaldi allows and few people mean comes as a warning.

    Raises:
        ValueError: If a file is missing or malformed, or two of them do not agree; with file and line.
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
        seconds = {name: _number(row, row.value, above=0.0) for name, row in durations.items()}
    videos = read_table(folder / "video.scp") if (folder / "video.scp").is_file() else {}
    _check_known(videos, wavs, folder / "wav.scp")
    return DataDir(folder, speakers, texts, wavs, segments, seconds, videos)


def read_table(path: Path, columns: int | None = None) -> Table:
    """Reads a file.

    Args:
        path: The file.
        columns: How many columns each line has; None takes what follows the first one as it is.

    Raises:
        ValueError: If it is missing, empty or no text in UTF-8, has Windows' or no line ends, or a line is blank, has
            another number of columns, is not in the order of the bytes of its first column, or has the same one as
            another line.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}: a Kaldi data directory has wav.scp, text and utt2spk.")
    table: Table = {}
    last = ""
    for where, line in _lines(path):
        name, *rest = _BLANKS.split(line, maxsplit=1)
        value = rest[0].rstrip(" \t") if rest else ""
        if name.encode() <= last.encode():
            what = "is there twice" if name in table else f"stands behind {last!r}, so the file is not sorted"
            raise ValueError(f"{where}: {name!r} {what}. {_SORT}.")
        got = len(_BLANKS.split(value)) + 1 if value else 1
        if columns is not None and got != columns:
            hint = " Ids have no spaces." if got > columns else ""
            raise ValueError(f"{where}: got {got} columns in {line!r}, expected {columns}.{hint}")
        table[name] = Row(where, value)
        last = name
    return table


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """`file:line` and the text of each line, of which there is at least one."""
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
        raise ValueError(f"{where}: the line ends as on Windows (CR LF). Convert the file: dos2unix.")
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
                "what all files have."
            )


def _check_speakers(folder: Path, speakers: Table) -> None:
    """Compares utt2spk with spk2utt where that is there; warns where Kaldi would sort otherwise, or of one speaker."""
    wrong = [name for name, row in speakers.items() if not name.startswith(row.value)]
    if wrong:
        logger.warning(
            "%s: %d utterances do not begin with their speaker, as Kaldi wants it: %s of %s, for one. Its own scripts "
            "would sort them by speaker into another order.",
            folder / "utt2spk",
            len(wrong),
            wrong[0],
            speakers[wrong[0]].value,
        )
    if len({row.value for row in speakers.values()}) == 1:
        logger.warning("%s: all utterances are of one speaker.", folder / "utt2spk")
    if (folder / "spk2utt").is_file():
        _check_spk2utt(read_table(folder / "spk2utt"), speakers, folder)


def _check_spk2utt(speakers: Table, of_utterances: Table, folder: Path) -> None:
    listed: set[str] = set()
    for speaker, row in speakers.items():
        for name in _BLANKS.split(row.value) if row.value else []:
            if name not in of_utterances or of_utterances[name].value != speaker or name in listed:
                raise ValueError(
                    f"{row.where}: {speaker!r} has {name!r}, which {folder / 'utt2spk'} does not say, or this file "
                    "says twice. Write it anew: utils/utt2spk_to_spk2utt.pl utt2spk > spk2utt."
                )
            listed.add(name)
    lacking = next((name for name in of_utterances if name not in listed), None)
    if lacking is not None:
        raise ValueError(f"{of_utterances[lacking].where}: {lacking!r} is not in {folder / 'spk2utt'}.")


def _check_texts(texts: Table) -> None:
    for row in texts.values():
        illegal = _ILLEGAL_WORDS.intersection(row.value.split(" "))
        blanks = {character for character in row.value if character.isspace() and character not in " \t"}
        if illegal or blanks:
            got = ", ".join(map(repr, sorted(illegal | blanks)))
            raise ValueError(f"{row.where}: the text has {got}, which Kaldi keeps for itself. Take it out.")


def _read_segments(folder: Path, speakers: Table, wavs: Table) -> dict[str, Segment]:
    """Where each utterance is; without a file, each is a whole recording of its name."""
    path = folder / "segments"
    if not path.is_file():
        _check_same_ids(folder / "utt2spk", speakers, folder / "wav.scp", wavs)
        return {name: Segment(name, where=wavs[name].where) for name in speakers}
    table = read_table(path, columns=4)
    _check_same_ids(folder / "utt2spk", speakers, path, table)
    segments = {name: _segment(row) for name, row in table.items()}
    unknown = next((segment for segment in segments.values() if segment.recording not in wavs), None)
    if unknown is not None:
        raise ValueError(f"{unknown.where}: {unknown.recording!r} is not in {folder / 'wav.scp'}.")
    used = {segment.recording for segment in segments.values()}
    _check_known({name: row for name, row in wavs.items() if name not in used}, used, path)
    _warn_of_overlaps(path, segments)
    return segments


def _segment(row: Row) -> Segment:
    recording, start, end = _BLANKS.split(row.value)
    begin = _number(row, start, above=-math.inf)
    if begin < 0:
        raise ValueError(f"{row.where}: the segment begins at {start} s, before its recording.")
    finish = _number(row, end, above=-math.inf)
    if finish <= begin:
        raise ValueError(f"{row.where}: the segment ends at {end} s, not behind its beginning at {start} s.")
    return Segment(recording, begin, finish, row.where)


def _number(row: Row, text: str, above: float) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not above < value < math.inf:
        limit = "" if above == -math.inf else f" above {above:g}"
        raise ValueError(f"{row.where}: got {text!r}, expected a number of seconds{limit}.")
    return value


def _check_known(table: Table, known: Iterable[str], path: Path) -> None:
    names = set(known)
    for name, row in table.items():
        if name not in names:
            raise ValueError(f"{row.where}: {name!r} is not in {path}.")


def _warn_of_overlaps(path: Path, segments: dict[str, Segment]) -> None:
    """Kaldi allows it: two people may talk at once. A file of shifted times looks the same."""
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
