"""Kaldi data directories as a corpus: recordings and utterances, what is left out, and what may not run."""

import logging
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from kaldi_dirs import RATE, write_dir, write_tone

from asrsparse.corpora.kaldi import prepare_kaldi
from asrsparse.corpora.manifests import SPLITS, read_split
from asrsparse.data.cuts import make_cuts
from asrsparse.video.io import write_video


@pytest.fixture
def corpus(tmp_path) -> Path:
    """train, dev and test of three utterances each."""
    for split, speaker in zip(SPLITS, ("anna", "bert", "carl"), strict=True):
        write_dir(tmp_path / "data" / split, speaker)
    return tmp_path / "data"


def prepare(corpus: Path, **arguments):
    prepare_kaldi(corpus, corpus.parent / "prepared", num_jobs=1, **{"max_left_out": 0.0, **arguments})
    manifests = corpus.parent / "prepared" / "manifests"
    return {
        path.name.split("_")[0]: read_split(manifests, path.name.split("_")[0]) for path in manifests.glob("*_rec*")
    }


def reasons(corpus: Path, split: str) -> dict[str, str]:
    lines = (corpus.parent / "prepared" / f"{split}_left_out.tsv").read_text().splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def test_files_are_read_where_they_lie(corpus):
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


def test_directories_have_any_names_and_paths_are_relative_to_the_current_folder(corpus, monkeypatch):
    write_dir(corpus / "train_si284", "anna")
    write_dir(corpus / "eval92", "carl")
    (corpus / "dev" / "wav.scp").write_text("".join(f"bert-{n} dev/wav/bert-{n}.wav\n" for n in range(3)))
    with pytest.raises(ValueError, match=r"no file dev/wav/bert-0\.wav in .*, the current folder"):
        prepare(corpus, train="train_si284", test_splits=["eval92"])
    monkeypatch.chdir(corpus)
    assert set(prepare(corpus, train="train_si284", test_splits=["eval92"])) == {"train", "dev", "eval92"}


def test_segments_are_cut_out_of_their_recordings(corpus):
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
    (folder / "wav" / "bert-2.wav").write_bytes(b"no sound")
    (folder / "wav" / "bert-3.wav").unlink()
    (folder / "text").write_text((folder / "text").read_text().replace("bert-4 bin blue soon", "bert-4"))
    (folder / "utt2dur").write_text("".join(f"bert-{n} {3 if n == 5 else 2.03}\n" for n in range(8)))
    kept = prepare(corpus, max_left_out=0.7)["dev"][1]
    assert {s.id for s in kept} == {"bert-0", "bert-6", "bert-7"}
    scp = folder / "wav.scp"
    assert reasons(corpus, "dev") == {
        "bert-1": f"audio does not decode: {scp}:2: it has 2 channels, wanted is one",
        "bert-2": f"audio does not decode: {scp}:3: {folder}/wav/bert-2.wav: Invalid data found when processing input",
        "bert-3": f"audio does not decode: {scp}:4: no file {folder}/wav/bert-3.wav",
        "bert-4": f"no words: {folder}/text:5",
        "bert-5": f"utt2dur says another length: {scp}:6: 2.00 s, not 3 s",
    }


def test_a_segment_far_behind_its_recording_is_left_out(corpus):
    (corpus / "dev" / "wav.scp").write_text(f"call {write_tone(corpus / 'call.wav', seconds=5.0)}\n")
    (corpus / "dev" / "segments").write_text("bert-0 call 0.5 1.75\nbert-1 call 2 3\nbert-2 call 4 5.6\n")
    prepare(corpus, max_left_out=0.4)
    where = f"{corpus}/dev/segments:3"
    assert reasons(corpus, "dev") == {"bert-2": f"segment ends after its recording: {where}: at 5.6 s of 5.00 s"}


def test_other_rates_are_resampled(corpus):
    write_tone(corpus / "dev" / "wav" / "bert-0.wav", rate=8_000)
    cut = make_cuts(*prepare(corpus)["dev"])[0]
    assert (cut.sampling_rate, cut.duration) == (RATE, 2.0)
    assert cut.load_audio().shape == (1, 2 * RATE)


# ---- what is not a file


def use(corpus: Path, value: str) -> Path:
    """Puts a value in the place of the first path of dev."""
    path = corpus / "dev" / "wav.scp"
    path.write_text(f"bert-0 {value}\n" + "".join(path.read_text().splitlines(keepends=True)[1:]))
    return path


def copies(corpus: Path) -> list[Path]:
    return sorted((corpus.parent / "prepared" / "audio" / "dev").glob("*"))


def test_commands_run_only_if_they_are_allowed_and_once(corpus):
    runs = corpus / "runs"
    path = use(corpus, f"echo x >> {runs}; cat {corpus}/dev/wav/bert-0.wav |")
    with pytest.raises(
        ValueError, match=rf"{path}:1: 'echo x .* is a command for the shell.*corpus\.allow_commands=true"
    ):
        prepare(corpus)
    assert not runs.exists()
    recording = prepare(corpus, allow_commands=True)["dev"][0]["bert-0"]
    assert recording.sources[0].source == str(copies(corpus)[0])
    np.testing.assert_array_equal(samples(copies(corpus)[0]), samples(corpus / "dev" / "wav" / "bert-0.wav"))
    (corpus / "dev" / "text").write_text("bert-0 a\nbert-1 b\nbert-2 c\n")
    prepare(corpus, allow_commands=True)
    assert runs.read_text() == "x\n"
    use(corpus, f"cat {corpus}/dev/wav/bert-1.wav |")
    recording = prepare(corpus, allow_commands=True)["dev"][0]["bert-0"]
    np.testing.assert_array_equal(samples(Path(recording.sources[0].source)), samples(corpus / "dev/wav/bert-1.wav"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo no such disk >&2; exit 3 |", "the command ended with status 3: no such disk"),
        ("true |", "status 0: and said"),
    ],
)
def test_a_command_that_fails_says_why(corpus, command, reason):
    path = use(corpus, command)
    prepare(corpus, allow_commands=True, max_left_out=0.4)
    assert reason in reasons(corpus, "dev")["bert-0"]
    assert f"{path}:1" in reasons(corpus, "dev")["bert-0"]


