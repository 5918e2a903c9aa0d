"""Prepared corpora as Kaldi data directories: what goes out comes in again."""

import pytest
from kaldi_dirs import write_dir, write_tone
from lhotse import Recording, SupervisionSegment

from asrsparse.corpora.kaldi import prepare_kaldi
from asrsparse.corpora.manifests import SPLITS
from asrsparse.data.cuts import make_cuts, prepare_cuts, read_cuts
from asrsparse.export.kaldi_dirs import export_kaldi, write_data_dir

FILES = ["spk2utt", "text", "utt2dur", "utt2spk", "wav.scp"]


def said(cuts_dir, split: str) -> list:
    cuts = sorted(read_cuts(cuts_dir, split), key=lambda cut: cut.id.encode())
    own = [(cut, cut.supervisions[0]) for cut in cuts]
    return [(c.id, s.speaker, s.text, round(c.start, 6), c.num_samples, c.load_audio().tobytes()) for c, s in own]


def import_again(folder, tmp_path, **arguments):
    prepare_kaldi(folder, tmp_path / "again", num_jobs=1, **arguments)
    prepare_cuts(tmp_path / "again" / "manifests", tmp_path / "again" / "cuts", num_jobs=1)
    return tmp_path / "again" / "cuts"


def test_what_is_exported_is_imported_again(tiny_corpus, tmp_path):
    folder = export_kaldi(tiny_corpus, tmp_path / "kaldi")
    assert sorted(path.name for path in (folder / "train").iterdir()) == FILES
    cuts_dir = import_again(folder, tmp_path)
    for split in SPLITS:
        assert said(cuts_dir, split) == said(tiny_corpus / "cuts", split)


def test_segments_and_mouths_too_and_copies_at_other_speeds_not(tmp_path):
    call = write_tone(tmp_path / "call.wav", seconds=6.0)
    for split, speaker in zip(SPLITS, ("anna", "bert", "carl"), strict=True):
        folder = write_dir(tmp_path / "data" / split, speaker)
        (folder / "wav.scp").write_text(f"call {call}\n")
        (folder / "segments").write_text(f"{speaker}-0 call 0.3 2\n{speaker}-1 call 2.125 4\n{speaker}-2 call 4 5.5\n")
    prepare_kaldi(tmp_path / "data", tmp_path, num_jobs=1)
    prepare_cuts(tmp_path / "manifests", tmp_path / "cuts", speeds=[0.9, 1.0], num_jobs=1)
    folder = export_kaldi(tmp_path, tmp_path / "kaldi", splits=["train", "dev", "test"])
    assert (folder / "train" / "segments").read_text().splitlines()[1] == "anna-1 call 2.12500000 4.00000000"
    cuts_dir = import_again(folder, tmp_path)
    originals = [utterance for utterance in said(tmp_path / "cuts", "train") if "_sp" not in utterance[0]]
    assert len(originals) == 3
    assert said(cuts_dir, "train") == originals


def test_mouths_are_exported(audiovisual_corpus, tmp_path):
    folder = export_kaldi(audiovisual_corpus, tmp_path / "kaldi")
    cuts_dir = import_again(folder, tmp_path, video="mouths")
    before, after = (
        sorted(read_cuts(d, "dev"), key=lambda cut: cut.id) for d in (audiovisual_corpus / "cuts", cuts_dir)
    )
    for one, two in zip(before, after, strict=True):
        assert (one.load_custom("video") == two.load_custom("video")).all()


def cut_of(path, name: str, speaker: str):
    recording = Recording.from_file(path, recording_id=name)
    segment = SupervisionSegment(name, name, start=0.0, duration=recording.duration, text="lay  red", speaker=speaker)
    (cut,) = make_cuts([recording], [segment])
    return cut


def test_speakers_stand_before_ids_and_pipes_are_for_kaldi(tmp_path):
    wav, flac = write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "it's.flac")
    write_data_dir(tmp_path / "dir", [cut_of(wav, "50001", "bert"), cut_of(flac, "anna-1", "anna")], pipes=True)
    assert (tmp_path / "dir" / "utt2spk").read_text() == "anna-1 anna\nbert-50001 bert\n"
    assert (tmp_path / "dir" / "text").read_text() == "anna-1 lay red\nbert-50001 lay red\n"
    quoted = f"'{tmp_path}/it'\"'\"'s.flac'"
    expected = f"anna-1 ffmpeg -nostdin -v error -i {quoted} -f wav - |\nbert-50001 {wav}\n"
    assert (tmp_path / "dir" / "wav.scp").read_text() == expected


def test_files_of_an_earlier_export_go_away(tiny_corpus, tmp_path):
    (tmp_path / "kaldi" / "dev").mkdir(parents=True)
    (tmp_path / "kaldi" / "dev" / "segments").write_text("x y 0 1\n")
    export_kaldi(tiny_corpus, tmp_path / "kaldi", splits=["dev"])
    assert sorted(path.name for path in (tmp_path / "kaldi" / "dev").iterdir()) == FILES


def test_what_cannot_be_exported_is_said(tiny_corpus, tmp_path):
    with pytest.raises(ValueError, match=r"No cuts in .*Run `asrsparse prepare` first, or name the data_dir"):
        export_kaldi(tmp_path, tmp_path / "kaldi")
    with pytest.raises(ValueError, match="Unknown split: got 'eval'"):
        export_kaldi(tiny_corpus, tmp_path / "kaldi", splits=["eval"])
    path = write_tone(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="a 1: the id is 'a 1', but Kaldi's files have names without spaces"):
        write_data_dir(tmp_path / "dir", [cut_of(path, "a 1", "a")])
    with pytest.raises(ValueError, match="no utterance to export"):
        write_data_dir(tmp_path / "dir", [])
