import logging
from pathlib import Path

import numpy as np
import pytest
from lhotse import RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem
from small_manifests import TEXT, ids, left_out, prepare, write_audio, write_manifests, write_video_manifests

from asrsparse.corpora.grid import prepare_grid
from asrsparse.corpora.manifests import SPLITS, manifest_paths, write_split
from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.data.tokenizer import SentencePieceTokenizer, load_tokenizer
from asrsparse.files import read_json, write_json


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


def test_sentencepiece_has_the_requested_number_of_tokens(tmp_path):
    write_manifests(tmp_path)
    tokenizer = load_tokenizer(prepare(tmp_path, vocab_size=17))
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.vocab_size == 17


def test_the_summary_states_utterances_hours_and_mean_length(tmp_path, caplog):
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


@pytest.mark.parametrize(("vocab_size", "tokenizer"), [(None, "char"), (17, "bpe")])
def test_cuts_that_an_earlier_version_prepared_are_not_prepared_again(tmp_path, vocab_size, tokenizer):
    """Its record has the option `tokenizer`, too, which followed from `vocab_size`."""
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path, vocab_size=vocab_size)
    record = read_json(cuts_dir / ".completed")
    assert "tokenizer" not in record
    write_json(cuts_dir / ".completed", record | {"tokenizer": tokenizer})
    before = contents(cuts_dir)
    assert contents(prepare(tmp_path, vocab_size=vocab_size)) == before
    write_json(cuts_dir / ".completed", record | {"tokenizer": "word"})
    assert contents(prepare(tmp_path, vocab_size=vocab_size)) != before


def test_other_arguments_manifests_or_a_missing_file_make_it_prepare_again(tmp_path):
    write_manifests(tmp_path)
    cuts_dir = prepare(tmp_path)
    assert load_tokenizer(prepare(tmp_path, vocab_size=17)).vocab_size == 17
    write_manifests(tmp_path, test=[("new", TEXT, 1.5)])
    assert "new" in ids(prepare(tmp_path), "test")
    cuts_path(cuts_dir, "test").unlink()
    assert "new" in ids(prepare(tmp_path), "test")


def test_a_failed_call_does_not_count_as_prepared(tmp_path):
    write_manifests(tmp_path)
    prepare(tmp_path)
    with pytest.raises(ValueError, match="vocab_size"):
        prepare(tmp_path, vocab_size=5000)
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
        action = "kept, to score the complete set" if name in scored else "left out"
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


def test_a_cut_has_the_video_of_its_supervision(tmp_path):
    write_video_manifests(tmp_path, {"good": 38})
    cuts = {cut.id: cut for cut in read_cuts(prepare(tmp_path), "train")}
    assert cuts["good"].load_custom("video").shape == (38, 96, 96)
    middle = cuts["good"].truncate(offset=0.4, duration=0.4).load_custom("video")
    np.testing.assert_array_equal(middle, cuts["good"].load_custom("video")[10:20])
    assert cuts["good"].supervisions[0].custom == {"light": "dim"}
    assert not cuts["train-0"].has_custom("video")
    assert cuts["train-0"].supervisions[0].custom is None


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
        ({"speeds": [0.9, 1.1]}, r"speeds: got \[0\.9, 1\.1\], allowed are different factors from 0\.5 to 2"),
        ({"speeds": [1.0, 3.0]}, r"speeds: got \[1\.0, 3\.0\], allowed are different factors"),
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
    with pytest.raises(ValueError, match=r"split: got 'eval', allowed are those of .*: dev, test, train\. Name one"):
        read_cuts(cuts_dir, "eval")


# ---- several test sets


def test_test_sets_are_those_that_are_named(tmp_path):
    write_manifests(tmp_path, (*SPLITS, "test-clean", "test-other"))
    cuts_dir = prepare(tmp_path, test_splits=["test-other", "test-clean"])
    assert ids(cuts_dir, "test-other") == [f"test-other-{number}" for number in range(4)]
    with pytest.raises(ValueError, match=r"got 'test', allowed are those of .*: dev, test-clean, test-other, train"):
        read_cuts(cuts_dir, "test")
    prepare(tmp_path)
    with pytest.raises(ValueError, match=r"got 'test-clean', allowed are those of .*: dev, test, train"):
        read_cuts(cuts_dir, "test-clean")


def test_a_test_set_that_has_no_manifest_names_the_file(tmp_path):
    write_manifests(tmp_path)
    with pytest.raises(ValueError, match=r"No manifest .*test-clean_recordings.* for this corpus and its test sets"):
        prepare(tmp_path, test_splits=["test", "test-clean"])


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
    with pytest.raises(ValueError, match=r"speeds: got \[0\.9\] beside 1\.0, but good has a video"):
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
