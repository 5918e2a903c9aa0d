"""Prepares the GRID corpus: 34 talkers with 1,000 six-word sentences each (Cooke et al., JASA 120(5), 2006).

This is the layout of the corpus folder, as the archives of Zenodo record 3625687 unpack:

    s1/*.mpg ... s34/*.mpg      the videos (or .mp4; also in folders inside the folder of a talker); s21 has none
    alignments/s1/*.align       lines `start end word`, in samples at 25 kHz
    audio_25k/s1/*.wav          optional: the audio without MPEG compression, preferred to that of the video

Without video (`corpus.video=false`) a folder with alignments and audio_25k alone is enough.
"""

import hashlib
import logging
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem
from lhotse.utils import resumable_download

from asrsparse.corpora.left_out import LeftOut, LeftOutUtterance
from asrsparse.corpora.manifests import SPLITS, is_prepared, preparing, write_split
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.video.landmarks import landmark_file

logger = logging.getLogger(__name__)

SPEAKERS = tuple(f"s{number}" for number in range(1, 35) if number != 21)  # there is no video of s21
ALIGNMENT_RATE = 25_000  # the unit of .align files is 1/25000 s
NO_WORDS = ("sil", "sp")
SPLIT_SHARES = {"dev": 0.05, "test": 0.11}  # the rest is for training
LAYOUT = (
    "Expected are s1/*.mpg (or .mp4) and so on for each talker, and alignments/s1/*.align. Download the archives of "
    "https://zenodo.org/records/3625687 and unpack them there, or give the folder in which you did so."
)


@dataclass(frozen=True)
class Utterance:
    """One sentence of one talker.

    Attributes:
        speaker: The talker, `s1` to `s34`.
        sentence: The name of the sentence, which encodes its words: `bbaf2n`.
        audio: The file of the audio.
        alignment: The file of the word times.
        video: The file of the video, or None where only audio is wanted.
    """

    speaker: str
    sentence: str
    audio: Path
    alignment: Path
    video: Path | None = None

    @property
    def id(self) -> str:
        """The id, `s1-bbaf2n`. It has the talker, since several of them read the same sentence."""
        return f"{self.speaker}-{self.sentence}"


def download_grid(corpus_dir: Path, speakers: Sequence[str] = SPEAKERS, with_audio_25k: bool = True) -> Path:
    """Downloads the archives of the given talkers and unpacks them in `corpus_dir`; what is there stays as it is.

    An interrupted download continues where it stopped. An archive that is already in `corpus_dir` is not downloaded.
    Each archive is deleted after it is unpacked. All 33 talkers need about 16 GB.

    Args:
        corpus_dir: The folder of the corpus.
        speakers: The talkers, `s1` to `s34` without `s21`, of whom there is no video.
        with_audio_25k: Whether to download the audio of all talkers without MPEG compression, too.

    Returns:
        `corpus_dir`.

    Raises:
        ValueError: If a speaker is unknown, or an archive is damaged or has paths outside `corpus_dir`.
    """
    unknown = sorted(set(speakers) - set(SPEAKERS))
    if unknown:
        raise ValueError(
            f"speakers: got {', '.join(unknown)}, allowed are s1 to s34 without s21, of whom there is no video."
        )
    corpus_dir.mkdir(parents=True, exist_ok=True)
    names = ["alignments.zip", *(["audio_25k.zip"] if with_audio_25k else []), *(f"{s}.zip" for s in speakers)]
    for name in names:
        archive, unpacked = corpus_dir / name, corpus_dir / f".{name}.unpacked"
        if unpacked.is_file():
            continue
        if not zipfile.is_zipfile(archive):  # an incomplete download is no zip file: its directory is at the end
            resumable_download(f"https://zenodo.org/records/3625687/files/{name}?download=1", archive)
        extract_zip(archive, corpus_dir)
        unpacked.touch()
        archive.unlink()
    return corpus_dir


