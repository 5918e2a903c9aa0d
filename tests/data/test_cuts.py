import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asrsparse.corpora.grid import prepare_grid
from asrsparse.corpora.manifests import SPLITS, manifest_paths, read_split, write_split
from asrsparse.data.cuts import cuts_path, prepare_cuts, read_cuts
from asrsparse.data.tokenizer import SentencePieceTokenizer, load_tokenizer
from asrsparse.video.io import video_array, write_video

TEXT = "bin blue at f two now"


def write_manifests(folder: Path, splits: tuple[str, ...] = SPLITS, **extra: list[tuple[str, str, float]]) -> Path:
    """Splits of four good utterances each, and extra ones of (id, text, seconds)."""
    for split in splits:
        names = [(f"{split}-{number}", TEXT, 1.5) for number in range(4)] + extra.get(split, [])
        recordings = [write_audio(folder / "audio" / f"{name}.flac", seconds) for name, _, seconds in names]
        segments = [SupervisionSegment(n, n, start=0.0, duration=seconds, text=text) for n, text, seconds in names]
        recording_set = RecordingSet.from_recordings(recordings)
        write_split(folder / "manifests", split, recording_set, SupervisionSet.from_segments(segments))
    return folder / "manifests"


def write_audio(path: Path, seconds: float) -> Recording:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(16_000 * seconds))
    soundfile.write(path, noise, 16_000, subtype="PCM_16")
    return Recording.from_file(path)


def prepare(folder: Path, **arguments) -> Path:
    prepare_cuts(folder / "manifests", folder / "cuts", num_jobs=1, **arguments)
    return folder / "cuts"


def ids(cuts_dir: Path, split: str) -> list[str]:
    return [cut.id for cut in read_cuts(cuts_dir, split)]


def left_out(cuts_dir: Path, split: str) -> dict[str, str]:
    lines = (cuts_dir / f"{split}_left_out.tsv").read_text().splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def test_every_utterance_becomes_a_cut_with_its_id(tmp_path):
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path)
    for split in SPLITS:
        assert ids(cuts_dir, split) == [f"{split}-{number}" for number in range(4)]
        assert left_out(cuts_dir, split) == {}
    cut = next(iter(read_cuts(cuts_dir, "train")))
    assert cut.supervisions[0].text == TEXT
    assert cut.load_audio().shape == (1, 24_000)


def test_a_cut_is_trimmed_to_its_supervision_and_so_are_word_times(tmp_path):
    write_manifests(tmp_path)
    recording = write_audio(tmp_path / "audio" / "meeting.flac", 10.0)
    segments = [
        SupervisionSegment(
            f"meeting-{start}",
            "meeting",
            start=start,
            duration=3.0,
            text=TEXT,
            alignment={"word": [AlignmentItem("bin", start=start + 0.5, duration=0.25)]},
        )
        for start in (1.0, 6.0)
    ]
    recordings = RecordingSet.from_recordings([recording])
    write_split(tmp_path / "manifests", "train", recordings, SupervisionSet.from_segments(segments))
    first, second = read_cuts(prepare(tmp_path), "train")
    assert (first.start, first.duration, second.start, second.duration) == (1.0, 3.0, 6.0, 3.0)
    for cut in (first, second):
        assert cut.supervisions[0].start == 0.0
        assert cut.supervisions[0].alignment["word"][0].start == 0.5


def test_the_tokenizer_is_trained_on_the_training_texts(tmp_path):
    write_manifests(tmp_path, train=[("t", "lay red", 1.0)])
    tokenizer = load_tokenizer(prepare(tmp_path))
    assert set(tokenizer.tokens[3:-1]) == set((TEXT + "lay red").replace(" ", ""))


def test_sentencepiece_units_have_the_size_asked_for(tmp_path):
    write_manifests(tmp_path)
    tokenizer = load_tokenizer(prepare(tmp_path, tokenizer="bpe", vocab_size=17))
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.vocab_size == 17


