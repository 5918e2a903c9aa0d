import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from grid_tree import ALIGN, SENTENCES, add, damage_frame, write_alignment, write_audio_only, write_talker, write_video
from hypothesis import given
from hypothesis import strategies as st
from video_files import BrightSquares

from asrsparse.corpora import grid
from asrsparse.corpora.grid import download_grid, extract_zip, prepare_grid, read_alignment, split_of
from asrsparse.corpora.manifests import SPLITS, manifest_paths, read_split
from asrsparse.corpora.media import decode_audio
from asrsparse.files import write_json
from asrsparse.video import mouth_regions


@pytest.fixture
def corpus(tmp_path) -> Path:
    for sentence in SENTENCES.values():
        add(tmp_path / "grid", "s1", sentence)
    return tmp_path / "grid"


def prepare(corpus: Path, **arguments) -> dict:
    """Prepares, without video unless asked for, and returns the supervisions of all splits by id."""
    output = corpus.parent / "prepared"
    prepare_grid(corpus, output, num_jobs=1, **{"video": False} | arguments)
    manifests = [read_split(output / "manifests", split) for split in SPLITS]
    return {segment.id: segment for _, segments in manifests for segment in segments}


def test_manifests_hold_text_speaker_and_word_times_in_seconds(corpus):
    segment = prepare(corpus)["s1-bbaf2n"]
    assert (segment.text, segment.speaker, segment.recording_id) == ("bin blue", "s1", "s1-bbaf2n")
    words = [(word.symbol, word.start, word.duration) for word in segment.alignment["word"]]
    assert words == [("bin", 0.24, 0.24), ("blue", 0.52, 0.28)]


def test_audio_is_16_khz_mono_16_bit_flac(corpus):
    prepare(corpus)
    path = corpus.parent / "prepared" / "audio" / "s1" / "bbaf2n.flac"
    header = soundfile.info(path)
    assert (header.samplerate, header.channels, header.format, header.subtype) == (16_000, 1, "FLAC", "PCM_16")
    assert header.duration == pytest.approx(1.0, abs=0.05)
    samples, _ = soundfile.read(path)
    loudest = np.abs(np.fft.rfft(samples)).argmax() / header.duration
    assert loudest == pytest.approx(440, abs=2)


def test_each_split_has_its_own_sentences(corpus):
    prepare(corpus)
    for split, sentence in SENTENCES.items():
        recordings, supervisions = read_split(corpus.parent / "prepared" / "manifests", split)
        assert [r.id for r in recordings] == [s.id for s in supervisions] == [f"s1-{sentence}"]


@given(st.text())
def test_a_sentence_has_one_split(sentence):
    assert split_of(sentence) == split_of(sentence)
    assert split_of(sentence) in SPLITS


def test_splits_have_about_their_shares_over_all_sentences_of_the_grammar():
    letters = "abcdefghijklmnopqrstuvxyz"
    names = [
        a + b + c + d + e + f
        for a in "blps"
        for b in "bgrw"
        for c in "abiw"
        for d in letters
        for e in "z123456789"
        for f in "anps"
    ]
    splits = [split_of(name) for name in names]
    assert splits.count("dev") / len(names) == pytest.approx(0.05, abs=0.005)
    assert splits.count("test") / len(names) == pytest.approx(0.11, abs=0.005)


def test_all_talkers_are_used_and_a_sentence_keeps_its_split(corpus):
    add(corpus, "s10", "bbaf2n")
    write_video(corpus / "s2" / "video" / "mpg_6000" / "bbaz4n.mpg")  # the older archives' layout
    write_alignment(corpus, "s2", "bbaz4n")
    assert set(prepare(corpus)) == {"s1-bbaf2n", "s1-bbie8n", "s1-bbaz4n", "s2-bbaz4n", "s10-bbaf2n"}
    _, test = read_split(corpus.parent / "prepared" / "manifests", "test")
    assert [segment.id for segment in test] == ["s1-bbaz4n", "s2-bbaz4n"]


