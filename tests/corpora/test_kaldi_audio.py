"""Tests `corpora.kaldi_audio`: files, commands and archives become recordings, and nothing runs that is not allowed."""

from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from kaldi_dirs import RATE, prepare, reasons, samples, write_corpus, write_tone

from asrsparse.data.cuts import make_cuts


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_corpus(tmp_path / "data")


def test_other_rates_are_resampled(corpus):
    write_tone(corpus / "dev" / "wav" / "bert-0.wav", rate=8_000)
    cut = make_cuts(*prepare(corpus)["dev"])[0]
    assert (cut.sampling_rate, cut.duration) == (RATE, 2.0)
    assert cut.load_audio().shape == (1, 2 * RATE)


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
        ("true |", "status 0: it printed no error"),
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
        (f"{corpus}/bad.ark:0", r"there is no audio but b'PKLco'"),
        (f"{corpus}/wav.ark:3", "there is no"),
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
def test_an_invalid_entry_is_refused(corpus, value):
    path = use(corpus, value)
    with pytest.raises(ValueError, match=rf"{path}:1: got .*, expected a path, a place in an archive or a command"):
        prepare(corpus)
