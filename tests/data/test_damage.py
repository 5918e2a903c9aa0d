"""Tests `data.damage`: audio and video that do not decode, or differ in length, are found and left out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSegment, SupervisionSet
from small_manifests import TEXT, ids, left_out, prepare, write_audio, write_manifests, write_video_manifests

from asrsparse.corpora.manifests import write_split
from asrsparse.video.io import write_video


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"no audio at all" * 1000)


def shorten(path: Path) -> None:
    """A whole file, but half as long as its manifest says."""
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[: len(samples) // 2], rate)


@pytest.mark.parametrize("split", ["train", "test"])
def test_audio_that_does_not_decode_is_left_out_of_every_split(tmp_path, split):
    damages = [truncate, shorten, empty, garble, Path.unlink]
    write_manifests(tmp_path, **{split: [(damage.__name__, TEXT, 1.5) for damage in damages]})
    for damage in damages:
        damage(tmp_path / "audio" / f"{damage.__name__}.flac")
    cuts_dir = prepare(tmp_path, max_left_out=0.6)
    reasons = left_out(cuts_dir, split)
    assert set(reasons) == {damage.__name__ for damage in damages}
    assert all(reason.startswith("audio does not decode: ") for reason in reasons.values())
    assert reasons["truncate"] == "audio does not decode: Error : flac decoder lost sync."
    assert reasons["shorten"] == "audio does not decode: it has 12000 samples, its manifest says 24000"
    assert ids(cuts_dir, split) == [f"{split}-{number}" for number in range(4)]


def test_video_that_is_missing_damaged_or_of_another_length_is_left_out(tmp_path):
    lengths = {"empty": 38, "gone": 38, "longer": 41, "shorter": 34, "cut": 38, "two_less": 36}
    write_video_manifests(tmp_path, lengths)
    empty(tmp_path / "video" / "empty.mp4")
    (tmp_path / "video" / "gone.mp4").unlink()
    write_video(tmp_path / "video" / "cut.mp4", np.full((20, 96, 96), 100, np.uint8))
    cuts_dir = prepare(tmp_path, max_left_out=0.6)
    reasons = left_out(cuts_dir, "train")
    assert set(reasons) == set(lengths) - {"two_less"}
    assert reasons["empty"].startswith("video does not decode: ")
    assert reasons["gone"].startswith("video does not decode: ")
    assert reasons["cut"].startswith("video is too short: ")
    assert reasons["longer"] == "audio and video differ in length: video is 0.14 s longer than the 1.50 s of audio"
    assert reasons["shorter"] == "audio and video differ in length: 34 frames of video, 1.50 s need 38"


def test_audio_is_not_decoded_if_that_is_switched_off(tmp_path):
    write_manifests(tmp_path)
    garble(tmp_path / "audio" / "train-2.flac")
    assert len(ids(prepare(tmp_path, decode_audio=False), "train")) == 4


def test_damage_in_one_split_does_not_concern_the_same_id_in_another(tmp_path):
    write_manifests(tmp_path, ("train", "dev"))
    recording = write_audio(tmp_path / "other" / "dev-1.flac", 1.5)
    segments = [SupervisionSegment("dev-1", "dev-1", start=0.0, duration=1.5, text=TEXT)]
    recordings = RecordingSet.from_recordings([recording])
    write_split(tmp_path / "manifests", "test", recordings, SupervisionSet.from_segments(segments))
    garble(tmp_path / "audio" / "dev-1.flac")
    cuts_dir = prepare(tmp_path, max_left_out=0.3)
    assert ids(cuts_dir, "dev") == ["dev-0", "dev-2", "dev-3"]
    assert ids(cuts_dir, "test") == ["dev-1"]
