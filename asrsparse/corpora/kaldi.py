"""Prepares any corpus that is given as Kaldi data directories; `kaldi_files.py` describes their files.

    corpus_dir/train/   corpus_dir/dev/   corpus_dir/<test set>/ ...

Paths in wav.scp and video.scp are relative to the current folder, as in Kaldi. Files are read from where they are. The
output of commands, audio in archives, and formats that libsndfile does not read are copied once to 16 kHz FLAC.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from rich.progress import track

from asrsparse.corpora.kaldi_audio import AudioEntry, file_name, no_file, read_audio, read_mouth_region
from asrsparse.corpora.kaldi_files import DataDir, Segment, read_data_dir
from asrsparse.corpora.left_out import LeftOut, LeftOutUtterance
from asrsparse.corpora.manifests import is_prepared, preparing, splits_with, write_split
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.video.landmarks import landmark_file

logger = logging.getLogger(__name__)

VIDEOS = {"mouth_regions": "mouths", "faces": "films"}
"""What video.scp may name -> how earlier versions called and recorded it."""

OVERSHOOT = 0.5  # seconds by which a segment may end after its recording, as in Kaldi's extract-segments
TOLERATED_SECONDS = 0.1  # by which utt2dur may be wrong: it is often counted in frames


@dataclass(frozen=True)
class ReadOptions:
    """Says how the media of data directories are read; `prepare_kaldi` explains the fields."""

    output_dir: Path
    allow_commands: bool
    video: str | None
    landmarks_dir: Path | None
    num_jobs: int | None


def prepare_kaldi(
    corpus_dir: Path,
    output_dir: Path,
    train: str = "train",
    dev: str = "dev",
    test_splits: Sequence[str] = ("test",),
    allow_commands: bool = False,
    video: str | None = None,
    landmarks_dir: Path | None = None,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """Checks the data directories of a corpus and writes its manifests.

    A second call with the same arguments and the same files in the directories returns at once.

    Args:
        corpus_dir: The folder of the data directories.
        output_dir: The folder that gets `manifests/` and, where copies are needed, `audio/<split>/<recording>.flac` and
            `video/<split>/<recording>.mp4`.
        train: The name of the directory of the training set.
        dev: The name of the directory of dev.
        test_splits: The names of the directories of the test sets.
        allow_commands: Whether commands in wav.scp (`sox ... |`) are run. They can do whatever the user may do.
        video: What video.scp names: `mouth_regions` (96x96 grey pixels, 25 frames a second), which are read from where
            they are, or `faces`, videos of talkers, out of which the mouth region is cropped. With None it is not read.
        landmarks_dir: The folder of landmarks for videos of talkers, `<split>/<recording>.json` or `.npz` (see
            `asrsparse.video.landmarks`); by default the faces are searched for.
        num_jobs: The number of processes that read and decode; by default one for each core.
        max_left_out: The largest share of the utterances of a split that may be unusable.

    Raises:
        ValueError: If an argument is wrong, a file is malformed, a command is not allowed, or too many utterances are
            unusable.
    """
    if video is not None and video not in VIDEOS:
        raise ValueError(f"corpus.video: got {video!r}, allowed are {', '.join(VIDEOS)} and null.")
    folders = dict(zip(splits_with(test_splits), (train, dev, *test_splits), strict=True))
    dirs = {split: read_data_dir(corpus_dir / folder) for split, folder in folders.items()}
    for data in dirs.values():
        _check_may_read(data, allow_commands, video)
    arguments = {
        "files": {split: _fingerprint(data.folder) for split, data in dirs.items()},
        "video": video,
        "landmarks_dir": None if landmarks_dir is None else str(landmarks_dir.resolve()),
        "max_left_out": max_left_out,
    }
    manifest_dir = output_dir / "manifests"
    if is_prepared(manifest_dir, arguments, arguments | {"video": VIDEOS.get(video or "")}):
        return
    options = ReadOptions(output_dir, allow_commands, video, landmarks_dir, num_jobs)
    with preparing(manifest_dir, arguments):
        for split, data in dirs.items():
            _prepare_split(split, data, options, LeftOut(f"kaldi {split}", max_left_out))


def _prepare_split(split: str, data: DataDir, options: ReadOptions, left_out: LeftOut) -> None:
    """Writes the manifests of one split, and the list of the utterances that it leaves out."""
    media = read_media(split, data, options)
    supervisions = supervise_all(data, media, left_out)
    left_out.close(len(data.segments), options.output_dir / f"{split}_left_out.tsv")
    used = {segment.recording_id for segment in supervisions}
    recordings = [m.recording for m in media.values() if isinstance(m, Media) and m.recording.id in used]
    write_split(
        options.output_dir / "manifests",
        split,
        RecordingSet.from_recordings(recordings),
        SupervisionSet.from_segments(supervisions),
    )


def _check_may_read(data: DataDir, allow_commands: bool, video: str | None) -> None:
    """Raises a ValueError for entries that are malformed or not allowed, before any entry is read."""
    for line in data.wavs.values():
        if not line.value or line.value == "-" or line.value[0] in "~|":
            raise ValueError(f"{line.where}: got {line.value!r}, expected a path, a place in an archive or a command.")
        if line.value.endswith("|") and not allow_commands:
            raise ValueError(
                f"{line.where}: {line.value!r} is a command for the shell, which can do whatever you can. If you trust "
                "all of this file, allow it: corpus.allow_commands=true."
            )
    if video is not None and not data.videos:
        raise ValueError(f"corpus.video: got {video}, but there is no {data.folder / 'video.scp'}.")


def _fingerprint(folder: Path) -> str:
    """Returns a hash of the files of a data directory."""
    names = ("utt2spk", "text", "wav.scp", "segments", "utt2dur", "video.scp")
    digest = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8)
    for path in (folder / name for name in names):
        digest.update(path.read_bytes() if path.is_file() else b"no file")
    return digest.hexdigest()


def read_media(split: str, data: DataDir, options: ReadOptions) -> dict[str, Media | LeftOutUtterance]:
    """Returns the audio and mouth region of each recording by its id, or why there are none.

    Args:
        split: The name of the split.
        data: Its data directory.
        options: How to read it.
    """
    folder = options.output_dir / "audio" / split
    entries = [AudioEntry(name, line, folder, options.allow_commands) for name, line in data.wavs.items()]
    with ProcessPoolExecutor(options.num_jobs) as pool:
        read = pool.map(read_audio, entries, chunksize=16)
        results = list(track(read, f"Reading {split}", total=len(entries)))
    recordings = {recording.id: recording for recording in results if isinstance(recording, Recording)}
    unreadable = {bad.utterance_id: bad for bad in results if isinstance(bad, LeftOutUtterance)}
    if options.video == "faces":
        return unreadable | _crop_faces(split, data, recordings, options)
    if options.video == "mouth_regions":
        return unreadable | {name: _with_mouth_region(recording, data) for name, recording in recordings.items()}
    return unreadable | {name: Media(recording) for name, recording in recordings.items()}


def _with_mouth_region(recording: Recording, data: DataDir) -> Media | LeftOutUtterance:
    if recording.id not in data.videos:
        return LeftOutUtterance(recording.id, f"no video: not in {data.folder / 'video.scp'}", recording.duration)
    try:
        return Media(recording, read_mouth_region(data.videos[recording.id]))
    except ValueError as error:
        return LeftOutUtterance(recording.id, str(error), recording.duration)


def _crop_faces(
    split: str, data: DataDir, recordings: Mapping[str, Recording], options: ReadOptions
) -> dict[str, Media | LeftOutUtterance]:
    """Crops the mouth regions as for the other corpora, which also copies the audio to FLAC."""
    sources, missing = [], {}
    for name, recording in recordings.items():
        line, key = data.videos.get(name), f"{split}/{file_name(name)}"
        if line is None or not Path(line.value).is_file():
            scp = data.folder / "video.scp"
            where = f"not in {scp}" if line is None else f"{line.where}: {no_file(Path(line.value))}"
            missing[name] = LeftOutUtterance(name, f"no video: {where}", recording.duration)
            continue
        landmarks = None if options.landmarks_dir is None else landmark_file(options.landmarks_dir, key)
        sources.append(Source(name, key, Path(recording.sources[0].source), Path(line.value), landmarks))
    media = prepare_media(f"kaldi {split}", sources, options.output_dir, options.num_jobs)
    return missing | {source.id: m for source, m in zip(sources, media, strict=True)}


def supervise_all(
    data: DataDir, media: Mapping[str, Media | LeftOutUtterance], left_out: LeftOut
) -> list[SupervisionSegment]:
    """Returns the text, speaker and times of each utterance.

    Args:
        data: The data directory.
        media: The media of each recording, or why there are none.
        left_out: Gets the utterances that have no words, no media, or no valid times.
    """
    supervisions = []
    for name, segment in data.segments.items():
        of_recording = media[segment.recording]
        if isinstance(of_recording, LeftOutUtterance):
            left_out.add(name, of_recording.reason, of_recording.duration)
            continue
        try:
            supervisions.append(_supervise(name, segment, data, of_recording))
        except ValueError as error:
            left_out.add(name, str(error), data.seconds.get(name, 0.0))
    return supervisions


def _supervise(name: str, segment: Segment, data: DataDir, media: Media) -> SupervisionSegment:
    seconds = media.recording.duration
    end = seconds if segment.end is None else segment.end
    if end > seconds + OVERSHOOT or segment.start >= seconds:
        raise ValueError(f"segment ends after its recording: {segment.where}: at {end:g} s of {seconds:.2f} s")
    if not data.texts[name].value:
        raise ValueError(f"no words: {data.texts[name].where}")
    duration = round(min(end, seconds) - segment.start, ndigits=8)
    stated = data.seconds.get(name, duration)
    if abs(stated - duration) > TOLERATED_SECONDS:
        raise ValueError(f"utt2dur has another length: {segment.where}: {duration:.2f} s, not {stated:g} s")
    return SupervisionSegment(
        id=name,
        recording_id=media.recording.id,
        start=segment.start,
        duration=duration,
        text=data.texts[name].value,
        speaker=data.speakers[name].value,
        custom={"video": media.video} if media.video else None,
    )
