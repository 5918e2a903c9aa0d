"""Tests `corpora.media`: audio and mouth region become small files of the same length; faces are bright squares."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from video_files import BrightSquares, squares, write_video_file

from asrsparse.corpora.left_out import LeftOutUtterance
from asrsparse.corpora.media import Media, Source, prepare_media
from asrsparse.files import write_json
from asrsparse.video import mouth_regions
from asrsparse.video.io import read_video
from asrsparse.video.mouth_regions import crop

TONE = (8000 * np.sin(np.arange(16_000) / 5)).astype(np.int16)


@pytest.fixture(autouse=True)
def _bright_squares(monkeypatch):
    monkeypatch.setattr(mouth_regions, "_haar_faces", BrightSquares)


def talker(path: Path, num_frames: int = 25, samples: np.ndarray | None = TONE, x: float = 80) -> Path:
    return write_video_file(path, squares([(x, 60)] * num_frames), samples=samples)


def prepare(folder: Path, *sources: Source) -> list[Media | LeftOutUtterance]:
    return prepare_media("grid", sources, folder / "data", num_jobs=1)


def source(name: str, video: Path, audio: Path | None = None) -> Source:
    return Source(f"s1-{name}", f"s1/{name}", audio or video, video)


def test_audio_and_mouth_region_are_written_with_manifests_and_a_contact_sheet(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        (media,) = prepare(tmp_path, source("a", talker(tmp_path / "a.mkv")))
    assert (media.recording.id, media.recording.num_samples) == ("s1-a", 16_000)
    assert media.video.shape == [25, 96, 96]
    assert (media.num_searched, media.num_found) == (7, 7)
    np.testing.assert_array_equal(media.video.load(), read_video(tmp_path / "data" / "video" / "s1" / "a.mp4"))
    assert (tmp_path / "data" / "audio" / "s1" / "a.flac").is_file()
    assert (tmp_path / "data" / "contact_sheet.png").is_file()
    assert "grid: 1 utterances (0.00 h) with video, 1 of them new: a face was found in 100.00 % of 7 fr" in caplog.text


def test_a_second_call_keeps_what_is_there_and_says_the_same(tmp_path, caplog):
    sources = [source("a", talker(tmp_path / "a.mkv")), source("b", talker(tmp_path / "b.mkv"))]
    first = prepare(tmp_path, *sources[:1])
    files = [tmp_path / "data" / "audio" / "s1" / "a.flac", tmp_path / "data" / "video" / "s1" / "a.mp4"]
    before = [file.stat().st_mtime_ns for file in files]
    with caplog.at_level(logging.INFO):
        prepare(tmp_path, *sources[:1])
    assert "1 utterances (0.00 h) with video, which were there already" in caplog.text
    again = prepare(tmp_path, *sources)  # as after an interrupt
    assert [file.stat().st_mtime_ns for file in files] == before
    assert (again[0].recording, again[0].video) == (first[0].recording, first[0].video)
    assert again[1].num_searched == 7


def test_without_video_no_frame_is_decoded(tmp_path):
    (media,) = prepare(tmp_path, Source("s1-a", "s1/a", talker(tmp_path / "a.mkv")))
    assert media.video is None
    assert not (tmp_path / "data" / "video").exists()
    assert not (tmp_path / "data" / "contact_sheet.png").exists()


@pytest.mark.parametrize("num_frames", [23, 24, 26, 27])
def test_video_gets_the_length_of_its_audio(tmp_path, num_frames):
    (media,) = prepare(tmp_path, source("a", talker(tmp_path / "a.mkv", num_frames)))
    assert media.video.shape == [25, 96, 96]


def test_separate_audio_begins_with_the_first_frame(tmp_path):
    """The audio in the video file begins 0.2 s before its frames; a separate audio file begins with them."""
    video = write_video_file(tmp_path / "a.mkv", squares([(80, 60)] * 25), np.arange(25) / 25 + 0.2, TONE)
    soundfile.write(tmp_path / "a.wav", TONE, 16_000)
    own, separate = prepare(tmp_path, source("own", video), source("separate", video, tmp_path / "a.wav"))
    assert own.reason.startswith("audio and video differ in length: ")
    assert separate.video.shape == [25, 96, 96]


def test_landmarks_give_the_mouth_region_and_are_not_mixed_with_the_detector(tmp_path):
    video = talker(tmp_path / "a.mkv")
    write_json(tmp_path / "a.json", [[90, 70, 48]] * 25)
    write_json(tmp_path / "b.json", [[90, 70, 48]] * 12)
    good = Source("s1-a", "s1/a", video, video, tmp_path / "a.json")
    bad = Source("s1-b", "s1/b", video, video, tmp_path / "b.json")
    missing = Source("s1-c", "s1/c", video, video, tmp_path / "c.json")
    media, misfit, unknown = prepare(tmp_path, good, bad, missing)
    expected = crop(squares([(80, 60)])[0], np.array([90, 70, 48])).astype(int)
    assert np.abs(media.video.load()[12] - expected).mean() < 3
    assert misfit.reason.startswith(f"landmarks do not fit: {video} has 25 frames, the landmarks have 12")
    assert unknown.reason == f"no landmarks: {tmp_path / 'c.json'}"
    with pytest.raises(
        ValueError, match=r"video holds mouth regions found by landmarks; .* those found by detector\. Delete"
    ):
        prepare(tmp_path, source("a", video))


def reason(folder: Path, bad: Path, audio: Path | None = None) -> str:
    """Why an utterance is left out, beside a good one."""
    good, left_out = prepare(folder, source("good", talker(folder / "good.mkv")), source("bad", bad, audio))
    assert isinstance(good, Media)
    assert isinstance(left_out, LeftOutUtterance)
    assert left_out.utterance_id == "s1-bad"
    assert not (folder / "data" / "video" / "s1" / "bad.mp4").exists()
    return left_out.reason


def test_a_video_without_a_face(tmp_path):
    frames = squares([(np.nan, 0)] * 25)
    frames[:, :20] = 190
    bad = write_video_file(tmp_path / "bad.mkv", frames, samples=TONE)
    assert reason(tmp_path, bad) == f"no face: {bad}: none was found in the 7 frames that were searched"


def test_a_black_video(tmp_path):
    bad = write_video_file(tmp_path / "bad.mkv", np.zeros((25, 64, 64), np.uint8), samples=TONE)
    assert reason(tmp_path, bad).startswith(f"black video: {bad}: ")


def test_two_faces(tmp_path):
    frames = squares([(40, 60)] * 25) + squares([(120, 60)] * 25) - 90
    bad = write_video_file(tmp_path / "bad.mkv", frames.astype(np.uint8), samples=TONE)
    assert reason(tmp_path, bad).startswith(f"two faces: {bad}: ")


def test_a_video_without_audio(tmp_path):
    assert reason(tmp_path, talker(tmp_path / "bad.mkv", samples=None)) == f"no audio track: {tmp_path / 'bad.mkv'}"


def test_audio_without_video(tmp_path):
    soundfile.write(tmp_path / "bad.wav", TONE, 16_000)
    assert reason(tmp_path, tmp_path / "bad.wav") == f"no video track: {tmp_path / 'bad.wav'}"


@pytest.mark.parametrize("num_frames", [20, 30])
def test_audio_and_video_of_other_lengths(tmp_path, num_frames):
    bad = talker(tmp_path / "bad.mkv", num_frames)
    assert reason(tmp_path, bad).startswith(f"audio and video differ in length: {bad} has {num_frames / 25:.2f} s of ")


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_an_empty_or_garbled_video(tmp_path, content):
    soundfile.write(tmp_path / "bad.wav", TONE, 16_000)
    (tmp_path / "bad.mkv").write_bytes(content)
    assert reason(tmp_path, tmp_path / "bad.mkv", tmp_path / "bad.wav").startswith("video does not decode: ")
    assert reason(tmp_path, tmp_path / "bad.mkv").startswith("video does not decode: ")  # its audio is there already


def test_a_prepared_file_that_was_damaged_is_named_with_the_remedy(tmp_path):
    video = talker(tmp_path / "a.mkv")
    prepare(tmp_path, source("a", video))
    damaged = tmp_path / "data" / "video" / "s1" / "a.mp4"
    damaged.write_bytes(b"")
    (left_out,) = prepare(tmp_path, source("a", video))
    assert left_out.reason == f"prepared video is damaged: {damaged}: delete it and prepare again"
    assert left_out.duration == 1.0
