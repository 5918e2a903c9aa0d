"""Turns manifests into cuts, one for each usable utterance, and trains the tokenizer on their texts."""

import dataclasses
import gzip
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from lhotse import CutSet, MonoCut, RecordingSet, SupervisionSegment, SupervisionSet

import asrsparse.video.io  # noqa: F401  # registers the reader by which lhotse loads the videos of cuts
from asrsparse.corpora.left_out import LeftOut
from asrsparse.corpora.manifests import is_prepared, manifest_paths, preparing, read_split, splits_with
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.damage import find_damage
from asrsparse.data.tokenizer import CharTokenizer, SentencePieceTokenizer, Tokenizer
from asrsparse.files import atomic_path
from asrsparse.rates import ctc_frames, encoder_frames

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits that decide which utterances are left out.

    Attributes:
        min_duration: The shortest utterance in seconds.
        max_duration: The longest utterance of train and dev in seconds.
        max_left_out: The largest share of the utterances of a split that may be left out.
    """

    min_duration: float
    max_duration: float
    max_left_out: float


def prepare_cuts(
    manifest_dir: Path,
    cuts_dir: Path,
    test_splits: Sequence[str] = ("test",),
    vocab_size: int | None = None,
    speeds: Sequence[float] = (1.0,),
    min_duration: float = 0.1,
    max_duration: float = 30.0,
    max_left_out: float = 0.05,
    decode_audio: bool = True,
    num_jobs: int | None = None,
) -> None:
    """Writes the cuts of every split, their index, the list of utterances left out, and the tokenizer.

    `find_damage`, `why_unusable` and `why_untrainable` decide which utterances are left out. A second call with the
    same arguments and manifests returns at once.

    Args:
        manifest_dir: The folder that a `prepare_*` function of a corpus wrote.
        cuts_dir: The folder that gets `<split>_cuts.jsonl`, its index, `<split>_left_out.tsv`, and the tokenizer.
        test_splits: The names of the test sets; the other splits are train and dev.
        vocab_size: The number of tokens of SentencePiece, which is trained on the texts of train. With None, the tokens
            are characters.
        speeds: The speeds of training utterances; 1.0 must be one of them. Each other speed gives an utterance of its
            own, `<id>_sp1.1`, which pruning keeps or drops independently.
        min_duration: The shortest utterance in seconds.
        max_duration: The longest utterance of train and dev in seconds.
        max_left_out: The largest share of the utterances of a split that may be left out.
        decode_audio: Whether to decode all audio and video once, which finds damaged and truncated files.
        num_jobs: The number of processes that decode; by default one for each core.

    Raises:
        ValueError: If an argument is wrong, a manifest is missing, or too many utterances of a split are left out.
    """
    _check_arguments(speeds, min_duration, max_duration)
    splits = splits_with(test_splits)
    arguments = {
        "manifests": fingerprint(manifest_dir, splits),
        "test_splits": list(test_splits),
        "vocab_size": vocab_size,
        "speeds": list(speeds),
        "min_duration": min_duration,
        "max_duration": max_duration,
        "max_left_out": max_left_out,
        "decode_audio": decode_audio,
    }
    older = arguments | {"tokenizer": "char" if vocab_size is None else "bpe"}
    if is_prepared(cuts_dir, arguments, older) and all(cuts_path(cuts_dir, split).is_file() for split in splits):
        return
    with preparing(cuts_dir, arguments):
        for path in cuts_dir.glob("*_cuts.jsonl"):
            path.unlink()  # cuts of a test set that is no longer named would seem prepared
        tokenizer = _prepare_tokenizer(manifest_dir, cuts_dir, vocab_size)
        limits = Limits(min_duration, max_duration, max_left_out)
        for split in splits:
            cuts = make_cuts(*read_split(manifest_dir, split))
            # For each split alone: the same id may be another utterance in another split.
            damage = find_damage(cuts, num_jobs) if decode_audio else {}
            _write_cuts(cuts_dir, split, _select_split(cuts_dir, split, cuts, damage, tokenizer, limits, speeds))


def read_cuts(cuts_dir: Path, split: str) -> CutSet:
    """Returns the cuts of one split. They are read lazily, so that they take no memory.

    Args:
        cuts_dir: The folder that `prepare_cuts` wrote.
        split: The name of the split.

    Raises:
        ValueError: If there is no such split, or the cuts were never prepared.
    """
    path = cuts_path(cuts_dir, split)
    if not path.is_file():
        known = sorted(other.name.removesuffix("_cuts.jsonl") for other in cuts_dir.glob("*_cuts.jsonl"))
        if not (cuts_dir / ".completed").is_file():
            raise ValueError(f"No cuts {path}. Run `asrsparse prepare` first.")
        raise ValueError(
            f"split: got {split!r}, allowed are those of {cuts_dir}: {', '.join(known)}. Name one of them, or prepare "
            "another one with corpus.test_splits."
        )
    return CutSet.from_jsonl_lazy(path)


def cuts_path(cuts_dir: Path, split: str) -> Path:
    """Returns the file of the cuts of a split. It is not compressed, so that a line can be read by its byte offset."""
    return cuts_dir / f"{split}_cuts.jsonl"


def fingerprint(manifest_dir: Path, splits: Sequence[str]) -> str:
    """Returns a hash of the contents of the manifests, by which cuts of other manifests are recognised as outdated.

    Args:
        manifest_dir: The folder of the manifests.
        splits: The names of the splits.

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
            digest.update(gzip.decompress(path.read_bytes()))  # the compressed file contains the time of writing
    return digest.hexdigest()


