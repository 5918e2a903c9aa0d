"""Tests `video.io`: small grey videos come back as they were written, by lhotse, too; other videos are resampled."""

import hashlib
import os
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut
from lhotse.dataset.collation import collate_custom_field
from lhotse.testing.dummies import dummy_recording
from video_files import TICKS, write_video_file

from asrsparse.corpora.media import decode_audio
from asrsparse.video.io import read_video, resampled_frames, video_array, write_video


def moving(num_frames: int = 20, size: int = 32) -> np.ndarray:
    """A bright square on a grey ground that moves right by a pixel a frame; a frame is told by its number."""
    frames = np.full((num_frames, size, size), 90, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:16, number : number + 8] = 240
    return frames


def test_frames_are_read_as_they_were_written(tmp_path):
    write_video(tmp_path / "a.mp4", moving())
    read = read_video(tmp_path / "a.mp4")
    assert read.shape == (20, 32, 32)
    assert np.abs(read.astype(int) - moving()).mean() < 2


_WRITING = """
import sys
from pathlib import Path
import numpy as np
from asrsparse.corpora.synthesis.mouth_drawing import draw_mouth_region, face_of
from asrsparse.corpora.synthesis.speech import Interval
from asrsparse.video.io import write_video
phones = [Interval("b", 0.2, 0.3), Interval("aI", 0.5, 0.3), Interval("f", 0.8, 0.3)]
write_video(Path(sys.argv[1]), draw_mouth_region(phones, 40, face_of("paul"), np.random.default_rng(3)))
"""


def test_the_bytes_do_not_depend_on_earlier_memory_contents(tmp_path):
    digests = set()
    for filling in ("1", "170"):  # glibc puts it into all memory that it hands out
        path = tmp_path / f"{filling}.mp4"
        environment = os.environ | {"MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", _WRITING, str(path)], env=environment, check=True)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_brightness_goes_from_0_to_255(tmp_path):
    black_and_white = np.repeat(np.array([0, 255], np.uint8), 4)[:, None, None] * np.ones((1, 32, 32), np.uint8)
    write_video(tmp_path / "a.mp4", black_and_white)
    read = read_video(tmp_path / "a.mp4")
    assert read[:4].max() < 5
    assert read[4:].min() > 250


@pytest.mark.parametrize(("first", "last"), [(0, 20), (3, 4), (7, None), (12, 20)])
def test_some_frames_equal_those_of_the_whole(tmp_path, first, last):
    write_video(tmp_path / "a.mp4", moving())
    np.testing.assert_array_equal(
        read_video(tmp_path / "a.mp4", first, last), read_video(tmp_path / "a.mp4")[first:last]
    )


def test_lhotse_cuts_truncate_and_collate_it(tmp_path):
    write_video(tmp_path / "a.mp4", moving(25))
    custom = {"video": video_array(tmp_path, "a.mp4", (25, 32, 32))}
    whole = MonoCut("a", start=0.0, duration=1.0, channel=0, recording=dummy_recording(0), custom=custom)
    segment = whole.truncate(offset=0.4, duration=0.2)
    CutSet.from_cuts([whole, segment]).to_file(tmp_path / "cuts.jsonl")
    again = CutSet.from_file(tmp_path / "cuts.jsonl").to_eager()
    frames, lens = collate_custom_field(again, "video", pad_value=0)
    assert frames.shape == (2, 25, 32, 32)
    assert lens.tolist() == [25, 5]
    np.testing.assert_array_equal(frames[1, :5].numpy(), read_video(tmp_path / "a.mp4", 10, 15))


@given(st.floats(0, 2.4))
def test_a_cut_that_begins_anywhere_has_frames_up_to_the_end(recorded, offset):
    segment = recorded.truncate(offset=offset)
    frames = segment.load_custom("video")
    assert abs(len(frames) - 25 * segment.duration) <= 1
    np.testing.assert_array_equal(frames[-1], recorded.load_custom("video")[-1])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> MonoCut:
    """A recording of 2.525 s, which has 63 frames."""
    folder = tmp_path_factory.mktemp("recorded")
    write_video(folder / "a.mp4", moving(63, size=72))
    recording = dummy_recording(0, duration=2.525)
    custom = {"video": video_array(folder, "a.mp4", (63, 72, 72))}
    return MonoCut("a", start=0.0, duration=2.525, channel=0, recording=recording, custom=custom)