def test_places_in_archives_are_read_and_nothing_is_unpickled(corpus):
    original = samples(corpus / "dev" / "wav" / "bert-0.wav")
    kaldiio.save_ark(
        str(corpus / "wav.ark"), {"a": (RATE, original[:100]), "b": (RATE, original)}, scp=str(corpus / "scp")
    )
    place = (corpus / "scp").read_text().splitlines()[1].split()[1]
    use(corpus, place)
    recording = prepare(corpus)["dev"][0]["bert-0"]
    np.testing.assert_array_equal(samples(Path(recording.sources[0].source)), original)
    (corpus / "bad.ark").write_bytes(b"PKLcos\nsystem\n(S'touch owned'\ntR.")
    for value, reason in [
        (f"{corpus}/bad.ark:0", r"is no sound but b'PKLco'"),
        (f"{corpus}/wav.ark:3", "is no"),
        (f"{corpus}/none.ark:3", "no file"),
    ]:
        use(corpus, value)
        prepare(corpus, max_left_out=0.4)
        assert reason in reasons(corpus, "dev")["bert-0"]


def test_no_name_of_a_file_reaches_a_shell(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    name = "x;touch owned;.sph"  # lhotse would hand it to a shell
    soundfile.write(corpus / name, samples(corpus / "dev/wav/bert-0.wav"), RATE, format="WAV")
    use(corpus, name)
    (cut, *_) = make_cuts(*prepare(corpus)["dev"])
    assert cut.load_audio().shape == (1, 2 * RATE)
    assert not (corpus / "owned").exists()


def test_ids_cannot_lead_out_of_the_folder(corpus):
    folder = corpus / "dev"
    for name in ("text", "utt2spk", "wav.scp"):
        (folder / name).write_text((folder / name).read_text().replace("bert-0", "../../0"))
    (folder / "spk2utt").unlink()
    use(corpus, "x")
    (folder / "wav.scp").write_text(
        (folder / "wav.scp").read_text().replace("bert-0 x", f"../../0 cat {folder}/wav/bert-0.wav |")
    )
    prepare(corpus, allow_commands=True)
    assert [path.name.split(".flac")[0][:10] for path in copies(corpus)] == ["..%2F..%2F"]


@pytest.mark.parametrize("value", ["-", "~/a.wav", "| cat", ""])
def test_what_is_no_path_is_refused(corpus, value):
    path = use(corpus, value)
    with pytest.raises(ValueError, match=rf"{path}:1: got .*, expected a path, a place in an archive or a command"):
        prepare(corpus)


# ---- video


def write_mouths(corpus: Path, size: int = 96) -> None:
    for split in SPLITS:
        names = [line.split()[0] for line in (corpus / split / "utt2spk").read_text().splitlines()]
        for number, name in enumerate(names):
            frames = np.full((50, size, size), 40 * number, np.uint8)
            write_video(corpus / split / "mouths" / f"{name}.mp4", frames)
        lines = [f"{name} {corpus / split / 'mouths' / name}.mp4\n" for name in names]
        (corpus / split / "video.scp").write_text("".join(lines))


def test_mouths_are_read_where_they_lie(corpus):
    write_mouths(corpus)
    assert not make_cuts(*prepare(corpus)["dev"])[0].has_custom("video")
    cuts = make_cuts(*prepare(corpus, video="mouths")["dev"])
    assert [round(cut.load_custom("video").mean()) for cut in cuts] == [0, 40, 80]
    assert cuts[0].custom["video"].array.storage_path == str(corpus / "dev" / "mouths")


def test_other_videos_are_no_mouths(corpus):
    write_mouths(corpus, size=64)
    with pytest.raises(
        ValueError, match=r"no mouths: .*video\.scp:1: 64x64 at 25 frames a second, expected 96x96 at 25"
    ):
        prepare(corpus, video="mouths")


def test_films_go_the_way_of_the_other_corpora(corpus):
    write_mouths(corpus)
    (corpus / "dev" / "video.scp").write_text(f"bert-0 {corpus}/nowhere.mp4\n")
    with pytest.raises(ValueError, match=r"kaldi train: left out 3 .*anna-0: (black video|face|no face|video stands)"):
        prepare(corpus, video="films")


def test_video_is_asked_for_by_name_and_there(corpus):
    with pytest.raises(ValueError, match=r"corpus\.video: got 'films ', allowed are mouths, films and null"):
        prepare(corpus, video="films ")
    with pytest.raises(ValueError, match=r"corpus\.video: got mouths, but there is no .*train/video\.scp"):
        prepare(corpus, video="mouths")


def test_warnings_of_the_validation_are_said(corpus, caplog):
    with caplog.at_level(logging.WARNING):
        prepare(corpus)
    assert "all utterances are of one speaker" in caplog.text