def make_cuts(recordings: RecordingSet, supervisions: SupervisionSet) -> list[MonoCut]:
    """Returns one cut for each supervision, with its id, start and end, and with its video where it has one."""
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
    """Returns the segment with times that count from its start; lhotse's `with_offset` does not shift the alignment."""
    alignment = {
        name: [item.with_offset(-segment.start) for item in items] for name, items in (segment.alignment or {}).items()
    }
    custom = {name: value for name, value in (segment.custom or {}).items() if name != "video"}  # it is the cut's
    return dataclasses.replace(segment, start=0.0, alignment=alignment or None, custom=custom or None)


def perturb_speed(cuts: Sequence[MonoCut], speeds: Sequence[float]) -> list[MonoCut]:
    """Returns copies of cuts that lhotse resamples to another speed when it loads them; their ids end in the speed.

    (Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.)

    Args:
        cuts: One cut for each utterance.
        speeds: The factors, other than 1.

    Raises:
        ValueError: If a cut has a video: lhotse does not change the speed of that.
    """
    with_video = next((cut.id for cut in cuts if speeds and cut.has_custom("video")), None)
    if with_video is not None:
        raise ValueError(
            f"speeds: got {list(speeds)} beside 1.0, but {with_video} has a video, whose speed is fixed. "
            "Prepare the corpus without video, or with the speed 1.0 alone."
        )
    return [cut.perturb_speed(speed) for cut in cuts for speed in speeds]


def select_cuts(
    cuts: Iterable[MonoCut],
    damage: dict[str, str],
    tokenizer: Tokenizer,
    limits: Limits,
    left_out: LeftOut,
    keep_untrainable: bool = False,
) -> list[MonoCut]:
    """Returns the cuts to train on or to score.

    Args:
        cuts: One cut for each utterance.
        damage: Maps cut ids to what is wrong with their audio or video.
        tokenizer: Converts texts to labels.
        limits: The shortest and the longest utterance.
        left_out: Gets the other cuts.
        keep_untrainable: Whether to keep, with a warning, the cuts that cannot be trained on but can be scored. This is
            for test sets: without these cuts the error rate would be that of another test set.
    """
    kept = []
    for cut in cuts:
        unusable = why_unusable(cut, damage, limits.min_duration)
        untrainable = None if unusable else why_untrainable(cut, tokenizer, limits.max_duration)
        if unusable or (untrainable and not keep_untrainable):
            left_out.add(cut.id, str(unusable or untrainable), cut.duration)
            continue
        if untrainable:
            logger.warning("%s: kept, to score the complete set: %s: %s", left_out.where, cut.id, untrainable)
        kept.append(cut)
    return kept