def test_mp4_is_read_and_other_files_are_not(corpus):
    write_video(corpus / "s2" / "bbaf2n.mp4")
    write_alignment(corpus, "s2", "bbaf2n")
    (corpus / "s2" / "._bbaf2n.mpg").write_bytes(b"what macOS leaves in archives")
    (corpus / "s2" / "notes.txt").write_text("")
    (corpus / "sounds").mkdir()
    assert "s2-bbaf2n" in prepare(corpus)


def test_uncompressed_audio_is_preferred(corpus):
    (corpus / "audio_25k" / "s1").mkdir(parents=True)
    soundfile.write(corpus / "audio_25k" / "s1" / "bbaf2n.wav", np.full(50_000, 0.25), 25_000)  # 2 s, not 1 s
    segments = prepare(corpus)
    assert segments["s1-bbaf2n"].duration == pytest.approx(2.0, abs=0.01)
    assert segments["s1-bbie8n"].duration == pytest.approx(1.0, abs=0.05)


def test_alignments_in_a_folder_with_another_talkers_number_are_found(corpus, caplog):
    add(corpus, "s2", "pwij3p")
    add(corpus, "s2", "lrad9a")
    (corpus / "alignments" / "s1").rename(corpus / "alignments" / "s3")
    (corpus / "alignments" / "s2").rename(corpus / "alignments" / "s1")
    (corpus / "alignments" / "s3").rename(corpus / "alignments" / "s2")
    with caplog.at_level(logging.INFO, "asrsparse"):
        assert len(prepare(corpus)) == 5
    assert "the sentences of s1 are those of" in caplog.text


def test_a_second_call_does_nothing(corpus):
    prepare(corpus)
    files = [p for split in SPLITS for p in manifest_paths(corpus.parent / "prepared" / "manifests", split)]
    files += (corpus.parent / "prepared" / "audio").rglob("*.flac")
    before = [file.stat().st_mtime_ns for file in files]
    prepare(corpus)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_talker_who_is_added_later_is_prepared_and_finished_audio_is_kept(corpus):
    prepare(corpus)
    flac = corpus.parent / "prepared" / "audio" / "s1" / "bbaf2n.flac"
    before = flac.stat().st_mtime_ns
    add(corpus, "s2", "bbaf2n")
    assert "s2-bbaf2n" in prepare(corpus)
    assert flac.stat().st_mtime_ns == before


def test_a_damaged_frame_has_no_effect_on_the_audio(corpus):
    video = corpus / "s2" / "bbaf2n.mp4"
    write_video(video)
    write_alignment(corpus, "s2", "bbaf2n")
    whole = decode_audio(video)
    damage_frame(video)
    assert np.array_equal(decode_audio(video), whole)
    assert "s2-bbaf2n" in prepare(corpus, max_left_out=0.0)


def test_a_file_without_its_last_packets_is_used_if_its_words_are_there(corpus):
    video = corpus / "s1" / "bbaf2n.mpg"
    whole = decode_audio(video)
    video.write_bytes(video.read_bytes()[: int(0.93 * video.stat().st_size)])
    cut_off = decode_audio(video)
    assert 0.8 * len(whole) < len(cut_off) < len(whole)
    assert "s1-bbaf2n" in prepare(corpus, max_left_out=0.0)


def left_out(corpus: Path, caplog) -> str:
    """Prepares a corpus in which s2-bbaf2n cannot be used, and returns why."""
    with caplog.at_level(logging.WARNING):
        assert "s2-bbaf2n" not in prepare(corpus, max_left_out=0.3)
    assert "grid: left out 1 utterances" in caplog.text
    name, reason, _ = (corpus.parent / "prepared" / "left_out.tsv").read_text().split("\t")
    assert name == "s2-bbaf2n"
    return reason


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_a_file_that_does_not_decode_is_left_out(corpus, caplog, content):
    add(corpus, "s2", "bbaf2n").write_bytes(content)
    assert left_out(corpus, caplog).startswith(f"audio does not decode: {corpus / 's2' / 'bbaf2n.mpg'}: Invalid data")