def extract_zip(archive: Path, folder: Path) -> None:
    """Unpacks a zip archive.

    Raises:
        ValueError: If the archive is damaged, or has a path outside `folder` (then nothing is unpacked).
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise ValueError(
                        f"{archive} has the path {name!r}, which is outside {folder}: nothing was unpacked."
                    )
            opened.extractall(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is damaged ({error}). Delete it and download it again.") from None


def prepare_grid(
    corpus_dir: Path,
    output_dir: Path,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
    video: bool = True,
    landmarks_dir: Path | None = None,
) -> None:
    """Writes the manifests of GRID's three splits, with word times, the audio as 16 kHz FLAC, and the mouth regions.

    The split of a sentence depends on its words alone, so it is the same for every talker. A second call with the same
    arguments and the same files in `corpus_dir` returns at once. A call that was interrupted continues.

    Args:
        corpus_dir: The corpus in its own layout (see the top of this file), with all talkers or some.
        output_dir: The folder that gets `manifests/`, `audio/<speaker>/<sentence>.flac` and
            `video/<speaker>/<sentence>.mp4`.
        num_jobs: The number of processes that decode; by default one for each core.
        max_left_out: The largest share of utterances that may be unusable.
        video: Whether to prepare the mouth regions, too. An utterance without one is then left out.
        landmarks_dir: The folder of landmarks, `<speaker>/<sentence>.json` or `.npz` (see `asrsparse.video.landmarks`);
            by default the faces are searched for.

    Raises:
        ValueError: If the folder is not the corpus, too many utterances are unusable, or a split would be empty.
    """
    utterances = find_utterances(corpus_dir, video)
    arguments = {
        "corpus": "grid",
        "corpus_dir": str(corpus_dir.resolve()),
        "files": _fingerprint(utterances, corpus_dir),
        "video": video,
        "landmarks_dir": None if landmarks_dir is None else str(landmarks_dir.resolve()),
        "max_left_out": max_left_out,
    }
    manifest_dir = output_dir / "manifests"
    if is_prepared(manifest_dir, arguments):
        return
    with preparing(manifest_dir, arguments):
        left_out = LeftOut("grid", max_left_out)
        sources = [_source(utterance, landmarks_dir) for utterance in utterances]
        pairs = supervise_all(utterances, prepare_media("grid", sources, output_dir, num_jobs), left_out)
        left_out.close(len(utterances), output_dir / "left_out.tsv")
        _write_splits(manifest_dir, pairs)


def find_utterances(corpus_dir: Path, video: bool = True) -> list[Utterance]:
    """Returns the utterances of all talkers in `corpus_dir` that have a video, sorted by talker and sentence.

    If there is no video at all and `video` is False, the utterances are those of `audio_25k`.

    Args:
        corpus_dir: The folder of the corpus.
        video: Whether the video is wanted.

    Raises:
        ValueError: If there is no such folder, or no video or no alignment folder in it.
    """
    if not corpus_dir.is_dir():
        raise ValueError(f"No folder {corpus_dir} with the GRID corpus. {LAYOUT}")
    videos = {talker.name: _files_of(talker, (".mpg", ".mp4")) for talker in _talker_folders(corpus_dir)}
    audio = {folder.name: _files_of(folder, (".wav",)) for folder in _talker_folders(corpus_dir / "audio_25k")}
    talkers = videos if video or any(videos.values()) else audio
    if not any(talkers.values()):
        remedy = " To prepare audio_25k alone, set corpus.video=false." if any(audio.values()) else ""
        raise ValueError(f"{corpus_dir} holds no video of a GRID talker.{remedy} {LAYOUT}")
    if not (corpus_dir / "alignments").is_dir():
        raise ValueError(f"{corpus_dir} holds no folder `alignments` (unpack alignments.zip there). {LAYOUT}")
    alignments = {folder.name: _files_of(folder, (".align",)) for folder in _talker_folders(corpus_dir / "alignments")}
    utterances = []
    for speaker, sentences in talkers.items():
        own_alignments = _folder_of(speaker, sentences, alignments)
        own_audio = _folder_of(speaker, sentences, audio)
        for sentence, file in sentences.items():
            expected = corpus_dir / "alignments" / speaker / f"{sentence}.align"
            alignment = own_alignments.get(sentence, expected)
            audio_file = own_audio.get(sentence, file)
            utterances.append(Utterance(speaker, sentence, audio_file, alignment, file if video else None))
    return utterances


def _talker_folders(folder: Path) -> list[Path]:
    """Returns the folders `s1`, `s2`, ... in a folder, sorted by number; none if there is no such folder."""
    talkers = [p for p in folder.glob("s*") if re.fullmatch(r"s\d+", p.name) and p.is_dir()]
    return sorted(talkers, key=lambda p: int(p.name[1:]))


def _files_of(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    """Maps sentences to files, those in subfolders, too (older archives have `s1/video/mpg_6000`)."""
    files = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    return {p.stem: p for p in sorted(files)}


def _folder_of(speaker: str, sentences: Iterable[str], folders: dict[str, dict[str, Path]]) -> dict[str, Path]:
    """Returns the files of the folder that has most of the sentences of a talker.

    Usually this is the folder with the talker's name. But in `alignments.zip` of Zenodo some talkers' folders have the
    number of another talker (s5 and s6, for example, are exchanged). No two talkers read the same thousand sentences.
    """
    if not folders:
        return {}
    own = set(sentences)
    name = max(folders, key=lambda f: (len(own & folders[f].keys()), f == speaker))
    if name != speaker and own & folders[name].keys():
        logger.info("grid: the sentences of %s are those of %s", speaker, next(iter(folders[name].values())).parent)
    return folders[name]


def _source(utterance: Utterance, landmarks_dir: Path | None) -> Source:
    key = f"{utterance.speaker}/{utterance.sentence}"
    landmarks = None if landmarks_dir is None else landmark_file(landmarks_dir, key)
    return Source(utterance.id, key, utterance.audio, utterance.video, landmarks)


def _fingerprint(utterances: Iterable[Utterance], corpus_dir: Path) -> str:
    """Returns a hash of the names of the files, by which talkers that are added later are noticed."""
    used = "\n".join(f"{u.audio.relative_to(corpus_dir)} {u.alignment.relative_to(corpus_dir)}" for u in utterances)
    return hashlib.blake2b(used.encode(), digest_size=8).hexdigest()


def supervise_all(
    utterances: Sequence[Utterance], prepared: Sequence[Media | LeftOutUtterance], left_out: LeftOut
) -> list[tuple[Recording, SupervisionSegment]]:
    """Returns the recording of each utterance with its text, word times and video.

    Args:
        utterances: The utterances.
        prepared: The media of each utterance, or why there are none.
        left_out: Gets the utterances that have no media or no valid alignment.
    """
    pairs = []
    for utterance, media in zip(utterances, prepared, strict=True):
        if isinstance(media, LeftOutUtterance):
            left_out.add(utterance.id, media.reason, media.duration)
            continue
        try:
            pairs.append((media.recording, supervise(utterance, media)))
        except ValueError as error:
            left_out.add(utterance.id, str(error), media.recording.duration)
    return pairs


def supervise(utterance: Utterance, media: Media) -> SupervisionSegment:
    """Returns the text, word times and video of one utterance.

    Args:
        utterance: The utterance.
        media: Its prepared audio and video.

    Raises:
        ValueError: If the alignment is missing or malformed, has no words, or has words after the end of the audio.
    """
    recording, words = media.recording, read_alignment(utterance.alignment)
    if not words:
        raise ValueError(f"no words: {utterance.alignment}")
    if words[-1].end > recording.duration + 0.04:  # one video frame of tolerance
        raise ValueError(
            f"audio ends before its last word: {utterance.audio} has {recording.duration:.2f} s, "
            f"{utterance.alignment} has words until {words[-1].end:.2f} s"
        )
    return SupervisionSegment(
        id=utterance.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        text=" ".join(word.symbol for word in words),
        language="English",
        speaker=utterance.speaker,
        alignment={"word": words},
        custom=None if media.video is None else {"video": media.video},
    )


def read_alignment(path: Path) -> list[AlignmentItem]:
    """Returns the words of an `.align` file without the silences, with times in seconds.

    Raises:
        ValueError: If there is no such file, or a line is not `start end word` with 0 <= start <= end.
    """
    if not path.is_file():
        raise ValueError(f"no alignment: {path}")
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*", line)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"malformed alignment: {path}:{number}: got {line!r}, expected `start end word`")
        if match[3] not in NO_WORDS:
            start, end = int(match[1]) / ALIGNMENT_RATE, int(match[2]) / ALIGNMENT_RATE
            words.append(AlignmentItem(symbol=match[3], start=start, duration=round(end - start, ndigits=8)))
    return words


def split_of(sentence: str) -> str:
    """Returns the split of a sentence by a hash of its name, which is the same on every machine and for every talker.

    Args:
        sentence: The name of the sentence.

    Example:
        >>> split_of("bbaf2n")
        'train'
    """
    digest = hashlib.blake2b(sentence.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < SPLIT_SHARES["dev"]:
        return "dev"
    return "test" if position < SPLIT_SHARES["dev"] + SPLIT_SHARES["test"] else "train"


def _write_splits(manifest_dir: Path, pairs: Sequence[tuple[Recording, SupervisionSegment]]) -> None:
    by_split: dict[str, list[tuple[Recording, SupervisionSegment]]] = {split: [] for split in SPLITS}
    for recording, supervision in pairs:
        by_split[split_of(supervision.id.partition("-")[2])].append((recording, supervision))
    empty = [split for split, members in by_split.items() if not members]
    if empty:
        raise ValueError(
            f"GRID's {' and '.join(empty)} split would be empty: {len(pairs)} utterances are too few to be split by "
            f"sentence (about 5 % dev, 11 % test). Add utterances; 100 are enough."
        )
    for split, members in by_split.items():
        recordings = RecordingSet.from_recordings(recording for recording, _ in members)
        write_split(manifest_dir, split, recordings, SupervisionSet.from_segments(segment for _, segment in members))
