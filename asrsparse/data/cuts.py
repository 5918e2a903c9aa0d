"""Manifests to cuts: one for each utterance, without those that cannot be used, and the tokenizer of their texts."""

import dataclasses
import gzip
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from rich.progress import track

from asrsparse.corpora.left_out import LeftOut
from asrsparse.corpora.manifests import is_prepared, manifest_paths, preparing, read_split, splits_with
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.tokenizer import CharTokenizer, SentencePieceTokenizer, Tokenizer
from asrsparse.files import atomic_path
from asrsparse.rates import FRAMES_PER_SECOND, ctc_frames, encoder_frames
from asrsparse.video.io import TOLERATED_FRAMES  # and lhotse learns to read videos

logger = logging.getLogger(__name__)

TOKENIZERS = ("char", "bpe")
Item = TypeVar("Item")


def prepare_cuts(
    manifest_dir: Path,
    cuts_dir: Path,
    test_splits: Sequence[str] = ("test",),
    tokenizer: str = "char",
    vocab_size: int | None = None,
    speeds: Sequence[float] = (1.0,),
    min_duration: float = 0.1,
    max_duration: float = 30.0,
    max_left_out: float = 0.05,
    decode_audio: bool = True,
    num_jobs: int | None = None,
) -> None:
    """Writes `<split>_cuts.jsonl`, its index, and `<split>_left_out.tsv` of every split, and the tokenizer.

    From every split go utterances whose audio or video does not decode, whose video has another length than their
    audio, that have no words, or that are too short. From train and dev go also those that are too long, that have
    fewer encoder frames than CTC needs for their labels, or that have characters outside the vocabulary; in test sets
    they stay, and a warning names them, for without them the error rate would be that of another test set. A second
    call with the same arguments and manifests returns at once.

    Args:
        manifest_dir: What a `prepare_*` of a corpus wrote.
        cuts_dir: Where cuts and tokenizer go.
        test_splits: The test sets; the other splits are train and dev.
        tokenizer: `char`, or `bpe` for SentencePiece units; trained on the training texts.
        vocab_size: Number of tokens, for `bpe` only.
        speeds: At which each training utterance is heard, 1.0 among them. At the others it is an utterance of its own,
            `<id>_sp1.1`, which pruning keeps or drops by itself.
        min_duration: Seconds that an utterance must have.
        max_duration: Seconds that an utterance of train or dev may have.
        max_left_out: The largest share of a split that may be left out before this stops.
        decode_audio: Whether to decode all audio once, and video where there is some, which finds damaged and
            truncated files.
        num_jobs: Number of processes that decode; by default one for each core.

    Raises:
        ValueError: If an argument is wrong, a manifest is missing, or too many utterances of a split are unusable.
    """
    _check_arguments(tokenizer, vocab_size, min_duration, max_duration)
    _check_speeds(speeds)
    splits = splits_with(test_splits)
    arguments = {
        "manifests": fingerprint(manifest_dir, splits),
        "test_splits": list(test_splits),
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
        "speeds": list(speeds),
        "min_duration": min_duration,
        "max_duration": max_duration,
        "max_left_out": max_left_out,
        "decode_audio": decode_audio,
    }
    if is_prepared(cuts_dir, arguments) and all(cuts_path(cuts_dir, split).is_file() for split in splits):
        return
    with preparing(cuts_dir, arguments):
        for path in cuts_dir.glob("*_cuts.jsonl"):
            path.unlink()  # those of a test set that is no longer named would be taken for prepared
        _, training_texts = read_split(manifest_dir, "train")
        units = train_tokenizer([segment.text or "" for segment in training_texts], vocab_size)
        units.save(cuts_dir)
        for split in splits:
            cuts = make_cuts(*read_split(manifest_dir, split))
            # By split, since the same id may be something else in another one.
            damage = find_damage(cuts, num_jobs) if decode_audio else {}
            left_out = LeftOut(f"{split} cuts", max_left_out)
            durations = (min_duration, max_duration)
            kept = select_cuts(cuts, damage, units, durations, left_out, whole_set=split in test_splits)
            num_copies = 0
            if split == "train":
                copies = perturb_speed(kept, [speed for speed in speeds if speed != 1.0])
                kept, num_copies = kept + select_cuts(copies, {}, units, durations, left_out), len(copies)
            left_out.close(len(cuts) + num_copies, cuts_dir / f"{split}_left_out.tsv")
            _write_cuts(cuts_dir, split, kept)


def read_cuts(cuts_dir: Path, split: str) -> CutSet:
    """The cuts of one split, read lazily: nothing but the place of the file is in memory.

    Raises:
        ValueError: If there is no such split, or the cuts were never prepared.
    """
    path = cuts_path(cuts_dir, split)
    if not path.is_file():
        known = sorted(other.name.removesuffix("_cuts.jsonl") for other in cuts_dir.glob("*_cuts.jsonl"))
        if not (cuts_dir / ".completed").is_file():
            raise ValueError(f"No cuts {path}. Run `asrsparse prepare` first.")
        raise ValueError(
            f"Unknown split: got {split!r}, those of {cuts_dir} are {', '.join(known)}. Name one of them, or prepare "
            "another with corpus.test_splits."
        )
    return CutSet.from_jsonl_lazy(path)


