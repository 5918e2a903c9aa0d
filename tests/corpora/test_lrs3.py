import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lrs_trees import CLICK_SECONDS, Spoken, landmarks_dir, write_clip, write_landmarks, write_mp4

from asrsparse.corpora.lrs import Clip, is_talker_and_number
from asrsparse.corpora.lrs3 import choose_dev, prepare_lrs3, read_valid_id
from asrsparse.corpora.manifests import SPLITS, read_split
from asrsparse.data.cuts import make_cuts
from asrsparse.files import write_json

HALF_SECOND_WORDS = ["SO", "WHAT", "IS", "IT", "THAT", "WE", "ALL", "SAY"]


def spoken(seconds: float) -> Spoken:
    """A word in each half second, and a click in the first."""
    samples = np.zeros(round(seconds * 16_000), np.float32)
    samples[int(CLICK_SECONDS * 16_000)] = 1.0
    words = [(HALF_SECOND_WORDS[n % 8], n / 2 + 0.1, n / 2 + 0.4) for n in range(int(2 * seconds))]
    return Spoken(samples, words)


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "lrs3"
    write_clip(folder / "pretrain/0d6iSvF1UmA/00001", spoken(5.0), clicks=[CLICK_SECONDS, 3.0])
    for number in range(1, 4):
        write_clip(folder / f"trainval/AAkEYcmCCCk/5000{number}", spoken(1.0), with_times=number > 1)
    write_clip(folder / "test/0Fi83BHQsMA/00002", spoken(1.0))
    return folder


def prepare(corpus: Path, **arguments) -> dict[str, list]:
    """Prepares, and returns the supervisions of each split."""
    output = corpus.parent / "prepared"
    prepare_lrs3(
        corpus, output, num_jobs=1, **{"max_left_out": 0.0, "landmarks_dir": landmarks_dir(corpus), **arguments}
    )
    return {split: list(read_split(output / "manifests", split)[1]) for split in SPLITS}


def test_train_is_pretrain_and_trainval_without_dev(corpus):
    made = prepare(corpus)
    assert [len(made[split]) for split in SPLITS] == [3, 1, 1]
    names = {split: {segment.id for segment in made[split]} for split in SPLITS}
    assert names["test"] == {"test-0Fi83BHQsMA-00002"}
    trainval = {f"trainval-AAkEYcmCCCk-5000{number}" for number in (1, 2, 3)}
    assert names["train"] | names["dev"] == {"pretrain-0d6iSvF1UmA-00001"} | trainval
    assert names["dev"] < trainval


def test_text_words_and_talker_are_those_of_the_text_file(corpus):
    segment = next(s for s in prepare(corpus)["train"] if s.id.startswith("pretrain"))
    assert segment.text == "SO WHAT IS IT THAT WE ALL SAY SO WHAT"
    assert (segment.speaker, segment.recording_id, segment.start) == ("0d6iSvF1UmA", segment.id, 0.0)
    assert [(w.symbol, w.start, w.end) for w in segment.alignment["word"][:2]] == [("SO", 0.1, 0.4), ("WHAT", 0.6, 0.9)]


def test_files_are_stored_by_subset_and_talker(corpus):
    prepare(corpus)
    for folder, suffix in (("audio", "flac"), ("video", "mp4")):
        assert (corpus.parent / "prepared" / folder / f"test/0Fi83BHQsMA/00002.{suffix}").is_file()


def test_a_long_clip_of_pretrain_is_split_between_words_and_others_are_not(corpus):
    write_clip(corpus / "test/0Fi83BHQsMA/00003", spoken(3.0))
    made = prepare(corpus, max_seconds=2.0)
    segments = [s for s in made["train"] if s.id.startswith("pretrain")]
    assert [s.id[-3:] for s in segments] == ["-00", "-01", "-02"]
    assert {s.recording_id for s in segments} == {"pretrain-0d6iSvF1UmA-00001"}
    assert " ".join(s.text for s in segments) == "SO WHAT IS IT THAT WE ALL SAY SO WHAT"
    assert all(s.duration <= 2.0 for s in segments)
    assert [s.duration for s in made["test"]] == [pytest.approx(1.0, abs=0.1), pytest.approx(3.0, abs=0.1)]