def test_the_summary_says_utterances_hours_and_mean_length(tmp_path, caplog):
    write_manifests(tmp_path)
    with caplog.at_level(logging.INFO):
        prepare(tmp_path)
    assert "train: 4 utterances, 0.00 h, mean length 1.50 s" in caplog.text


# ---- twice in a row


def contents(cuts_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cuts_dir.iterdir()}


def test_a_second_call_does_nothing_even_if_the_same_manifests_were_written_again(tmp_path):
    write_manifests(tmp_path)
    before = contents(prepare(tmp_path))
    assert contents(prepare(tmp_path)) == before
    write_manifests(tmp_path)
    assert contents(prepare(tmp_path)) == before


def test_other_arguments_manifests_or_a_lost_file_make_it_work_again(tmp_path):
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path)
    assert load_tokenizer(prepare(tmp_path, tokenizer="bpe", vocab_size=17)).vocab_size == 17
    write_manifests(tmp_path, test=[("new", TEXT, 1.5)])
    assert "new" in ids(prepare(tmp_path), "test")
    cuts_path(cuts_dir, "test").unlink()
    assert "new" in ids(prepare(tmp_path), "test")


def test_a_failed_call_does_not_pass_for_the_call_before_it(tmp_path):
    write_manifests(tmp_path)
    prepare(tmp_path)
    with pytest.raises(ValueError, match="vocab_size"):
        prepare(tmp_path, tokenizer="bpe", vocab_size=5000)
    assert not (tmp_path / "cuts" / ".completed").exists()


# ---- utterances that cannot be used

BAD = {  # (id, text, seconds) and why, with max_duration=2
    ("empty", "  ", 1.5): "no words",
    ("short", "a", 0.05): "shorter than 0.1 s: 0.050 s",
    ("long", TEXT, 3.0): "longer than 2 s: 3.00 s",
    ("fast", TEXT, 0.5): "too short for its labels: 12 encoder frames, CTC needs 21",
}


@pytest.mark.parametrize("split", SPLITS)
def test_bad_utterances_are_named_counted_and_left_out_unless_a_test_set_can_still_score_them(tmp_path, caplog, split):
    write_manifests(tmp_path, **{split: list(BAD)})
    with caplog.at_level(logging.WARNING):
        cuts_dir = prepare(tmp_path, max_duration=2.0, max_left_out=0.5)
    scored = {"long", "fast"} if split == "test" else set()
    assert left_out(cuts_dir, split) == {name: reason for (name, _, _), reason in BAD.items() if name not in scored}
    assert set(ids(cuts_dir, split)) == {f"{split}-{number}" for number in range(4)} | scored
    for (name, _, _), reason in BAD.items():
        action = "kept, to score the whole set" if name in scored else "left out"
        assert f"{split} cuts: {action}" in caplog.text
        assert f"{name}: {reason}" in caplog.text
    assert f"{split} cuts: left out {len(BAD) - len(scored)} utterances" in caplog.text


@pytest.mark.parametrize("split", ["dev", "test"])
def test_characters_outside_the_vocabulary(tmp_path, caplog, split):
    write_manifests(tmp_path, **{split: [("bad", "bin ßlue ß 7", 1.5)]})
    with caplog.at_level(logging.WARNING):
        cuts_dir = prepare(tmp_path, max_left_out=0.2)
    assert "bad: characters outside the vocabulary: '7' 'ß'" in caplog.text
    assert ("bad" in ids(cuts_dir, split)) == (split == "test")
    assert ("bad" in left_out(cuts_dir, split)) == (split == "dev")


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


def write_video_manifests(folder: Path, num_frames: dict[str, int]) -> None:
    """Manifests like `write_manifests`, each utterance of 1.5 s, those of train with so many frames of video."""
    write_manifests(folder, train=[(name, TEXT, 1.5) for name in num_frames])
    recordings, segments = read_split(folder / "manifests", "train")
    for segment in segments:
        if segment.id in num_frames:
            frames = np.full((num_frames[segment.id], 96, 96), 100, np.uint8)
            frames += np.arange(len(frames), dtype=np.uint8)[:, None, None]
            write_video(folder / "video" / f"{segment.id}.mp4", frames)
            segment.custom = {"video": video_array(folder / "video", f"{segment.id}.mp4", frames.shape), "light": "dim"}
    write_split(folder / "manifests", "train", recordings, segments)