def cuts_path(cuts_dir: Path, split: str) -> Path:
    """The file of a split's cuts; not compressed, so that a line can be found by its place."""
    return cuts_dir / f"{split}_cuts.jsonl"


def fingerprint(manifest_dir: Path, splits: Sequence[str]) -> str:
    """A hash of what the manifests say, so that cuts made from others are known to be old.

    Raises:
        ValueError: If a manifest is missing.
    """
    digest = hashlib.blake2b(digest_size=8)
    for split in splits:
        for path in manifest_paths(manifest_dir, split):
            if not path.is_file():
                raise ValueError(
                    f"No manifest {path}. Run `asrsparse prepare` for this corpus and its test sets first."
                )
            digest.update(gzip.decompress(path.read_bytes()))  # the compressed file has its time of writing in it
    return digest.hexdigest()


def find_damage(cuts: Sequence[MonoCut], num_jobs: int | None) -> dict[str, str]:
    """Decodes every recording and every video once.

    Returns:
        Id to what is wrong, for the cuts whose audio or video does not give what it promises.
    """
    recordings = {cut.recording_id: cut.recording for cut in cuts}
    videos = {cut.id: cut for cut in cuts if cut.has_custom("video")}
    audio = _check_all("audio", _damage_of_audio, recordings, num_jobs)
    video = _check_all("video", _damage_of_video, videos, num_jobs)
    reasons = {cut.id: audio[cut.recording_id] or video.get(cut.id) for cut in cuts}
    return {name: reason for name, reason in reasons.items() if reason}


def _check_all(
    what: str, check: Callable[[Item], str | None], items: Mapping[str, Item], num_jobs: int | None
) -> dict[str, str | None]:
    """Name to what is wrong, or None, for all items; in several processes."""
    if not items:
        return {}
    with ProcessPoolExecutor(num_jobs) as pool:
        checked = pool.map(check, items.values(), chunksize=16)
        return dict(zip(items, track(checked, f"Checking {what}", total=len(items)), strict=True))


def _damage_of_audio(recording: Recording) -> str | None:
    try:
        recording.load_audio()
    except Exception as error:  # lhotse and its audio backends raise many kinds, and all mean this
        return f"audio does not decode: {_in_short(str(error), recording)}"
    return None


def _damage_of_video(cut: MonoCut) -> str | None:
    recording = cut.recording.duration
    beyond = cut.custom["video"].end - recording
    try:
        num_frames, expected = len(cut.load_custom("video")), cut.duration * FRAMES_PER_SECOND
    except ValueError as error:
        return str(error)
    if abs(num_frames - expected) > TOLERATED_FRAMES:
        return (
            f"audio and video differ in length: {num_frames} frames of video, {cut.duration:.2f} s need {expected:.0f}"
        )
    if beyond * FRAMES_PER_SECOND > TOLERATED_FRAMES:
        return f"audio and video differ in length: video goes on for {beyond:.2f} s after {recording:.2f} s of audio"
    return None


def _in_short(error: str, recording: Recording) -> str:
    """What matters in lhotse's message of many lines: a wrong number of samples, or what its first backend said."""
    missing = re.search(r"diff=(-?\d+)", error)
    if missing:
        found = recording.num_samples - int(missing[1])
        return f"it has {found} samples, its manifest says {recording.num_samples}"
    first_backend = re.search(r"Exception #0 .*'>: (.+)", error)
    return first_backend[1] if first_backend else error[:200]


def make_cuts(recordings: RecordingSet, supervisions: SupervisionSet) -> list[MonoCut]:
    """One cut for each supervision, from its start to its end, with its id, and with its video where it has one."""
    by_id = {recording.id: recording for recording in recordings}
    return [
        MonoCut(
            id=segment.id,
            start=segment.start,
            duration=segment.duration,
            channel=segment.channel,
            recording=by_id[segment.recording_id],
            supervisions=[_from_its_start(segment)],
            custom={"video": segment.custom["video"]} if segment.has_custom("video") else None,
        )
        for segment in supervisions
    ]


def _from_its_start(segment: SupervisionSegment) -> SupervisionSegment:
    """The segment with times that count from its start; lhotse's `with_offset` leaves those of the alignment alone."""
    alignment = {
        name: [item.with_offset(-segment.start) for item in items] for name, items in (segment.alignment or {}).items()
    }
    custom = {name: value for name, value in (segment.custom or {}).items() if name != "video"}  # it is the cut's
    return dataclasses.replace(segment, start=0.0, alignment=alignment or None, custom=custom or None)