@pytest.mark.parametrize("max_seconds", [1.0, 1.4, 2.0, 24.0])
def test_a_click_is_in_the_same_frame_of_audio_and_video_in_each_cut(corpus, max_seconds):
    pretrain = corpus / "pretrain/0d6iSvF1UmA/00001"
    speech = spoken(5.0)
    speech.samples[3 * 16_000] = 1.0
    write_clip(pretrain, speech, clicks=[CLICK_SECONDS, 3.0])
    prepare(corpus, max_seconds=max_seconds)
    cuts = make_cuts(*read_split(corpus.parent / "prepared" / "manifests", "train"))
    num_clicks = 0
    for cut in (cut for cut in cuts if cut.id.startswith("pretrain")):
        frames, samples = cut.load_custom("video"), cut.load_audio()[0]
        assert len(frames) == pytest.approx(25 * cut.duration, abs=0.51)
        in_video, in_audio = np.flatnonzero(frames.mean(axis=(1, 2)) > 150), np.flatnonzero(np.abs(samples) > 0.2)
        assert set(in_video) == {n // 640 for n in in_audio}
        num_clicks += len(in_video)
    assert num_clicks == 2


def test_video_can_be_left_out(corpus):
    made = prepare(corpus, video=False)
    assert all(segment.custom is None for segments in made.values() for segment in segments)
    assert not (corpus.parent / "prepared" / "video").exists()


def test_a_second_call_does_nothing_and_the_detector_does_not_mix_with_landmarks(corpus):
    prepare(corpus)
    files = [path for path in (corpus.parent / "prepared").rglob("*") if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    prepare(corpus)
    assert [path.stat().st_mtime_ns for path in files] == before
    with pytest.raises(
        ValueError, match=r"holds mouth regions found by landmarks; they cannot be mixed with those found by detector"
    ):
        prepare(corpus, landmarks_dir=None)


def test_a_clip_that_is_added_later_is_prepared_and_finished_files_are_kept(corpus):
    prepare(corpus)
    video = corpus.parent / "prepared/video/test/0Fi83BHQsMA/00002.mp4"
    before = video.stat().st_mtime_ns
    write_clip(corpus / "test/0Fi83BHQsMA/00003", spoken(1.0))
    assert len(prepare(corpus)["test"]) == 2
    assert video.stat().st_mtime_ns == before


# ---- what cannot be used


def left_out(corpus: Path, **arguments) -> str:
    """Prepares a corpus in which one clip cannot be used, and returns why."""
    prepare(corpus, max_left_out=0.2, **arguments)
    name, reason, _ = (corpus.parent / "prepared" / "left_out.tsv").read_text().split("\t")
    assert name == "test-0Fi83BHQsMA-00009"
    return reason


@pytest.fixture
def ninth(corpus) -> Path:
    """A clip to be spoilt, without its suffix."""
    write_clip(corpus / "test/0Fi83BHQsMA/00009", spoken(1.0))
    return corpus / "test/0Fi83BHQsMA/00009"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Conf:  4\n", "no Text line: "),
        ("Text:  {LG}\nConf:  4\n", "no words: "),
        ("Text:  SO\nWORD START END ASDSCORE\nSO 0.1\n", "malformed word: "),
        ("Text:  SO\nWORD START END ASDSCORE\nSO 0.1 7.0 3\n", "file ends before its last word: "),
    ],
)
def test_a_text_that_cannot_be_used_is_left_out(corpus, ninth, text, reason):
    ninth.with_suffix(".txt").write_text(text)
    assert left_out(corpus).startswith(f"{reason}{ninth}")


@pytest.mark.parametrize(("suffix", "reason"), [(".txt", "no text: "), (".mp4", "no video: ")])
def test_a_clip_that_lacks_a_file_is_left_out(corpus, ninth, suffix, reason):
    ninth.with_suffix(suffix).unlink()
    assert left_out(corpus) == f"{reason}{ninth.with_suffix(suffix)}"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_empty_or_truncated_file_is_left_out(corpus, ninth, share):
    content = ninth.with_suffix(".mp4").read_bytes()
    ninth.with_suffix(".mp4").write_bytes(content[: int(share * len(content))])
    reason, _, path = left_out(corpus).partition(": ")
    assert reason in ("audio does not decode", "no audio track")
    assert path.startswith(str(ninth.with_suffix(".mp4")))


def test_a_clip_without_a_face_is_left_out(corpus, ninth):
    write_json(landmarks_dir(corpus) / "test/0Fi83BHQsMA/00009.json", [None] * 25)
    assert left_out(corpus).startswith(f"no face: {ninth}.mp4: the landmarks are empty in all 25 frames")