def why_unusable(cut: MonoCut, damage: dict[str, str], min_duration: float) -> str | None:
    """Returns why a cut can neither be trained on nor scored, or None.

    Such cuts are left out of all splits: damaged ones, those without words, and those that are too short.

    Args:
        cut: One utterance.
        damage: Maps cut ids to what is wrong with their audio or video.
        min_duration: The shortest utterance in seconds.
    """
    if cut.id in damage:
        return damage[cut.id]
    if not (cut.supervisions[0].text or "").strip():
        return "no words"
    if cut.duration < min_duration:
        return f"shorter than {min_duration:g} s: {cut.duration:.3f} s"
    return None


def why_untrainable(cut: MonoCut, tokenizer: Tokenizer, max_duration: float) -> str | None:
    """Returns why a cut that has audio and words cannot be trained on, or None.

    Such cuts are left out of train and dev: those that are too long, that have characters outside the vocabulary, or
    that have fewer encoder frames than CTC needs for their labels.

    Args:
        cut: One utterance.
        tokenizer: Converts its text to labels.
        max_duration: The longest utterance in seconds.
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
    """Returns a tokenizer trained on texts: of characters, or of `vocab_size` tokens of SentencePiece."""
    return CharTokenizer.train(texts) if vocab_size is None else SentencePieceTokenizer.train(texts, vocab_size)


def _check_arguments(speeds: Sequence[float], min_duration: float, max_duration: float) -> None:
    if not 0 < min_duration < max_duration:
        raise ValueError(
            f"min_duration and max_duration: got {min_duration} and {max_duration} s, allowed are 0 < min < max."
        )
    if 1.0 not in speeds or len(set(speeds)) < len(speeds) or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ValueError(
            f"speeds: got {list(speeds)}, allowed are different factors from 0.5 to 2 with 1.0 among them: "
            "[0.9,1.0,1.1]."
        )


def _prepare_tokenizer(manifest_dir: Path, cuts_dir: Path, vocab_size: int | None) -> Tokenizer:
    """Trains the tokenizer on the texts of train and saves it with the cuts."""
    _, training_texts = read_split(manifest_dir, "train")
    tokenizer = train_tokenizer([segment.text or "" for segment in training_texts], vocab_size)
    tokenizer.save(cuts_dir)
    return tokenizer


def _select_split(
    cuts_dir: Path,
    split: str,
    cuts: Sequence[MonoCut],
    damage: dict[str, str],
    tokenizer: Tokenizer,
    limits: Limits,
    speeds: Sequence[float],
) -> list[MonoCut]:
    """Returns the cuts of a split that are kept, those of train at all speeds, and lists the ones left out."""
    left_out = LeftOut(f"{split} cuts", limits.max_left_out)
    is_test_set = split not in ("train", "dev")
    kept = select_cuts(cuts, damage, tokenizer, limits, left_out, keep_untrainable=is_test_set)
    num_cuts = len(cuts)
    if split == "train":
        copies = perturb_speed(kept, [speed for speed in speeds if speed != 1.0])
        kept += select_cuts(copies, {}, tokenizer, limits, left_out)
        num_cuts += len(copies)
    left_out.close(num_cuts, cuts_dir / f"{split}_left_out.tsv")
    return kept


def _write_cuts(cuts_dir: Path, split: str, cuts: Sequence[MonoCut]) -> None:
    path = cuts_path(cuts_dir, split)
    with atomic_path(path) as temporary:
        CutSet.from_cuts(cuts).to_file(temporary)
    CutIndex.make(path)
    seconds = sum(cut.duration for cut in cuts)
    mean = seconds / max(1, len(cuts))
    logger.info("%s: %d utterances, %.2f h, mean length %.2f s", split, len(cuts), seconds / 3600, mean)
