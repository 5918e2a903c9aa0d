"""Writes the manifests of small corpora, and prepares and reads their cuts."""

from pathlib import Path

import numpy as np
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asrsparse.corpora.manifests import SPLITS, read_split, write_split
from asrsparse.data.cuts import prepare_cuts, read_cuts
from asrsparse.video.io import video_array, write_video

TEXT = "bin blue at f two now"


def write_manifests(folder: Path, splits: tuple[str, ...] = SPLITS, **extra: list[tuple[str, str, float]]) -> Path:
    """Writes splits of four good utterances each, and of extra ones given as (id, text, seconds)."""
    for split in splits:
        names = [(f"{split}-{number}", TEXT, 1.5) for number in range(4)] + extra.get(split, [])
        recordings = [write_audio(folder / "audio" / f"{name}.flac", seconds) for name, _, seconds in names]
        segments = [SupervisionSegment(n, n, start=0.0, duration=seconds, text=text) for n, text, seconds in names]
        recording_set = RecordingSet.from_recordings(recordings)
        write_split(folder / "manifests", split, recording_set, SupervisionSet.from_segments(segments))
    return folder / "manifests"


def write_audio(path: Path, seconds: float) -> Recording:
    """Writes noise of some seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(16_000 * seconds))
    soundfile.write(path, noise, 16_000, subtype="PCM_16")
    return Recording.from_file(path)


def prepare(folder: Path, **arguments) -> Path:
    """Prepares the cuts of `folder/manifests` in `folder/cuts`."""
    prepare_cuts(folder / "manifests", folder / "cuts", num_jobs=1, **arguments)
    return folder / "cuts"


def ids(cuts_dir: Path, split: str) -> list[str]:
    """Returns the ids of the cuts of a split."""
    return [cut.id for cut in read_cuts(cuts_dir, split)]


def left_out(cuts_dir: Path, split: str) -> dict[str, str]:
    """Returns the ids of the utterances that a split leaves out, and the reasons."""
    lines = (cuts_dir / f"{split}_left_out.tsv").read_text().splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def write_video_manifests(folder: Path, num_frames: dict[str, int]) -> None:
    """Writes manifests like `write_manifests`, with further utterances of train whose videos have the given lengths."""
    write_manifests(folder, train=[(name, TEXT, 1.5) for name in num_frames])
    recordings, segments = read_split(folder / "manifests", "train")
    for segment in segments:
        if segment.id in num_frames:
            frames = np.full((num_frames[segment.id], 96, 96), 100, np.uint8)
            frames += np.arange(len(frames), dtype=np.uint8)[:, None, None]
            write_video(folder / "video" / f"{segment.id}.mp4", frames)
            segment.custom = {"video": video_array(folder / "video", f"{segment.id}.mp4", frames.shape), "light": "dim"}
    write_split(folder / "manifests", "train", recordings, segments)
