"""What LRS2 and LRS3 share: video clips of up to some minutes, each with a text file, in one folder for each talker."""

import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asrsparse.corpora.left_out import LeftOut, LeftOutUtterance
from asrsparse.corpora.lrs_text import Segment, read_transcript, split_at_words
from asrsparse.corpora.manifests import SPLITS, is_prepared, preparing, write_split
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.video.landmarks import landmark_file

logger = logging.getLogger(__name__)

LATEST_WORD = 0.5  # seconds by which a word may end after its clip: the times of words come from a forced alignment
_TALKER_AND_NUMBER = re.compile(r"[\w-]+/\d+")


@dataclass(frozen=True)
class Clip:
    """One clip of the corpus: a video and its text file, which are not read yet.

    Attributes:
        root: The folder that holds the subsets.
        subset: The subset of the corpus: `pretrain`, `trainval`, ...
        name: The clip's name in the subset, `talker/number`.
    """

    root: Path
    subset: str
    name: str

    def __post_init__(self) -> None:
        assert _TALKER_AND_NUMBER.fullmatch(self.name), self.name

    @property
    def id(self) -> str:
        """The id, `trainval-0d6iSvF1UmA-50006`. It has the subset, since two of them may have the same clip name."""
        return f"{self.subset}-{self.name.replace('/', '-')}"

    @property
    def talker(self) -> str:
        """The name of the clip's folder, which stands for the talker: a talk in LRS3, a programme in LRS2."""
        return self.name.partition("/")[0]

    def source(self, video: bool, landmarks_dir: Path | None) -> Source:
        """Returns the files to prepare.

        Args:
            video: Whether to prepare the mouth region, too.
            landmarks_dir: The folder of landmarks, or None to search for the face.
        """
        file, key = self.file(".mp4"), f"{self.subset}/{self.name}"
        landmarks = None if landmarks_dir is None else landmark_file(landmarks_dir, key)
        return Source(self.id, key, file, file if video else None, landmarks)

    def file(self, suffix: str) -> Path:
        """Returns the clip's file with a suffix, `.mp4` or `.txt`."""
        return self.root / self.subset / f"{self.name}{suffix}"


def is_talker_and_number(name: str) -> bool:
    """Returns whether a name has the form `talker/number`. Other names might lead out of the folder of the corpus.

    Example:
        >>> is_talker_and_number("0d6iSvF1UmA/50006"), is_talker_and_number("../50006")
        (True, False)
    """
    return _TALKER_AND_NUMBER.fullmatch(name) is not None