def test_a_cut_has_the_video_of_its_supervision(tmp_path):
    write_video_manifests(tmp_path, {"good": 38})
    cuts = {cut.id: cut for cut in read_cuts(prepare(tmp_path), "train")}
    assert cuts["good"].load_custom("video").shape == (38, 96, 96)
    part = cuts["good"].truncate(offset=0.4, duration=0.4).load_custom("video")
    np.testing.assert_array_equal(part, cuts["good"].load_custom("video")[10:20])
    assert cuts["good"].supervisions[0].custom == {"light": "dim"}
    assert not cuts["train-0"].has_custom("video")
    assert cuts["train-0"].supervisions[0].custom is None


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
    assert reasons["longer"] == "audio and video differ in length: video goes on for 0.14 s after 1.50 s of audio"
    assert reasons["shorter"] == "audio and video differ in length: 34 frames of video, 1.50 s need 38"


def test_audio_is_not_looked_at_if_so_asked(tmp_path):
    write_manifests(tmp_path)
    garble(tmp_path / "audio" / "train-2.flac")
    assert len(ids(prepare(tmp_path, decode_audio=False), "train")) == 4


def test_too_many_bad_utterances_stop_the_run(tmp_path):
    write_manifests(tmp_path, dev=[("bad", "", 1.5)])
    with pytest.raises(ValueError, match=r"dev cuts: left out 1 .*1 of 5; allowed is a share of 0.05.*bad: no words"):
        prepare(tmp_path)
    with pytest.raises(ValueError, match="No cuts"):
        read_cuts(tmp_path / "cuts", "dev")


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokenizer": "word"}, "tokenizer: got 'word', allowed are char and bpe"),
        ({"tokenizer": "bpe"}, "vocab_size: got None with the tokenizer bpe. Give a number with bpe"),
        ({"vocab_size": 100}, "vocab_size: got 100 with the tokenizer char. Give a number with bpe, none with char"),
        ({"speeds": [0.9, 1.1]}, r"corpus\.speeds: got \[0\.9, 1\.1\], allowed are different factors from 0\.5 to 2"),
        ({"speeds": [1.0, 3.0]}, r"corpus\.speeds: got \[1\.0, 3\.0\], allowed are different factors"),
        ({"test_splits": []}, r"corpus\.test_splits: got \[\], allowed are different names"),
        ({"min_duration": 0.0}, "min_duration and max_duration: got 0.0 and 30.0 s, allowed are 0 < min < max"),
        ({"min_duration": 40.0}, "min_duration and max_duration: got 40.0 and 30.0 s, allowed are 0 < min < max"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, **arguments)


def test_missing_manifests_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No manifest .*train_recordings.*Run `asrsparse prepare`"):
        prepare(tmp_path)


def test_a_missing_manifest_of_one_split_names_the_file(tmp_path):
    manifest_paths(write_manifests(tmp_path), "dev")[1].unlink()
    with pytest.raises(ValueError, match=r"No manifest .*dev_supervisions"):
        prepare(tmp_path)


def test_cuts_that_were_never_prepared_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No cuts .*dev_cuts\.jsonl\. Run `asrsparse prepare` first"):
        read_cuts(tmp_path, "dev")


def test_an_unknown_split_names_the_known_ones(tmp_path):
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path)
    with pytest.raises(ValueError, match=r"Unknown split: got 'eval', those of .* are dev, test, train\. Name one"):
        read_cuts(cuts_dir, "eval")


# ---- several test sets