def test_a_truncated_file_is_left_out(corpus, caplog):
    video = add(corpus, "s2", "bbaf2n")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert left_out(corpus, caplog).startswith("audio ends before its last word: ")


def test_a_video_without_audio_track_is_left_out(corpus, caplog):
    write_video(corpus / "s2" / "bbaf2n.mpg", with_audio=False)
    write_alignment(corpus, "s2", "bbaf2n")
    assert left_out(corpus, caplog) == f"no audio track: {corpus / 's2' / 'bbaf2n.mpg'}"


def test_a_video_without_alignment_is_left_out(corpus, caplog):
    write_video(corpus / "s2" / "lrad9a.mpg")
    write_alignment(corpus, "s2", "lrad9a")
    write_video(corpus / "s2" / "bbaf2n.mpg")
    write_alignment(corpus, "s2", "sbaa1a")
    assert left_out(corpus, caplog) == f"no alignment: {corpus / 'alignments' / 's2' / 'bbaf2n.align'}"


@pytest.mark.parametrize("line", ["6000 bin", "6000 x bin", "12000 6000 bin", "-5 6000 bin", "1 2 bin blue"])
def test_a_malformed_line_is_left_out_with_file_and_line(corpus, caplog, line):
    add(corpus, "s2", "bbaf2n")
    write_alignment(corpus, "s2", "bbaf2n", f"0 6000 sil\n{line}\n")
    path = corpus / "alignments" / "s2" / "bbaf2n.align"
    assert left_out(corpus, caplog) == f"malformed alignment: {path}:2: got {line!r}, expected `start end word`"


def test_an_utterance_without_words_is_left_out(corpus, caplog):
    add(corpus, "s2", "bbaf2n")
    write_alignment(corpus, "s2", "bbaf2n", "0 6000 sil\n6000 25000 sp\n")
    assert left_out(corpus, caplog) == f"no words: {corpus / 'alignments' / 's2' / 'bbaf2n.align'}"


def test_too_many_unusable_utterances_stop_the_preparation(corpus):
    add(corpus, "s2", "bbaf2n").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 4; allowed is a share of 0.05\. First ones: s2-bbaf2n: audio does not"):
        prepare(corpus)
    assert not (corpus.parent / "prepared" / "manifests" / ".completed").exists()


def test_missing_corpus_names_layout_and_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*nowhere.*Expected are s1/\*\.mpg.*Download"):
        prepare_grid(tmp_path / "nowhere", tmp_path / "prepared")


def test_empty_corpus_names_layout_and_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"holds no video of a GRID talker.*Expected are s1/\*\.mpg.*Download"):
        prepare_grid(tmp_path, tmp_path / "prepared")


def test_corpus_without_alignments_names_the_archive(tmp_path):
    write_video(tmp_path / "s1" / "bbaf2n.mpg")
    with pytest.raises(ValueError, match=r"holds no folder `alignments` \(unpack alignments.zip there\)"):
        prepare_grid(tmp_path, tmp_path / "prepared")


def test_a_corpus_too_small_for_three_splits_is_refused(tmp_path):
    add(tmp_path / "grid", "s1", SENTENCES["train"])
    with pytest.raises(ValueError, match="dev and test split would be empty: 1 utterances are too few"):
        prepare(tmp_path / "grid")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_alignment_has_no_words(tmp_path, text):
    (tmp_path / "bbaf2n.align").write_text(text)
    assert read_alignment(tmp_path / "bbaf2n.align") == []


# ---- with video


@pytest.fixture
def video_corpus(tmp_path, monkeypatch) -> Path:
    """A corpus whose talker has a bright square for a face."""
    monkeypatch.setattr(mouth_regions, "_haar_faces", BrightSquares)
    for sentence in SENTENCES.values():
        write_talker(tmp_path / "grid", "s1", sentence)
    return tmp_path / "grid"


