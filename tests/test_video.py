"""Small grey videos: what is written comes back, whole and in parts, by lhotse too."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut
from lhotse.dataset.collation import collate_custom_field
from lhotse.testing.dummies import dummy_recording

from asrsparse.video import read_video, video_array, write_video


def moving(num_frames: int = 20, size: int = 32) -> np.ndarray:
    """A bright square on a grey ground that moves right by a pixel a frame; a frame is told by its number."""
    frames = np.full((num_frames, size, size), 90, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:16, number : number + 8] = 240
    return frames


def test_frames_come_back_as_they_were(tmp_path):
    write_video(tmp_path / "a.mp4", moving())
    read = read_video(tmp_path / "a.mp4")
    assert read.shape == (20, 32, 32)
    assert np.abs(read.astype(int) - moving()).mean() < 2


_WRITING = """
import sys
from pathlib import Path
import numpy as np
from asrsparse.mouth_drawing import draw_mouths, face_of
from asrsparse.speech_synthesis import Interval
from asrsparse.video import write_video
phones = [Interval("b", 0.2, 0.3), Interval("aI", 0.5, 0.3), Interval("f", 0.8, 0.3)]
write_video(Path(sys.argv[1]), draw_mouths(phones, 40, face_of("paul"), np.random.default_rng(3)))
"""


def test_the_same_bytes_whatever_was_in_memory_before(tmp_path):
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
def test_a_part_equals_the_part_of_the_whole(tmp_path, first, last):
    write_video(tmp_path / "a.mp4", moving())
    np.testing.assert_array_equal(
        read_video(tmp_path / "a.mp4", first, last), read_video(tmp_path / "a.mp4")[first:last]
    )


def test_lhotse_cuts_truncate_and_collate_it(tmp_path):
    write_video(tmp_path / "a.mp4", moving(25))
    custom = {"video": video_array(tmp_path, "a.mp4", (25, 32, 32))}
    whole = MonoCut("a", start=0.0, duration=1.0, channel=0, recording=dummy_recording(0), custom=custom)
    part = whole.truncate(offset=0.4, duration=0.2)
    CutSet.from_cuts([whole, part]).to_file(tmp_path / "cuts.jsonl")
    again = CutSet.from_file(tmp_path / "cuts.jsonl").to_eager()
    frames, lens = collate_custom_field(again, "video", pad_value=0)
    assert frames.shape == (2, 25, 32, 32)
    assert lens.tolist() == [25, 5]
    np.testing.assert_array_equal(frames[1, :5].numpy(), read_video(tmp_path / "a.mp4", 10, 15))


@given(st.floats(0, 2.4))
def test_a_cut_that_begins_anywhere_has_frames_up_to_the_end(recorded, offset):
    part = recorded.truncate(offset=offset)
    frames = part.load_custom("video")
    assert abs(len(frames) - 25 * part.duration) <= 1
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
    with pytest.raises(ValueError, match=r"no frames to write to .*a\.mp4: a video has one at least"):
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
