"""What LRS2 and LRS3 share: videos of at most some minutes, each with a text file, in folders of talkers."""

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
from asrsparse.corpora.lrs_text import Segment, cut_at_words, read_transcript
from asrsparse.corpora.manifests import SPLITS, is_prepared, preparing, write_split
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.video.landmarks import landmark_file

logger = logging.getLogger(__name__)

LATEST_WORD = 0.5  # seconds that a word may end behind its file: times of words are those of a forced alignment
_TALKER_AND_NUMBER = re.compile(r"[\w-]+/\d+")


@dataclass(frozen=True)
class Clip:
    """One video of the corpus and its text, before either was read.

    Attributes:
        root: The folder that holds the parts.
        part: `pretrain`, `trainval`, ...
        name: `talker/number`.
    """

    root: Path
    part: str
    name: str

    def __post_init__(self) -> None:
        assert _TALKER_AND_NUMBER.fullmatch(self.name), self.name

    @property
    def id(self) -> str:
        """The same talker and number may be in two parts: `trainval-0d6iSvF1UmA-50006`."""
        return f"{self.part}-{self.name.replace('/', '-')}"

    @property
    def talker(self) -> str:
        """The folder in which it lies: a talk's in LRS3, a programme's in LRS2."""
        return self.name.partition("/")[0]

    def source(self, video: bool, landmarks_dir: Path | None) -> Source:
        """Its files, and what is to be made of them."""
        film, key = self.file(".mp4"), f"{self.part}/{self.name}"
        landmarks = None if landmarks_dir is None else landmark_file(landmarks_dir, key)
        return Source(self.id, key, film, film if video else None, landmarks)

    def file(self, suffix: str) -> Path:
        """`.mp4` or `.txt`."""
        return self.root / self.part / f"{self.name}{suffix}"


def is_talker_and_number(name: str) -> bool:
    """Whether `name` is `talker/number`: what is not might lead out of the corpus.

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
    """Writes the manifests of the splits, with word times, the sound as 16 kHz mono FLAC, and the mouths.

    A second call with the same arguments and the same files returns at once; an interrupted one continues.

    Args:
        corpus: Its name, for messages.
        splits: The clips of train, dev and test.
        output_dir: Where `manifests/`, `audio/<part>/<talker>/<number>.flac` and `video/<part>/...mp4` go.
        max_seconds: The longest segment that a training clip with word times may give; others are not cut.
        video: Whether to make the mouths.
        landmarks_dir: Where the mouths are, `<part>/<talker>/<number>.json` or `.npz` (`asrsparse.video.landmarks`); by
            default the faces are looked for.
        num_jobs: Number of processes that decode; by default one for each core.
        max_left_out: The largest share of clips that may be unusable before this stops.

    Raises:
        ValueError: If an argument is wrong, too many clips are unusable, or a split would be empty.
    """
    if not max_seconds >= 1.0:
        raise ValueError(f"max_seconds of {corpus}: got {max_seconds}, allowed is at least 1 s.")
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
    """A hash of where the clips lie, which split each is in, and which of its files is there."""
    files = ((split, clip.file(".mp4"), clip.file(".txt")) for split, clips in splits.items() for clip in clips)
    used = "\n".join(f"{split} {video} {video.is_file()} {text.is_file()}" for split, video, text in files)
    return hashlib.blake2b(used.encode(), digest_size=8).hexdigest()


def supervise_all(
    clips: Sequence[Clip], prepared: Sequence[Media | LeftOutUtterance], max_seconds: float, left_out: LeftOut
) -> list[tuple[Recording, list[SupervisionSegment]]]:
    """Pairs each clip with the segments of its text; clips without sound, mouth or words go to `left_out`."""
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
    """Texts, times and words of a clip: one segment, or several where it is longer than `max_seconds`.

    Raises:
        ValueError: If the text is missing or malformed, has no words, or goes on long after the end of the file.
    """
    transcript = read_transcript(clip.file(".txt"))
    words, seconds = transcript.words, media.recording.duration
    if words and words[-1].end > seconds + LATEST_WORD:
        raise ValueError(
            f"file ends before its last word: {clip.file('.mp4')} has {seconds:.2f} s, its text has words "
            f"until {words[-1].end:.2f} s"
        )
    segments = cut_at_words(words, seconds, max_seconds)
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
    """The word without what rounding a border to a video frame has put outside its segment."""
    start, end = (min(max(time, segment.start), segment.end) for time in (word.start, word.end))
    return word._replace(start=start, duration=round(end - start, ndigits=8))
