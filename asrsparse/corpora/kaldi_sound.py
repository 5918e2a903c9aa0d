"""What wav.scp and video.scp of a Kaldi data directory name: files, places in archives, and commands.

Nothing here runs a shell but `allow_commands`. Not every library is so careful: lhotse reads `.sph` through one, with
the file's name in the command, and kaldiio runs what ends in `|`; so neither sees such a name.
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

from asrsparse.corpora.kaldi_files import Row
from asrsparse.corpora.left_out import LeftOutUtterance
from asrsparse.corpora.media import decode_audio
from asrsparse.files import atomic_path
from asrsparse.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from asrsparse.video.io import video_array
from asrsparse.video.mouths import SIZE

_PLACE_IN_ARCHIVE = re.compile(r"([^|\[\]]+):([0-9]+)")
_SOUNDS = (b"RIFF", b"fLaC", b"AUDIO")


@dataclass(frozen=True)
class Sound:
    """What is to become a recording.

    Attributes:
        id: The recording's.
        row: Of wav.scp.
        folder: Where its sound goes if it cannot be read where it is.
        allow_commands: Whether a command may run.
    """

    id: str
    row: Row
    folder: Path
    allow_commands: bool = False

    @property
    def copy(self) -> Path:
        """Where its sound goes; another command of the same recording is copied anew."""
        digest = hashlib.blake2b(self.row.value.encode(), digest_size=4).hexdigest()
        return self.folder / f"{file_name(self.id)}.{digest}.flac"

    @property
    def is_command(self) -> bool:
        """Whether the row is what a shell runs."""
        return self.row.value.endswith("|")


def file_name(name: str) -> str:
    """A recording's id as the name of a file that cannot lead out of its folder.

    Example:
        >>> file_name("call/4-A"), file_name("..")
        ('call%2F4-A', '..')
        >>> (Path("audio") / f"{file_name('../a')}.flac").as_posix()
        'audio/..%2Fa.flac'
    """
    return quote(name, safe="")


def read_sound(sound: Sound) -> Recording | LeftOutUtterance:
    """A recording at 16 kHz: of the file itself if libsndfile reads it, else of a copy; other rates are resampled.

    Returns:
        The recording, or why there is none.
    """
    try:
        path = _as_file(sound)
        info = soundfile.info(str(path))
        if info.channels != 1:
            raise ValueError(f"it has {info.channels} channels, wanted is one")
        if info.frames == 0:
            raise ValueError("it holds no samples")
        source = AudioSource("file", [0], str(path))
        recording = Recording(sound.id, [source], info.samplerate, info.frames, info.frames / info.samplerate)
        return recording if info.samplerate == SAMPLING_RATE else recording.resample(SAMPLING_RATE)
    except (ValueError, OSError, soundfile.LibsndfileError) as error:
        reason = str(error).removeprefix("audio does not decode: ").removesuffix(".")
        return LeftOutUtterance(sound.id, f"audio does not decode: {sound.row.where}: {reason}", 0.0)


def _as_file(sound: Sound) -> Path:
    """A file that libsndfile reads; it is made if need be, once."""
    if sound.is_command:
        return sound.copy if sound.copy.is_file() else _run(sound)
    place = _PLACE_IN_ARCHIVE.fullmatch(sound.row.value)
    path = Path(sound.row.value)
    if place is not None and not path.is_file():
        return sound.copy if sound.copy.is_file() else _unpack(Path(place[1]), int(place[2]), sound.copy)
    if not path.is_file():
        raise ValueError(no_file(path))
    if path.suffix.lower() != ".sph" and _is_known(path):
        return path
    return sound.copy if sound.copy.is_file() else _copy(path, sound.copy)


def no_file(path: Path) -> str:
    """What is wrong with a path, and where it was looked for.

    Example:
        >>> no_file(Path("/data/a.wav"))
        'no file /data/a.wav'
    """
    return f"no file {path}" + ("" if path.is_absolute() else f" in {Path.cwd()}, the current folder")


def _is_known(path: Path) -> bool:
    try:
        return bool(soundfile.info(str(path)).frames)
    except soundfile.LibsndfileError:
        return False


def _run(sound: Sound) -> Path:
    assert sound.allow_commands, "commands are refused before any is run"
    command = sound.row.value.removesuffix("|")
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["and said nothing"]
        raise ValueError(f"the command ended with status {done.returncode}: {said[0][:200]}")
    with tempfile.NamedTemporaryFile() as output:
        output.write(done.stdout)
        output.flush()
        return _copy(Path(output.name), sound.copy)


def _copy(path: Path, copy: Path) -> Path:
    samples = decode_audio(path)
    with atomic_path(copy) as temporary:
        soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return copy


def _unpack(archive: Path, offset: int, copy: Path) -> Path:
    """Copies the sound at a place of an archive; kaldiio would also unpickle what it finds there."""
    if not archive.is_file():
        raise ValueError(no_file(archive))
    with open(archive, "rb") as opened:
        opened.seek(offset)
        begin = opened.read(5)
    if not begin.startswith(_SOUNDS):
        raise ValueError(f"at byte {offset} of {archive} is no sound but {begin!r}")
    try:
        rate, samples = kaldiio.load_mat(f"{archive}:{offset}")
    except Exception as error:  # it raises whatever the formats' readers do
        raise ValueError(f"at byte {offset} of {archive} is no whole sound: {error}") from None
    with atomic_path(copy) as temporary:
        soundfile.write(temporary, samples, rate, subtype="PCM_16")
    return copy


def read_mouths(row: Row) -> TemporalArray:
    """The video of a recording that is the mouth already, 96x96 at 25 frames a second, read where it lies.

    Raises:
        ValueError: If it is missing, does not decode, or is of another kind.
    """
    path = Path(row.value)
    if not path.is_file():
        raise ValueError(f"video does not decode: {row.where}: {no_file(path)}")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found = (stream.width, stream.height, float(stream.average_rate or 0))
            num_frames = int(stream.frames)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"video does not decode: {row.where}: {error}") from None
    if found != (SIZE, SIZE, float(FRAMES_PER_SECOND)):
        raise ValueError(
            f"no mouths: {row.where}: {found[0]}x{found[1]} at {found[2]:g} frames a second, expected {SIZE}x{SIZE} at "
            f"{FRAMES_PER_SECOND}; for films of talkers corpus.video=films"
        )
    return video_array(path.parent, path.name, (num_frames, SIZE, SIZE))