def test_supervisions_hold_the_mouth_region_with_25_frames_a_second(video_corpus):
    segments = prepare(video_corpus, video=True)
    assert set(segments) == {"s1-bbaf2n", "s1-bbie8n", "s1-bbaz4n"}
    for name, segment in segments.items():
        video = segment.custom["video"]
        assert video.array.storage_key == f"s1/{name[3:]}.mp4"
        assert video.load().shape == (round(25 * segment.duration), 96, 96)
    assert (video_corpus.parent / "prepared" / "contact_sheet.png").is_file()


def test_video_is_prepared_for_a_corpus_that_was_prepared_without(video_corpus):
    assert prepare(video_corpus)["s1-bbaf2n"].custom is None
    flac = video_corpus.parent / "prepared" / "audio" / "s1" / "bbaf2n.flac"
    before = flac.stat().st_mtime_ns
    assert "video" in prepare(video_corpus, video=True)["s1-bbaf2n"].custom
    assert flac.stat().st_mtime_ns == before


def test_a_second_call_with_video_does_nothing(video_corpus):
    prepare(video_corpus, video=True)
    before = {p: p.stat().st_mtime_ns for p in (video_corpus.parent / "prepared").rglob("*") if p.is_file()}
    prepare(video_corpus, video=True)
    assert {p: p.stat().st_mtime_ns for p in (video_corpus.parent / "prepared").rglob("*") if p.is_file()} == before


def test_an_utterance_without_a_mouth_region_is_left_out_where_video_is_asked_for(video_corpus, caplog):
    bad = write_talker(video_corpus, "s2", "bbaf2n", num_frames=10)
    with caplog.at_level(logging.INFO):
        assert "s2-bbaf2n" not in prepare(video_corpus, video=True, max_left_out=0.3)
    name, reason, seconds = (video_corpus.parent / "prepared" / "left_out.tsv").read_text().split("\t")
    assert (name, float(seconds)) == ("s2-bbaf2n", 1.0)
    assert reason.startswith(f"audio and video differ in length: {bad} has 0.40 s of video for 1.00 s of audio")
    assert "grid: left out 1 utterances (0.000 h): 1 x audio and video differ in length" in caplog.text
    assert "grid: 3 utterances (0.00 h) with video, 3 of them new: a face was found in 100.00 %" in caplog.text
    assert "s2-bbaf2n" in prepare(video_corpus)


def test_landmarks_are_found_by_talker_and_sentence(video_corpus):
    for sentence in SENTENCES.values():
        write_json(video_corpus.parent / "landmarks" / "s1" / f"{sentence}.json", [[90, 70, 48]] * 25)
    np.savez(video_corpus.parent / "landmarks" / "s1" / "bbaf2n.npz", landmarks=np.full((25, 2), np.nan))
    message = r"1 of 3; .* s1-bbaf2n: no face: .*bbaf2n\.mp4: the landmarks are empty in all 25 frames"  # NPZ is first
    with pytest.raises(ValueError, match=message):
        prepare(video_corpus, video=True, landmarks_dir=video_corpus.parent / "landmarks")


def test_a_folder_of_audio_alone_is_enough_without_video(tmp_path):
    assert len(prepare(write_audio_only(tmp_path / "grid"))) == 3


def test_a_folder_of_audio_alone_is_refused_with_the_remedy_where_video_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"holds no video of a GRID talker\. To prepare .* set corpus\.video=false\."):
        prepare(write_audio_only(tmp_path / "grid"), video=True)


# ---- download


@pytest.fixture
def zenodo(tmp_path, monkeypatch):
    """Stands for the server: a folder with archives, and the list of what was fetched from it."""
    server = tmp_path / "server"
    server.mkdir()
    for name, member in [("alignments", "alignments/s1/bbaf2n.align"), ("s1", "s1/bbaf2n.mpg"), ("s2", "s2/a.mpg")]:
        with zipfile.ZipFile(server / f"{name}.zip", "w") as archive:
            archive.writestr(member, ALIGN)
    fetched = []

    def fetch(url: str, target: Path) -> None:
        name = url.removeprefix("https://zenodo.org/records/3625687/files/").removesuffix("?download=1")
        target.write_bytes((server / name).read_bytes())
        fetched.append(name)

    monkeypatch.setattr(grid, "resumable_download", fetch)
    return fetched