def test_test_sets_are_those_that_are_named(tmp_path):
    write_manifests(tmp_path, (*SPLITS, "test-clean", "test-other"))
    cuts_dir = prepare(tmp_path, test_splits=["test-other", "test-clean"])
    assert ids(cuts_dir, "test-other") == [f"test-other-{number}" for number in range(4)]
    with pytest.raises(ValueError, match=r"got 'test', those of .* are dev, test-clean, test-other, train"):
        read_cuts(cuts_dir, "test")
    prepare(tmp_path)
    with pytest.raises(ValueError, match=r"got 'test-clean', those of .* are dev, test, train"):
        read_cuts(cuts_dir, "test-clean")


def test_a_test_set_that_has_no_manifest_names_the_file(tmp_path):
    write_manifests(tmp_path)
    with pytest.raises(ValueError, match=r"No manifest .*test-clean_recordings.* for this corpus and its test sets"):
        prepare(tmp_path, test_splits=["test", "test-clean"])


def test_damage_in_one_split_says_nothing_of_the_same_id_in_another(tmp_path):
    write_manifests(tmp_path, ("train", "dev"))
    recording = write_audio(tmp_path / "other" / "dev-1.flac", 1.5)
    segments = [SupervisionSegment("dev-1", "dev-1", start=0.0, duration=1.5, text=TEXT)]
    recordings = RecordingSet.from_recordings([recording])
    write_split(tmp_path / "manifests", "test", recordings, SupervisionSet.from_segments(segments))
    garble(tmp_path / "audio" / "dev-1.flac")
    cuts_dir = prepare(tmp_path, max_left_out=0.3)
    assert ids(cuts_dir, "dev") == ["dev-0", "dev-2", "dev-3"]
    assert ids(cuts_dir, "test") == ["dev-1"]


# ---- speed


def test_each_speed_of_a_training_utterance_is_an_utterance_of_its_own(tmp_path):
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path, speeds=[0.9, 1.0, 1.1])
    cuts = {cut.id: cut for cut in read_cuts(cuts_dir, "train")}
    originals = [f"train-{number}" for number in range(4)]
    assert set(cuts) == {f"{name}{speed}" for name in originals for speed in ("", "_sp0.9", "_sp1.1")}
    assert ids(cuts_dir, "dev") == [f"dev-{number}" for number in range(4)]
    for name, cut in cuts.items():
        assert cut.supervisions[0].id == name
        assert cut.load_audio().shape == (1, cut.num_samples)
    lengths = [cuts[f"train-0{speed}"].num_samples for speed in ("_sp0.9", "", "_sp1.1")]
    assert lengths == [26_667, 24_000, 21_818]


def test_a_copy_that_is_too_fast_for_its_labels_is_left_out_by_its_own_id(tmp_path):
    write_manifests(tmp_path, train=[("fast", TEXT, 0.9)])
    cuts_dir = prepare(tmp_path, speeds=[1.0, 1.25], max_left_out=0.2)
    assert left_out(cuts_dir, "train") == {"fast_sp1.25": "too short for its labels: 17 encoder frames, CTC needs 21"}
    assert "fast" in ids(cuts_dir, "train")


def test_video_keeps_its_speed(tmp_path):
    write_video_manifests(tmp_path, {"good": 38})
    with pytest.raises(ValueError, match=r"corpus\.speeds: got \[0\.9\] beside 1\.0, but good has a video"):
        prepare(tmp_path, speeds=[0.9, 1.0])


# ---- frames


def test_real_utterances_become_cuts(grid_dir, tmp_path):
    (tmp_path / "grid" / "s1").mkdir(parents=True)
    for video in sorted((grid_dir / "s1").glob("*.m*"))[::20]:
        (tmp_path / "grid" / "s1" / video.name).symlink_to(video)
    (tmp_path / "grid" / "alignments").symlink_to(grid_dir / "alignments")
    prepare_grid(tmp_path / "grid", tmp_path, num_jobs=1)
    cuts_dir = prepare(tmp_path, max_left_out=0.5)  # few sentences: dev and test may have a letter that train has not
    assert sum(len(ids(cuts_dir, split)) + len(left_out(cuts_dir, split)) for split in SPLITS) == 45
    assert left_out(cuts_dir, "train") == left_out(cuts_dir, "test") == {}
