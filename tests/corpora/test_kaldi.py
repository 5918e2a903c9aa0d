"""Tests `corpora.kaldi`: recordings and utterances of Kaldi data directories, and what is left out or refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
from kaldi_dirs import prepare, reasons, samples, write_corpus, write_dir, write_tone

from asrsparse.corpora.manifests import SPLITS
from asrsparse.data.cuts import make_cuts
from asrsparse.files import read_json, write_json
from asrsparse.video.io import write_video


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_corpus(tmp_path / "data")


def test_files_are_read_from_where_they_are(corpus):
    splits = prepare(corpus)
    assert set(splits) == set(SPLITS)
    recordings, supervisions = splits["dev"]
    assert [(s.id, s.speaker, s.text, s.start, s.duration) for s in supervisions] == [
        ("bert-0", "bert", "bin blue soon", 0.0, 2.0),
        ("bert-1", "bert", "bin blue now", 0.0, 2.0),
        ("bert-2", "bert", "bin blue soon", 0.0, 2.0),
    ]
    assert recordings["bert-0"].sources[0].source == str(corpus / "dev" / "wav" / "bert-0.wav")
    assert not (corpus.parent / "prepared" / "audio").exists()


def test_a_second_call_does_nothing_until_a_file_changes(corpus):
    prepare(corpus)
    completed = corpus.parent / "prepared" / "manifests" / ".completed"
    before = completed.stat().st_mtime_ns
    prepare(corpus)
    assert completed.stat().st_mtime_ns == before
    (corpus / "dev" / "text").write_text("bert-0 a\nbert-1 b\nbert-2 c\n")
    assert [s.text for s in prepare(corpus)["dev"][1]] == ["a", "b", "c"]


@pytest.mark.parametrize(("video", "old_name"), [("mouth_regions", "mouths"), (None, None)])
def test_data_that_an_earlier_version_prepared_are_not_prepared_again(corpus, video, old_name):
    write_mouth_regions(corpus)
    prepare(corpus, video=video)
    completed = corpus.parent / "prepared" / "manifests" / ".completed"
    write_json(completed, read_json(completed) | {"video": old_name})
    before = completed.stat().st_mtime_ns
    prepare(corpus, video=video)
    assert completed.stat().st_mtime_ns == before


def test_directories_have_any_names_and_paths_are_relative_to_the_current_folder(corpus, monkeypatch):
    write_dir(corpus / "train_si284", "anna")
    write_dir(corpus / "eval92", "carl")
    (corpus / "dev" / "wav.scp").write_text("".join(f"bert-{n} dev/wav/bert-{n}.wav\n" for n in range(3)))
    with pytest.raises(ValueError, match=r"no file dev/wav/bert-0\.wav in .*, the current folder"):
        prepare(corpus, train="train_si284", test_splits=["eval92"])
    monkeypatch.chdir(corpus)
    assert set(prepare(corpus, train="train_si284", test_splits=["eval92"])) == {"train", "dev", "eval92"}


def test_segments_become_cuts_of_their_recordings(corpus):
    long = write_tone(corpus / "call.wav", seconds=5.0)
    (corpus / "dev" / "wav.scp").write_text(f"call {long}\n")
    (corpus / "dev" / "segments").write_text("bert-0 call 0.5 1.75\nbert-1 call 2 3\nbert-2 call 4 5.3\n")
    cuts = make_cuts(*prepare(corpus)["dev"])
    assert [(cut.id, cut.start, cut.duration) for cut in cuts] == [
        ("bert-0", 0.5, 1.25),
        ("bert-1", 2.0, 1.0),
        ("bert-2", 4.0, 1.0),  # less than half a second behind the end: cut off there, as Kaldi does
    ]
    np.testing.assert_array_equal((cuts[0].load_audio()[0] * 32768).astype(np.int16), samples(long)[8000:28000])


def test_utterances_that_cannot_be_used_are_named_with_their_lines(corpus):
    folder = write_dir(corpus / "dev", "bert", 8)
    write_tone(folder / "wav" / "bert-1.wav", channels=2)
    (folder / "wav" / "bert-2.wav").write_bytes(b"no audio")
    (folder / "wav" / "bert-3.wav").unlink()
    (folder / "text").write_text((folder / "text").read_text().replace("bert-4 bin blue soon", "bert-4"))
    (folder / "utt2dur").write_text("".join(f"bert-{n} {3 if n == 5 else 2.03}\n" for n in range(8)))
    kept = prepare(corpus, max_left_out=0.7)["dev"][1]
    assert {s.id for s in kept} == {"bert-0", "bert-6", "bert-7"}
    scp = folder / "wav.scp"
    assert reasons(corpus, "dev") == {
        "bert-1": f"audio does not decode: {scp}:2: it has 2 channels, expected is one",
        "bert-2": f"audio does not decode: {scp}:3: {folder}/wav/bert-2.wav: Invalid data found when processing input",
        "bert-3": f"audio does not decode: {scp}:4: no file {folder}/wav/bert-3.wav",
        "bert-4": f"no words: {folder}/text:5",
        "bert-5": f"utt2dur has another length: {scp}:6: 2.00 s, not 3 s",
    }


def test_a_segment_long_after_its_recording_is_left_out(corpus):
    (corpus / "dev" / "wav.scp").write_text(f"call {write_tone(corpus / 'call.wav', seconds=5.0)}\n")
    (corpus / "dev" / "segments").write_text("bert-0 call 0.5 1.75\nbert-1 call 2 3\nbert-2 call 4 5.6\n")
    prepare(corpus, max_left_out=0.4)
    where = f"{corpus}/dev/segments:3"
    assert reasons(corpus, "dev") == {"bert-2": f"segment ends after its recording: {where}: at 5.6 s of 5.00 s"}


# ---- video


def write_mouth_regions(corpus: Path, size: int = 96) -> None:
    for split in SPLITS:
        names = [line.split()[0] for line in (corpus / split / "utt2spk").read_text().splitlines()]
        for number, name in enumerate(names):
            frames = np.full((50, size, size), 40 * number, np.uint8)
            write_video(corpus / split / "mouth_regions" / f"{name}.mp4", frames)
        lines = [f"{name} {corpus / split / 'mouth_regions' / name}.mp4\n" for name in names]
        (corpus / split / "video.scp").write_text("".join(lines))


def test_mouth_regions_are_read_from_where_they_are(corpus):
    write_mouth_regions(corpus)
    assert not make_cuts(*prepare(corpus)["dev"])[0].has_custom("video")
    cuts = make_cuts(*prepare(corpus, video="mouth_regions")["dev"])
    assert [round(cut.load_custom("video").mean()) for cut in cuts] == [0, 40, 80]
    assert cuts[0].custom["video"].array.storage_path == str(corpus / "dev" / "mouth_regions")


def test_other_videos_are_no_mouth_regions(corpus):
    write_mouth_regions(corpus, size=64)
    with pytest.raises(
        ValueError, match=r"no mouth region: .*video\.scp:1: 64x64 at 25 frames a second, expected 96x96 at 25"
    ):
        prepare(corpus, video="mouth_regions")


def test_videos_of_talkers_are_cropped_like_those_of_other_corpora(corpus):
    write_mouth_regions(corpus)
    (corpus / "dev" / "video.scp").write_text(f"bert-0 {corpus}/nowhere.mp4\n")
    with pytest.raises(ValueError, match=r"kaldi train: left out 3 .*anna-0: (black video|face|no face|video stands)"):
        prepare(corpus, video="faces")


def test_an_unknown_kind_of_video_and_a_missing_file_are_refused(corpus):
    with pytest.raises(ValueError, match=r"corpus\.video: got 'faces ', allowed are mouth_regions, faces and null"):
        prepare(corpus, video="faces ")
    with pytest.raises(ValueError, match=r"corpus\.video: got mouth_regions, but there is no .*train/video\.scp"):
        prepare(corpus, video="mouth_regions")


def test_warnings_of_the_validation_are_logged(corpus, caplog):
    with caplog.at_level(logging.WARNING):
        prepare(corpus)
    assert "all utterances are of one speaker" in caplog.text