def test_download_unpacks_the_talkers_and_alignments(tmp_path, zenodo):
    assert download_grid(tmp_path / "grid", ["s1"], with_audio_25k=False) == tmp_path / "grid"
    assert zenodo == ["alignments.zip", "s1.zip"]
    assert (tmp_path / "grid" / "s1" / "bbaf2n.mpg").is_file()
    assert (tmp_path / "grid" / "alignments" / "s1" / "bbaf2n.align").read_text() == ALIGN
    assert not list((tmp_path / "grid").glob("*.zip"))


def test_existing_files_are_not_downloaded_again(tmp_path, zenodo):
    download_grid(tmp_path / "grid", ["s1"], with_audio_25k=False)
    download_grid(tmp_path / "grid", ["s1", "s2"], with_audio_25k=False)
    assert zenodo == ["alignments.zip", "s1.zip", "s2.zip"]


def test_existing_archives_are_used_and_incomplete_ones_continued(tmp_path, zenodo):
    whole = (tmp_path / "server" / "alignments.zip").read_bytes()
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "alignments.zip").write_bytes(whole)
    (tmp_path / "grid" / "s1.zip").write_bytes((tmp_path / "server" / "s1.zip").read_bytes()[:50])
    download_grid(tmp_path / "grid", ["s1"], with_audio_25k=False)
    assert zenodo == ["s1.zip"]
    assert (tmp_path / "grid" / "s1" / "bbaf2n.mpg").is_file()


@pytest.mark.parametrize("speaker", ["s21", "s35", "1"])
def test_download_of_an_unknown_talker_is_refused(tmp_path, speaker):
    with pytest.raises(ValueError, match=f"speakers: got {speaker}, allowed are s1 to s34 without s21"):
        download_grid(tmp_path, ["s1", speaker])


@pytest.mark.parametrize("name", ["../outside.txt", "s1/../../outside.txt", "/outside.txt"])
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("s1/good.txt", "good")
        archive.writestr(name, "evil")
    with pytest.raises(ValueError, match=r"evil.zip has the path .*outside.txt.*nothing was unpacked"):
        extract_zip(tmp_path / "evil.zip", tmp_path / "grid")
    assert not (tmp_path / "grid").exists()
    assert not (tmp_path / "outside.txt").exists()


def test_a_damaged_archive_is_refused_with_the_remedy(tmp_path):
    with zipfile.ZipFile(tmp_path / "s1.zip", "w") as archive:
        archive.writestr("s1/bbaf2n.mpg", b"x" * 1000)
    content = bytearray((tmp_path / "s1.zip").read_bytes())
    content[200] ^= 255
    (tmp_path / "s1.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"s1.zip is damaged .*Delete it and download it again"):
        extract_zip(tmp_path / "s1.zip", tmp_path / "grid")


# ---- real data


def test_real_utterances_are_all_usable(grid_dir, tmp_path):
    videos = sorted((grid_dir / "s1").glob("*.m*"))
    chosen = [*videos[::20], *(grid_dir / "s1").glob("sgib8n.*")]  # the last has a damaged frame
    (tmp_path / "grid" / "s1").mkdir(parents=True)
    for video in chosen:
        (tmp_path / "grid" / "s1" / video.name).symlink_to(video)
    (tmp_path / "grid" / "alignments").symlink_to(grid_dir / "alignments")
    segments = prepare(tmp_path / "grid", max_left_out=0.0, video=True)
    assert len(segments) == len(set(chosen))
    assert "s1-sgib8n" in segments
    first_letters = {name: segment.text.split() for name, segment in segments.items()}
    assert all(len(words) == 6 and words[3] == name[6] for name, words in first_letters.items())
    assert all(2.9 < segment.duration < 3.1 for segment in segments.values())
    assert all(segment.custom["video"].num_frames in (74, 75) for segment in segments.values())
