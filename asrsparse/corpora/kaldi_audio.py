"""Reads what wav.scp and video.scp of a Kaldi data directory name: files, offsets in archives, and commands.

A shell runs only the commands that `allow_commands` allows. Other libraries would run one, too: lhotse reads `.sph`
files by a shell command that contains the name of the file, and kaldiio runs whatever ends in `|`. So neither of them
is given such a name.
"""

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import av
import kaldiio
import soundfile
from lhotse import AudioSource, Recording
from lhotse.array import TemporalArray

from asrsparse.corpora.kaldi_files import KaldiLine
from asrsparse.corpora.left_out import LeftOutUtterance
from asrsparse.corpora.media import decode_audio
from asrsparse.files import atomic_path
from asrsparse.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from asrsparse.video.io import video_array
from asrsparse.video.mouth_regions import SIZE

_PLACE_IN_ARCHIVE = re.compile(r"([^|\[\]]+):([0-9]+)")
_AUDIO_SIGNATURES = (b"RIFF", b"fLaC", b"AUDIO")


@dataclass(frozen=True)
class AudioEntry:
    """One line of wav.scp, which is to become a recording.

    Attributes:
        id: The id of the recording.
        line: The line.
        folder: The folder that gets a copy of the audio if it cannot be read from where it is.
        allow_commands: Whether a command may run.
    """

    id: str
    line: KaldiLine
    folder: Path
    allow_commands: bool = False

    @property
    def copy(self) -> Path:
        """The file of the copy. Its name contains a hash of the line, so that a changed line gives a new copy."""
        digest = hashlib.blake2b(self.line.value.encode(), digest_size=4).hexdigest()
        return self.folder / f"{file_name(self.id)}.{digest}.flac"

    @property
    def is_command(self) -> bool:
        """Whether the line is a command for the shell."""
        return self.line.value.endswith("|")


def file_name(name: str) -> str:
    """Returns the id of a recording as a file name that cannot leave its folder.

    Example:
        >>> file_name("call/4-A"), file_name("..")
        ('call%2F4-A', '..')
        >>> (Path("audio") / f"{file_name('../a')}.flac").as_posix()
        'audio/..%2Fa.flac'
    """
    return quote(name, safe="")


def read_audio(entry: AudioEntry) -> Recording | LeftOutUtterance:
    """Returns a recording at 16 kHz. It names the file itself if libsndfile reads that, otherwise a copy.

    lhotse resamples files that have another rate when it loads them.

    Returns:
        The recording, or why there is none.
    """
    try:
        path = _as_file(entry)
        info = soundfile.info(str(path))
        if info.channels != 1:
            raise ValueError(f"it has {info.channels} channels, expected is one")
        if info.frames == 0:
            raise ValueError("it has no samples")
        source = AudioSource("file", [0], str(path))
        recording = Recording(entry.id, [source], info.samplerate, info.frames, info.frames / info.samplerate)
        return recording if info.samplerate == SAMPLING_RATE else recording.resample(SAMPLING_RATE)
    except (ValueError, OSError, soundfile.LibsndfileError) as error:
        reason = str(error).removeprefix("audio does not decode: ").removesuffix(".")
        return LeftOutUtterance(entry.id, f"audio does not decode: {entry.line.where}: {reason}", 0.0)


def _as_file(entry: AudioEntry) -> Path:
    """Returns a file that libsndfile reads: the named one, or a copy, which is written once."""
    if entry.is_command:
        return entry.copy if entry.copy.is_file() else _run(entry)
    place = _PLACE_IN_ARCHIVE.fullmatch(entry.line.value)
    path = Path(entry.line.value)
    if place is not None and not path.is_file():
        return entry.copy if entry.copy.is_file() else _unpack(Path(place[1]), int(place[2]), entry.copy)
    if not path.is_file():
        raise ValueError(no_file(path))
    if path.suffix.lower() != ".sph" and _is_readable(path):
        return path
    return entry.copy if entry.copy.is_file() else _copy(path, entry.copy)


def no_file(path: Path) -> str:
    """Returns the message that there is no such file; a relative path is stated with the current folder.

    Example:
        >>> no_file(Path("/data/a.wav"))
        'no file /data/a.wav'
    """
    return f"no file {path}" + ("" if path.is_absolute() else f" in {Path.cwd()}, the current folder")


def _is_readable(path: Path) -> bool:
    try:
        return bool(soundfile.info(str(path)).frames)
    except soundfile.LibsndfileError:
        return False


def _run(entry: AudioEntry) -> Path:
    assert entry.allow_commands, "commands that are not allowed are refused before any is run"
    command = entry.line.value.removesuffix("|")
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        printed = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it printed no error"]
        raise ValueError(f"the command ended with status {done.returncode}: {printed[0][:200]}")
    with tempfile.NamedTemporaryFile() as output:
        output.write(done.stdout)
        output.flush()
        return _copy(Path(output.name), entry.copy)


def _copy(path: Path, copy: Path) -> Path:
    samples = decode_audio(path)
    with atomic_path(copy) as temporary:
        soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return copy


def _unpack(archive: Path, offset: int, copy: Path) -> Path:
    """Copies the audio at a byte offset of an archive. Anything else is refused: kaldiio would unpickle it."""
    if not archive.is_file():
        raise ValueError(no_file(archive))
    with open(archive, "rb") as opened:
        opened.seek(offset)
        begin = opened.read(5)
    if not begin.startswith(_AUDIO_SIGNATURES):
        raise ValueError(f"at byte {offset} of {archive} there is no audio but {begin!r}")
    try:
        rate, samples = kaldiio.load_mat(f"{archive}:{offset}")
    except Exception as error:  # it passes on the errors of the readers of all formats, which are of many kinds
        raise ValueError(f"at byte {offset} of {archive} there is no complete audio: {error}") from None
    with atomic_path(copy) as temporary:
        soundfile.write(temporary, samples, rate, subtype="PCM_16")
    return copy


def read_mouth_region(line: KaldiLine) -> TemporalArray:
    """Returns the manifest of a video that is a mouth region already: 96x96 pixels at 25 frames a second.

    The file is not copied.

    Raises:
        ValueError: If the file is missing, does not decode, or has another size or rate.
    """
    path = Path(line.value)
    if not path.is_file():
        raise ValueError(f"video does not decode: {line.where}: {no_file(path)}")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found = (stream.width, stream.height, float(stream.average_rate or 0))
            num_frames = int(stream.frames)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"video does not decode: {line.where}: {error}") from None
    if found != (SIZE, SIZE, float(FRAMES_PER_SECOND)):
        raise ValueError(
            f"no mouth region: {line.where}: {found[0]}x{found[1]} at {found[2]:g} frames a second, expected "
            f"{SIZE}x{SIZE} at {FRAMES_PER_SECOND}; corpus.video=faces reads videos of talkers"
        )
    return video_array(path.parent, path.name, (num_frames, SIZE, SIZE))
