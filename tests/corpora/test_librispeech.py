"""LibriSpeech: subsets and splits, what is left out, and what a download may touch."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from librispeech_tree import SUBSETS_960, write_librispeech

from asrsparse.corpora import librispeech
from asrsparse.corpora.librispeech import prepare_librispeech
from asrsparse.corpora.manifests import read_split, splits_with
from asrsparse.data.cuts import read_cuts
from asrsparse.files import read_json, write_json

TEST_SPLITS = ("dev-clean", "dev-other", "test-clean", "test-other")


@pytest.fixture
def corpus(tiny_corpus, tmp_path) -> Path:
    """All subsets, of some utterances each."""
    cuts = {split: list(read_cuts(tiny_corpus / "cuts", split))[:6] for split in ("train", "dev", "test")}
    write_librispeech(tmp_path / "corpora" / "LibriSpeech", cuts, SUBSETS_960)
    return tmp_path / "corpora"


def prepare(corpus: Path, **arguments) -> dict:
    """Prepares, and returns the manifests of each split."""
    output = corpus.parent / "prepared"
    prepare_librispeech(corpus, output, num_jobs=1, **{"max_left_out": 0.0, **arguments})
    splits = splits_with(arguments.get("test_splits", TEST_SPLITS))
    return {split: read_split(output / "manifests", split) for split in splits}


def first_of(corpus: Path, subset: str) -> Path:
    return min((corpus / "LibriSpeech" / subset).rglob("*.flac"))


def test_splits_are_made_of_subsets_and_files_are_read_from_where_they_are(corpus):
    splits = {split: {s.id for s in manifests[1]} for split, manifests in prepare(corpus).items()}
    assert {split: len(ids) for split, ids in splits.items()} == {"train": 6, "dev": 6} | dict.fromkeys(TEST_SPLITS, 3)
    assert splits["dev"] == splits["dev-clean"] | splits["dev-other"]
    assert not splits["test-clean"] & splits["test-other"]
    recordings, supervisions = prepare(corpus)["test-clean"]
    path = first_of(corpus, "test-clean")
    assert recordings[path.stem].sources[0].source == str(path)
    (first,) = [s for s in supervisions if s.id == path.stem]
    assert first.speaker == path.parents[1].name
    assert (path.stem, first.text) in [
        tuple(line.split(" ", 1)) for line in (path.parent / f"{path.stem[:-5]}.trans.txt").read_text().splitlines()
    ]
    assert first.text.isupper()


def test_a_hundred_hours_are_one_subset_and_the_folder_may_be_that_of_the_subsets(corpus):
    ids = {s.id for s in prepare(corpus / "LibriSpeech", hours=100)["train"][1]}
    assert ids == {path.stem for path in (corpus / "LibriSpeech" / "train-clean-100").rglob("*.flac")}


def test_a_second_call_does_nothing_until_a_file_or_a_line_changes(corpus):
    prepare(corpus)
    completed = corpus.parent / "prepared" / "manifests" / ".completed"
    before = completed.stat().st_mtime_ns
    prepare(corpus)
    assert completed.stat().st_mtime_ns == before
    path = first_of(corpus, "test-other")
    transcript = path.parent / f"{path.stem[:-5]}.trans.txt"
    transcript.write_text(transcript.read_text().replace(f"{path.stem} ", f"{path.stem} OH "))
    assert any(s.text.startswith("OH ") for s in prepare(corpus)["test-other"][1])


def test_data_that_an_earlier_version_prepared_are_not_prepared_again(corpus):
    """Its record has the subsets under another key."""
    prepare(corpus)
    completed = corpus.parent / "prepared" / "manifests" / ".completed"
    record = read_json(completed)
    write_json(completed, {"parts" if key == "subsets" else key: value for key, value in record.items()})
    before = completed.stat().st_mtime_ns
    prepare(corpus)
    assert completed.stat().st_mtime_ns == before


def test_unusable_utterances_are_named_counted_and_left_out(corpus, caplog):
    empty, gone = first_of(corpus, "test-clean"), first_of(corpus, "test-other")
    empty.write_bytes(b"")
    gone.unlink()
    silent = first_of(corpus, "dev-clean")
    transcript = silent.parent / f"{silent.stem[:-5]}.trans.txt"
    transcript.write_text(transcript.read_text() + f"{silent.stem[:-4]}0099 \n")
    with pytest.raises(ValueError, match=r"librispeech dev: left out 1 .* x no words"):
        prepare(corpus)
    prepare(corpus, max_left_out=0.5)
    lines = (corpus.parent / "prepared" / "test-clean_left_out.tsv").read_text()
    assert lines.startswith(f"{empty.stem}\taudio does not decode: {empty}: ")
    assert f"librispeech test-other: left out {gone.stem}: no file: {gone}" in caplog.text


@pytest.mark.parametrize("line", ["../../x WORDS", "1-2 WORDS", "WORDS", "1-2-x WORDS"])
def test_a_line_that_names_no_file_of_the_corpus_is_refused(corpus, line):
    path = min((corpus / "LibriSpeech" / "dev-clean").rglob("*.trans.txt"))
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=rf"{path}:1: got '.*', expected SPEAKER-CHAPTER-NUMBER WORDS"):
        prepare(corpus)


def test_a_missing_subset_is_named(corpus):
    (corpus / "LibriSpeech" / "train-other-500").rename(corpus / "elsewhere")
    with pytest.raises(
        ValueError, match=r"LibriSpeech does not hold train-other-500\. Expected are .*corpus\.download=true"
    ):
        prepare(corpus)
    assert len(prepare(corpus, hours=100)["train"][1]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hours": 460}, r"corpus\.hours: got 460, allowed are 100 and 960"),
        ({"test_splits": ["test"]}, r"corpus\.test_splits: got test, allowed for LibriSpeech are dev-clean, "),
        ({"test_splits": ["train-clean-100"]}, r"corpus\.test_splits: got train-clean-100, allowed for LibriSpeech"),
    ],
)
def test_wrong_arguments_are_refused(corpus, arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare(corpus, **arguments)


def test_only_missing_subsets_are_downloaded(corpus, monkeypatch):
    """lhotse deletes the folder of a subset that it has not unpacked itself: it must not see those of the user."""
    asked = []
    monkeypatch.setattr(
        librispeech, "download_librispeech", lambda folder, subsets: asked.append((folder, list(subsets)))
    )
    prepare(corpus, download=True)
    assert asked == []
    for subset in ("dev-other", "test-other"):
        (corpus / "LibriSpeech" / subset).rename(corpus / f"{subset}-kept")
    (corpus / "LibriSpeech" / "test-other").mkdir()
    (corpus / "test-other.tar.gz").touch()  # an unpacking that was interrupted
    with pytest.raises(ValueError, match="does not hold dev-other"):
        prepare(corpus, download=True)
    assert asked == [(corpus, ["dev-other", "test-other"])]


def test_files_decode_to_what_was_spoken(corpus):
    path = first_of(corpus, "dev-clean")
    recording = prepare(corpus)["dev-clean"][0][path.stem]
    np.testing.assert_allclose(recording.load_audio()[0], soundfile.read(path)[0], atol=1e-6)
