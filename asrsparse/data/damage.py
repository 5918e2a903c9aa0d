"""Finds the utterances whose audio or video is damaged, by decoding everything once in parallel processes."""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from lhotse import MonoCut, Recording
from rich.progress import track

from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.io import TOLERATED_FRAMES

Item = TypeVar("Item")


def find_damage(cuts: Sequence[MonoCut], num_jobs: int | None) -> dict[str, str]:
    """Decodes every recording and every video once.

    Args:
        cuts: One cut for each utterance.
        num_jobs: The number of processes; by default one for each core.

    Returns:
        Maps the ids of damaged cuts to what is wrong. A cut is damaged if its audio or video does not decode, or if
        they differ in length from each other or from the manifest.
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
    """Maps the name of each item to what is wrong with it, or None."""
    if not items:
        return {}
    with ProcessPoolExecutor(num_jobs) as pool:
        checked = pool.map(check, items.values(), chunksize=16)
        return dict(zip(items, track(checked, f"Checking {what}", total=len(items)), strict=True))


def _damage_of_audio(recording: Recording) -> str | None:
    try:
        recording.load_audio()
    except Exception as error:  # lhotse and its audio backends raise many kinds, and all of them mean this
        return f"audio does not decode: {_shortened(str(error), recording)}"
    return None


def _damage_of_video(cut: MonoCut) -> str | None:
    recording = cut.recording.duration
    excess = cut.custom["video"].end - recording
    try:
        num_frames, expected = len(cut.load_custom("video")), cut.duration * FRAMES_PER_SECOND
    except ValueError as error:
        return str(error)
    if abs(num_frames - expected) > TOLERATED_FRAMES:
        return (
            f"audio and video differ in length: {num_frames} frames of video, {cut.duration:.2f} s need {expected:.0f}"
        )
    if excess * FRAMES_PER_SECOND > TOLERATED_FRAMES:
        return f"audio and video differ in length: video is {excess:.2f} s longer than the {recording:.2f} s of audio"
    return None


def _shortened(error: str, recording: Recording) -> str:
    """Returns the useful part of lhotse's long message: a wrong number of samples, or the first backend's error."""
    missing = re.search(r"diff=(-?\d+)", error)
    if missing:
        found = recording.num_samples - int(missing[1])
        return f"it has {found} samples, its manifest says {recording.num_samples}"
    first_backend = re.search(r"Exception #0 .*'>: (.+)", error)
    return first_backend[1] if first_backend else error[:200]