def prepare_clips(
    corpus: str,
    splits: Mapping[str, Sequence[Clip]],
    output_dir: Path,
    max_seconds: float = 24.0,
    video: bool = True,
    landmarks_dir: Path | None = None,
    num_jobs: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """Writes the manifests of the splits, with word times, the audio as 16 kHz mono FLAC, and the mouth regions.

    A second call with the same arguments and the same files returns at once. A call that was interrupted continues.

    Args:
        corpus: The name of the corpus, for messages.
        splits: The clips of train, dev and test.
        output_dir: The folder that gets `manifests/`, `audio/<subset>/<talker>/<number>.flac` and
            `video/<subset>/<talker>/<number>.mp4`.
        max_seconds: The longest segment in seconds. A longer training clip with word times is split between words; a
            clip without them stays whole.
        video: Whether to prepare the mouth regions, too. A clip without one is then left out.
        landmarks_dir: The folder of landmarks, `<subset>/<talker>/<number>.json` or `.npz` (see
            `asrsparse.video.landmarks`); by default the faces are searched for.
        num_jobs: The number of processes that decode; by default one for each core.
        max_left_out: The largest share of clips that may be unusable.

    Raises:
        ValueError: If an argument is wrong, too many clips are unusable, or a split would be empty.
    """
    if not max_seconds >= 1.0:
        raise ValueError(f"corpus.max_seconds: got {max_seconds}, allowed is at least 1 s.")
    arguments = {
        "corpus": corpus,
        "files": _fingerprint(splits),
        "max_seconds": max_seconds,
        "video": video,
        "landmarks_dir": None if landmarks_dir is None else str(landmarks_dir.resolve()),
        "max_left_out": max_left_out,
    }
    manifest_dir = output_dir / "manifests"
    if is_prepared(manifest_dir, arguments):
        return
    with preparing(manifest_dir, arguments):
        left_out = LeftOut(corpus, max_left_out)
        clips = [clip for split in SPLITS for clip in splits[split]]
        sources = [clip.source(video, landmarks_dir) for clip in clips]
        media = dict(zip(clips, prepare_media(corpus, sources, output_dir, num_jobs), strict=True))
        pairs = {}
        for split in SPLITS:
            longest = max_seconds if split == "train" else math.inf
            pairs[split] = supervise_all(splits[split], [media[clip] for clip in splits[split]], longest, left_out)
        left_out.close(len(clips), output_dir / "left_out.tsv")
        for split in SPLITS:
            recordings = RecordingSet.from_recordings(recording for recording, _ in pairs[split])
            supervisions = SupervisionSet.from_segments(segment for _, segments in pairs[split] for segment in segments)
            write_split(manifest_dir, split, recordings, supervisions)


def _fingerprint(splits: Mapping[str, Sequence[Clip]]) -> str:
    """Returns a hash of the paths of the clips, the split of each, and which of its files exist."""
    files = ((split, clip.file(".mp4"), clip.file(".txt")) for split, clips in splits.items() for clip in clips)
    used = "\n".join(f"{split} {video} {video.is_file()} {text.is_file()}" for split, video, text in files)
    return hashlib.blake2b(used.encode(), digest_size=8).hexdigest()


def supervise_all(
    clips: Sequence[Clip], prepared: Sequence[Media | LeftOutUtterance], max_seconds: float, left_out: LeftOut
) -> list[tuple[Recording, list[SupervisionSegment]]]:
    """Returns the recording of each clip with the segments of its text.

    Args:
        clips: The clips.
        prepared: The media of each clip, or why there are none.
        max_seconds: The longest segment in seconds.
        left_out: Gets the clips that have no audio, no mouth region, or no words.
    """
    pairs = []
    for clip, media in zip(clips, prepared, strict=True):
        if isinstance(media, LeftOutUtterance):
            missing = None if clip.file(".mp4").is_file() else f"no video: {clip.file('.mp4')}"
            left_out.add(clip.id, missing or media.reason, media.duration)
            continue
        try:
            pairs.append((media.recording, supervise(clip, media, max_seconds)))
        except ValueError as error:
            left_out.add(clip.id, str(error), media.recording.duration)
    return pairs


def supervise(clip: Clip, media: Media, max_seconds: float) -> list[SupervisionSegment]:
    """Returns the text, times and words of a clip: one segment, or several if it is longer than `max_seconds`.

    Args:
        clip: The clip.
        media: Its prepared audio and video.
        max_seconds: The longest segment in seconds.

    Raises:
        ValueError: If the text is missing or malformed, has no words, or has words long after the end of the video.
    """
    transcript = read_transcript(clip.file(".txt"))
    words, seconds = transcript.words, media.recording.duration
    if words and words[-1].end > seconds + LATEST_WORD:
        raise ValueError(
            f"file ends before its last word: {clip.file('.mp4')} has {seconds:.2f} s, its text has words "
            f"until {words[-1].end:.2f} s"
        )
    segments = split_at_words(words, seconds, max_seconds)
    if len(segments) == 1:
        return [_supervision(clip, clip.id, segments[0], transcript.text, media)]
    return [
        _supervision(clip, f"{clip.id}-{number:02d}", segment, " ".join(word.symbol for word in segment.words), media)
        for number, segment in enumerate(segments)
    ]


def _supervision(clip: Clip, name: str, segment: Segment, text: str, media: Media) -> SupervisionSegment:
    if segment.end <= segment.start:
        raise ValueError(f"no time for a word: {clip.file('.txt')}: {text!r} at {segment.start:.2f} s")
    return SupervisionSegment(
        id=name,
        recording_id=media.recording.id,
        start=segment.start,
        duration=round(segment.end - segment.start, ndigits=8),
        text=text,
        language="English",
        speaker=clip.talker,
        alignment={"word": [_within(word, segment) for word in segment.words]} if segment.words else None,
        custom={"video": media.video} if media.video else None,
    )


def _within(word: AlignmentItem, segment: Segment) -> AlignmentItem:
    """Clips the times of a word to its segment, whose borders are rounded to video frames."""
    start, end = (min(max(time, segment.start), segment.end) for time in (word.start, word.end))
    return word._replace(start=start, duration=round(end - start, ndigits=8))