def test_no_frame_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"frames: got none to write to .*a\.mp4, allowed is one or more"):
        write_video(tmp_path / "a.mp4", moving(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"video does not decode: .*a\.mp4: "):
        read_video(tmp_path / "a.mp4")


def test_too_few_frames_are_named(tmp_path):
    write_video(tmp_path / "a.mp4", moving(20))
    with pytest.raises(ValueError, match=r"video is too short: .*a\.mp4 has 20 frames, wanted are 10 to 30"):
        read_video(tmp_path / "a.mp4", 10, 30)


# ---- any video, at 25 frames a second


def shown(path, **arguments) -> np.ndarray:
    """The numbers of the frames that are taken."""
    return np.array([number for number, _ in resampled_frames(path, **arguments)])


def test_a_video_of_25_frames_a_second_is_not_resampled(tmp_path):
    frames = moving(20)
    read = list(resampled_frames(write_video_file(tmp_path / "a.mp4", frames)))
    assert [number for number, _ in read] == list(range(20))
    assert np.abs(np.stack([frame for _, frame in read]).astype(int) - frames).mean() < 3


@pytest.mark.parametrize("rate", [30_000 / 1001, 50, 60, 24, 15, 12.5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_frame_is_the_one_on_the_screen_in_the_middle_of_its_40_ms(tmp_path, rate, suffix):
    times = np.arange(round(3 * rate)) / rate
    numbers = shown(write_video_file(tmp_path / f"a{suffix}", moving(len(times), 128), times))
    middles = (np.arange(len(numbers)) + 0.5) / 25
    assert abs(len(numbers) - 75) <= 1
    assert (times[numbers] <= middles + 0.002).all()
    assert (middles < times[numbers] + 1 / rate + 0.002).all()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(600, 6000), min_size=5, max_size=40))
def test_a_varying_rate_is_followed(tmp_path, ticks):
    times = np.concatenate([[0], np.cumsum(ticks)[:-1]]) / TICKS
    numbers = shown(write_video_file(tmp_path / "a.mp4", moving(len(times), 64), times))
    middles = (np.arange(len(numbers)) + 0.5) / 25
    expected = np.searchsorted(times, middles, side="right") - 1
    assert (np.abs(numbers - expected) <= 1).all()
    assert (times[numbers] <= middles + 1e-4).all()


@pytest.mark.parametrize("rate", [30_000 / 1001, 50, 25])
@pytest.mark.parametrize("at", [0.52, 1.0, 1.37])
@pytest.mark.parametrize("audio_begins", [0.0, 0.12])
def test_a_flash_and_a_click_stay_at_the_same_time(tmp_path, rate, at, audio_begins):
    """Audio is decoded from its first sample on, so the frames are counted from there, too."""
    times = np.arange(round(2.5 * rate)) / rate
    frames = np.full((len(times), 32, 32), 60, np.uint8)
    first = np.searchsorted(times, at)
    frames[(times >= at) & (times < at + 0.1)] = 240
    samples = np.zeros(round(16_000 * (2.5 - audio_begins)), np.int16)
    click = times[first] + 0.05  # in the middle of the flash
    samples[round(16_000 * (click - audio_begins))] = 30_000
    path = write_video_file(tmp_path / "a.mkv", frames, times, samples, audio_begins)
    click = np.abs(decode_audio(path).astype(int)).argmax() / 16_000
    bright = [v for v, (_, frame) in enumerate(resampled_frames(path)) if frame.mean() > 150]
    flash = (bright[0] + bright[-1] + 1) / 2 / 25
    assert abs(flash - click) <= 0.021 + 1 / rate / 2


def test_video_that_begins_after_its_audio_shows_its_first_frame_until_then(tmp_path):
    path = write_video_file(tmp_path / "a.mkv", moving(25), np.arange(25) / 25 + 0.2, np.zeros(19_200, np.int16))
    assert shown(path).tolist() == [0] * 5 + list(range(25))
    assert shown(path, time_origin="video").tolist() == list(range(25))


def test_a_video_that_was_recorded_sideways_is_rotated(tmp_path):
    path = write_video_file(tmp_path / "a.mp4", moving(5))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # a quarter turn
    path.write_bytes(content)
    upright = next(resampled_frames(path))[1].astype(int)
    assert np.abs(upright - np.rot90(moving(1)[0], -1)).mean() < 5


def test_a_damaged_frame_is_replaced_by_the_one_before_it(tmp_path):
    path = write_video_file(tmp_path / "a.mp4", moving(25))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[packets[10].pos : packets[10].pos + packets[10].size] = b"\xff" * packets[10].size
    path.write_bytes(content)
    assert len(shown(path)) == 25


def test_a_truncated_file_is_refused_though_its_beginning_decodes(tmp_path):
    path = write_video_file(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (50, 64, 64), dtype=np.uint8))
    faststart(path, tmp_path / "b.mp4")
    content = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"video is cut off: .*b\.mp4 has [01]\.\d\d s, its header says 2\.00 s"):
        list(resampled_frames(tmp_path / "b.mp4"))


def faststart(source, target) -> None:
    """The same file with its header at the beginning."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"movflags": "faststart"}) as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)


def test_audio_alone_has_no_video_track(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16_000)
    with pytest.raises(ValueError, match=r"no video track: .*a\.wav"):
        list(resampled_frames(tmp_path / "a.wav"))