def perturb_speed(cuts: Sequence[MonoCut], speeds: Sequence[float]) -> list[MonoCut]:
    """Copies of cuts that lhotse plays faster or slower when they are loaded, with the speed at the end of their ids.

    Args:
        cuts: One cut for each utterance.
        speeds: Other than 1.

    Raises:
        ValueError: If a cut has a video, which keeps its speed.
    """
    seen = next((cut.id for cut in cuts if speeds and cut.has_custom("video")), None)
    if seen is not None:
        raise ValueError(
            f"corpus.speeds: got {list(speeds)} beside 1.0, but {seen} has a video, which keeps its speed. Prepare the "
            "corpus without video, or with corpus.speeds=[1.0]."
        )
    return [cut.perturb_speed(speed) for cut in cuts for speed in speeds]


def select_cuts(
    cuts: Iterable[MonoCut],
    damage: dict[str, str],
    tokenizer: Tokenizer,
    durations: tuple[float, float],
    left_out: LeftOut,
    whole_set: bool = False,
) -> list[MonoCut]:
    """The cuts to train on or to score.

    Args:
        cuts: One cut for each utterance.
        damage: Cut id to what is wrong with its audio or video.
        tokenizer: Gives the labels.
        durations: The shortest and the longest that are allowed, in seconds.
        left_out: Takes the others.
        whole_set: Keeps, with a warning, also what cannot be trained on but can be decoded and scored.
    """
    kept = []
    for cut in cuts:
        unusable = why_unusable(cut, damage, durations[0])
        untrainable = None if unusable else why_untrainable(cut, tokenizer, durations[1])
        if unusable or (untrainable and not whole_set):
            left_out.add(cut.id, str(unusable or untrainable), cut.duration)
            continue
        if untrainable:
            logger.warning("%s: kept, to score the whole set: %s: %s", left_out.where, cut.id, untrainable)
        kept.append(cut)
    return kept


def why_unusable(cut: MonoCut, damage: dict[str, str], min_duration: float) -> str | None:
    """Why a cut can neither be trained on nor decoded and scored, or None.

    Args:
        cut: One utterance.
        damage: Cut id to what is wrong with its audio or video.
        min_duration: In seconds.
    """
    if cut.id in damage:
        return damage[cut.id]
    if not (cut.supervisions[0].text or "").strip():
        return "no words"
    if cut.duration < min_duration:
        return f"shorter than {min_duration:g} s: {cut.duration:.3f} s"
    return None


def why_untrainable(cut: MonoCut, tokenizer: Tokenizer, max_duration: float) -> str | None:
    """Why a cut that has audio and words can still not be trained on, or None.

    Args:
        cut: One utterance.
        tokenizer: Gives its labels.
        max_duration: In seconds.
    """
    text = cut.supervisions[0].text
    if cut.duration > max_duration:
        return f"longer than {max_duration:g} s: {cut.duration:.2f} s"
    unknown = tokenizer.unknown(text)
    if unknown:
        return f"characters outside the vocabulary: {' '.join(map(repr, sorted(set(unknown))))}"
    frames, needed = encoder_frames(cut.duration), ctc_frames(tokenizer.encode(text))
    if frames < needed:
        return f"too short for its labels: {frames} encoder frames, CTC needs {needed}"
    return None


def train_tokenizer(texts: Iterable[str], vocab_size: int | None) -> Tokenizer:
    """Trains a tokenizer on the training texts: characters, or `vocab_size` SentencePiece units."""
    return CharTokenizer.train(texts) if vocab_size is None else SentencePieceTokenizer.train(texts, vocab_size)


def _check_arguments(tokenizer: str, vocab_size: int | None, min_duration: float, max_duration: float) -> None:
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer: got {tokenizer!r}, allowed are {' and '.join(TOKENIZERS)}.")
    if (tokenizer == "bpe") != (vocab_size is not None):
        raise ValueError(
            f"vocab_size: got {vocab_size} with the tokenizer {tokenizer}. Give a number with bpe, none with char."
        )
    if not 0 < min_duration < max_duration:
        raise ValueError(
            f"min_duration and max_duration: got {min_duration} and {max_duration} s, allowed are 0 < min < max."
        )


def _check_speeds(speeds: Sequence[float]) -> None:
    if 1.0 not in speeds or len(set(speeds)) < len(speeds) or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ValueError(
            f"corpus.speeds: got {list(speeds)}, allowed are different factors from 0.5 to 2 with 1.0 among them: "
            "[0.9,1.0,1.1]."
        )


def _write_cuts(cuts_dir: Path, split: str, cuts: Sequence[MonoCut]) -> None:
    path = cuts_path(cuts_dir, split)
    with atomic_path(path) as temporary:
        CutSet.from_cuts(cuts).to_file(temporary)
    CutIndex.make(path)
    seconds = sum(cut.duration for cut in cuts)
    mean = seconds / max(1, len(cuts))
    logger.info("%s: %d utterances, %.2f h, mean length %.2f s", split, len(cuts), seconds / 3600, mean)