def test_a_clip_whose_audio_and_video_differ_in_length_is_left_out(corpus, ninth):
    write_mp4(ninth.with_suffix(".mp4"), np.full((20, 96, 96), 60, np.uint8), spoken(1.0).samples)
    write_landmarks(ninth, 20)
    assert left_out(corpus).startswith(f"audio and video differ in length: {ninth}.mp4")


def test_too_many_unusable_clips_stop_the_preparation(corpus, ninth):
    ninth.with_suffix(".txt").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 6; allowed is a share of 0\. First ones: test-0Fi83BHQsMA-00009: no text"
    ):
        prepare(corpus)


# ---- the folder


def test_a_missing_folder_names_layout_and_that_lrs3_is_no_longer_distributed(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*Expected are pretrain/<talk>/\*\.mp4.*no longer distribute it"):
        prepare_lrs3(tmp_path / "nowhere", tmp_path / "prepared")


def test_a_folder_of_something_else_names_the_layout(tmp_path):
    with pytest.raises(ValueError, match=r"holds no clip of pretrain and trainval and test\. Expected are pretrain/"):
        prepare_lrs3(tmp_path, tmp_path / "prepared")


def test_without_pretrain_the_remedy_is_named_and_works(corpus):
    for path in (corpus / "pretrain/0d6iSvF1UmA").iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match=r"holds no clip of pretrain\. .*corpus\.pretrain=false trains without pretrain"
    ):
        prepare(corpus)
    assert len(prepare(corpus, pretrain=False)["train"]) == 2


def test_segments_shorter_than_a_second_are_refused(corpus):
    with pytest.raises(ValueError, match=r"corpus\.max_seconds: got 0\.5, allowed is at least 1 s"):
        prepare(corpus, max_seconds=0.5)


# ---- dev


def clips(number: int) -> list[Clip]:
    return [Clip(Path("lrs3"), "trainval", f"talker{n % 7}/{n:05d}") for n in range(number)]


@pytest.mark.parametrize(("number", "chosen"), [(3, 1), (100, 10), (20_000, 1200)])
def test_dev_has_1200_utterances_or_a_tenth(number, chosen):
    assert len(choose_dev(clips(number), None)) == chosen


@given(st.integers(2, 300), st.randoms(use_true_random=False))
def test_dev_does_not_depend_on_the_order(number, random):
    shuffled = clips(number)
    random.shuffle(shuffled)
    assert choose_dev(shuffled, None) == choose_dev(clips(number), None)


@pytest.mark.parametrize("form", ["trainval/{}/{}", "{}/{}", "{}_{}", "trainval/{}/{}.mp4\r"])
def test_lists_of_either_form_are_taken(tmp_path, form):
    trainval = [Clip(tmp_path, "trainval", f"Z_-6aAkE_c{n}/5000{n}") for n in range(5)]
    (tmp_path / "valid.id").write_text("".join(form.format(f"Z_-6aAkE_c{n}", f"5000{n}") + "\n" for n in (1, 3)))
    assert choose_dev(trainval, tmp_path / "valid.id") == {trainval[1], trainval[3]}


@pytest.mark.parametrize("line", ["trainval", "../secret/00001", "a b/00001", "test/talker/00001", "talker/one"])
def test_another_line_is_refused(line):
    with pytest.raises(ValueError, match=r"^list:1: got .*, allowed are trainval/TALKER/NUMBER and TALKER_NUMBER"):
        read_valid_id(line, "list:1")


def test_a_list_of_which_some_are_missing_is_taken_with_a_warning(tmp_path, caplog):
    (tmp_path / "valid.id").write_text("trainval/talker0/00000\ntrainval/nobody/00001\n")
    with caplog.at_level(logging.WARNING):
        assert len(choose_dev(clips(5), tmp_path / "valid.id")) == 1
    assert "1 of the 2 utterances of" in caplog.text
    assert "nobody/00001" in caplog.text


def test_a_list_of_another_corpus_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "valid.id").write_text("trainval/nobody/00001\n")
    with pytest.raises(ValueError, match=r"valid\.id names no utterance of trainval; its first line is .*Is it LRS3's"):
        choose_dev(clips(5), tmp_path / "valid.id")
    with pytest.raises(ValueError, match=r"corpus\.valid_ids: no file .*none\.id"):
        choose_dev(clips(5), tmp_path / "none.id")


@given(st.text())
def test_no_name_leads_out_of_the_corpus(name):
    if is_talker_and_number(name):
        assert (Path("/corpus/main") / name).resolve().parent.parent == Path("/corpus/main")
