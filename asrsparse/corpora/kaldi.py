"""Anybody's corpus, in the form of Kaldi data directories; `kaldi_files.py` shows their files.

    corpus_dir/train/   corpus_dir/dev/   corpus_dir/<test set>/ ...

Paths in wav.scp and video.scp are relative to the current folder, as in Kaldi. Files are read where they lie; what
commands print, archives hold, or libsndfile does not read is copied once to 16 kHz FLAC.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from rich.progress import track

from asrsparse.corpora.kaldi_files import DataDir, Segment, read_data_dir
from asrsparse.corpora.kaldi_sound import Sound, file_name, no_file, read_mouths, read_sound
from asrsparse.corpora.left_out import LeftOut, LeftOutUtterance
from asrsparse.corpora.manifests import is_prepared, preparing, splits_with, write_split
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.video.landmarks import landmark_file

logger = logging.getLogger(__name__)

VIDEOS = ("mouths", "films")
OVERSHOOT = 0.5  # seconds that a segment may end behind its recording, as in Kaldi's extract-segments
TOLERATED_SECONDS = 0.1  # by which utt2dur may be wrong: it is often counted in frames


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
        corpus_dir: The folder of the directories.
        output_dir: Where `manifests/` and, where need be, `audio/<split>/<recording>.flac` and `video/...mp4` go.
        train: The directory of the training set.
        dev: That of dev.
        test_splits: Those of the test sets.
        allow_commands: Whether commands in wav.scp (`sox ... |`) are run: they can do whatever you can.
        video: What video.scp names: `mouths` (grey, 96x96, 25 a second), read where they lie, or `films` of talkers,
            whose mouths are looked for; None does not read it.
        landmarks_dir: Where the mouths are in films, see `asrsparse.video.landmarks`: `<split>/<recording>.json`.
        num_jobs: Number of processes that read and decode; by default one for each core.
        max_left_out: The largest share of a split that may be unusable before this stops.

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
    if is_prepared(manifest_dir, arguments):
        return
    with preparing(manifest_dir, arguments):
        for split, data in dirs.items():
            media = read_media(split, data, output_dir, allow_commands, video, landmarks_dir, num_jobs)
            left_out = LeftOut(f"kaldi {split}", max_left_out)
            supervisions = supervise_all(data, media, left_out)
            left_out.close(len(data.segments), output_dir / f"{split}_left_out.tsv")
            used = {segment.recording_id for segment in supervisions}
            recordings = [m.recording for m in media.values() if isinstance(m, Media) and m.recording.id in used]
            write_split(
                manifest_dir,
                split,
                RecordingSet.from_recordings(recordings),
                SupervisionSet.from_segments(supervisions),
            )


def _check_may_read(data: DataDir, allow_commands: bool, video: str | None) -> None:
    """Refuses what is not to be read, before anything is."""
    for row in data.wavs.values():
        if not row.value or row.value == "-" or row.value[0] in "~|":
            raise ValueError(f"{row.where}: got {row.value!r}, expected a path, a place in an archive or a command.")
        if row.value.endswith("|") and not allow_commands:
            raise ValueError(
                f"{row.where}: {row.value!r} is a command for the shell, which can do whatever you can. If you trust "
                "all of this file, allow it: corpus.allow_commands=true."
            )
    if video is not None and not data.videos:
        raise ValueError(f"corpus.video: got {video}, but there is no {data.folder / 'video.scp'}.")


def _fingerprint(folder: Path) -> str:
    names = ("utt2spk", "text", "wav.scp", "segments", "utt2dur", "video.scp")
    digest = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8)
    for path in (folder / name for name in names):
        digest.update(path.read_bytes() if path.is_file() else b"no file")
    return digest.hexdigest()


def read_media(
    split: str,
    data: DataDir,
    output_dir: Path,
    allow_commands: bool,
    video: str | None,
    landmarks_dir: Path | None,
    num_jobs: int | None,
) -> dict[str, Media | LeftOutUtterance]:
    """Sound and mouth of each recording, or why it has none; arguments as for `prepare_kaldi`."""
    folder = output_dir / "audio" / split
    sounds = [Sound(name, row, folder, allow_commands) for name, row in data.wavs.items()]
    with ProcessPoolExecutor(num_jobs) as pool:
        read = pool.map(read_sound, sounds, chunksize=16)
        recordings = list(track(read, f"Reading {split}", total=len(sounds)))
    heard = {recording.id: recording for recording in recordings if isinstance(recording, Recording)}
    unheard = {bad.utterance_id: bad for bad in recordings if isinstance(bad, LeftOutUtterance)}
    if video == "films":
        return unheard | _from_films(split, data, heard, output_dir, landmarks_dir, num_jobs)
    return unheard | {name: Media(r) if video is None else _with_mouths(r, data) for name, r in heard.items()}


def _with_mouths(recording: Recording, data: DataDir) -> Media | LeftOutUtterance:
    if recording.id not in data.videos:
        return LeftOutUtterance(recording.id, f"no video: not in {data.folder / 'video.scp'}", recording.duration)
    try:
        return Media(recording, read_mouths(data.videos[recording.id]))
    except ValueError as error:
        return LeftOutUtterance(recording.id, str(error), recording.duration)


def _from_films(
    split: str,
    data: DataDir,
    recordings: Mapping[str, Recording],
    output_dir: Path,
    landmarks_dir: Path | None,
    num_jobs: int | None,
) -> dict[str, Media | LeftOutUtterance]:
    """Looks for the mouths, as for the other corpora; the sound is copied to FLAC on the way."""
    sources, missing = [], {}
    for name, recording in recordings.items():
        row, key = data.videos.get(name), f"{split}/{file_name(name)}"
        if row is None or not Path(row.value).is_file():
            where = f"not in {data.folder / 'video.scp'}" if row is None else f"{row.where}: {no_file(Path(row.value))}"
            missing[name] = LeftOutUtterance(name, f"no video: {where}", recording.duration)
            continue
        landmarks = None if landmarks_dir is None else landmark_file(landmarks_dir, key)
        sources.append(Source(name, key, Path(recording.sources[0].source), Path(row.value), landmarks))
    media = prepare_media(f"kaldi {split}", sources, output_dir, num_jobs)
    return missing | {source.id: m for source, m in zip(sources, media, strict=True)}


def supervise_all(
    data: DataDir, media: Mapping[str, Media | LeftOutUtterance], left_out: LeftOut
) -> list[SupervisionSegment]:
    """Text, speaker and time of each utterance; those without words, sound or time go to `left_out`."""
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
    said = data.seconds.get(name, duration)
    if abs(said - duration) > TOLERATED_SECONDS:
        raise ValueError(f"utt2dur says another length: {segment.where}: {duration:.2f} s, not {said:g} s")
    return SupervisionSegment(
        id=name,
        recording_id=media.recording.id,
        start=segment.start,
        duration=duration,
        text=data.texts[name].value,
        speaker=data.speakers[name].value,
        custom={"video": media.video} if media.video else None,
    )
