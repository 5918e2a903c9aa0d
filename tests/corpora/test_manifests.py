import logging

import numpy as np
import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asrsparse.corpora.manifests import (
    is_prepared,
    manifest_paths,
    mark_prepared,
    preparing,
    read_split,
    splits_with,
    write_split,
)
from asrsparse.video.io import video_array


def utterance(folder, name: str = "u1", duration: float = 1.0):
    soundfile.write(folder / f"{name}.wav", np.zeros(16_000, dtype=np.int16), 16_000)
    recording = Recording.from_file(folder / f"{name}.wav")
    return recording, SupervisionSegment(name, name, start=0.0, duration=duration, text="bin blue")


def write(folder, *utterances):
    recordings, segments = zip(*utterances, strict=True)
    write_split(folder, "dev", RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(segments))


def test_manifests_are_read_as_they_were_written(tmp_path):
    written = [utterance(tmp_path, "u1"), utterance(tmp_path, "u2")]
    write(tmp_path / "manifests", *written)
    recordings, supervisions = read_split(tmp_path / "manifests", "dev")
    assert list(zip(recordings, supervisions, strict=True)) == written


def test_lhotse_does_not_warn_of_video_that_ends_within_a_frame_of_its_audio(tmp_path, caplog):
    recording, segment = utterance(tmp_path)
    segment.custom = {"video": video_array(tmp_path, "u1.mp4", (24, 96, 96))}
    write(tmp_path / "manifests", (recording, segment))
    assert caplog.text == ""
    logging.getLogger().warning("another possibly mismatched duration")
    assert "another" in caplog.text


def test_only_the_two_files_are_left(tmp_path):
    write(tmp_path / "manifests", utterance(tmp_path))
    assert sorted((tmp_path / "manifests").iterdir()) == sorted(manifest_paths(tmp_path / "manifests", "dev"))


def test_a_supervision_longer_than_its_recording_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(AssertionError, match="exceeded the bounds"):
        write(tmp_path / "manifests", utterance(tmp_path, duration=2.0))
    assert not (tmp_path / "manifests").exists()


def test_the_same_id_twice_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="duplicated"):
        write(tmp_path / "manifests", utterance(tmp_path), utterance(tmp_path))


def test_a_split_that_was_never_prepared_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No manifest .*train_recordings.*asrsparse prepare.*splits there: none"):
        read_split(tmp_path, "train")
    write(tmp_path, utterance(tmp_path))
    with pytest.raises(ValueError, match=r"No manifest .*train_recordings.*asrsparse prepare.*splits there: dev"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ([], r"\[\]"),
        (["dev"], r"\['dev'\]"),
        (["test", "test"], r"\['test', 'test'\]"),
        (["../test"], r"\['\.\./test'\]"),
        ([""], r"\[''\]"),
    ],
)
def test_wrong_names_of_test_sets_are_refused(names, got):
    with pytest.raises(ValueError, match=rf"corpus\.test_splits: got {got}, allowed are different names of letters"):
        splits_with(names)


def test_prepared_means_with_the_same_arguments(tmp_path):
    arguments = {"corpus_dir": "corpus", "max_left_out": 0.05}
    assert not is_prepared(tmp_path / "manifests", arguments)
    mark_prepared(tmp_path / "manifests", arguments)
    assert is_prepared(tmp_path / "manifests", arguments)
    assert not is_prepared(tmp_path / "manifests", {**arguments, "max_left_out": 0.1})


def test_a_preparation_that_did_not_finish_is_not_prepared(tmp_path):
    old, new = {"max_left_out": 0.05}, {"max_left_out": 0.1}
    mark_prepared(tmp_path, old)
    with pytest.raises(RuntimeError, match="the disk is full"), preparing(tmp_path, new):
        raise RuntimeError("the disk is full")
    assert not is_prepared(tmp_path, old)
    assert not is_prepared(tmp_path, new)
    with preparing(tmp_path, new):
        assert not is_prepared(tmp_path, new)
    assert is_prepared(tmp_path, new)
