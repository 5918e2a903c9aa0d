"""Tests `corpora.kaldi_files`: what Kaldi's own validation refuses and allows; each error names file and line."""

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kaldi_dirs import write_dir, write_files

from asrsparse.corpora.kaldi_files import Segment, read_data_dir, read_table

FILES = {
    "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
    "text": "a-1 bin  blue\na-2\nb-1 lay\n",
    "wav.scp": "a-1 x.wav\na-2 y.wav\nb-1 z\n",
}
CALLS = {
    "wav.scp": "call1 x.wav\ncall2 y y.wav\n",
    "segments": "a-1 call1 0 1.5\na-2 call1 1.5 2\nb-1 call2 0.25 3e0\n",
}


def read(tmp_path, **files: str | bytes):
    """Reads FILES with others in the place of some; `wav_scp` is wav.scp."""
    named = {name.replace("_scp", ".scp"): content for name, content in files.items()}
    return read_data_dir(write_files(tmp_path / "train", {**FILES, **named}))


def test_a_directory_is_read(tmp_path):
    data = read(tmp_path, spk2utt="a a-1 a-2\nb b-1\n", utt2dur="a-1 1.5\na-2 0.5\nb-1 2.75\n", video_scp="a-1 x.mp4\n")
    assert {name: row.value for name, row in data.texts.items()} == {"a-1": "bin  blue", "a-2": "", "b-1": "lay"}
    assert data.speakers["b-1"].value == "b"
    assert data.segments["b-1"] == Segment("b-1", 0.0, None, f"{tmp_path}/train/wav.scp:3")
    assert data.seconds == {"a-1": 1.5, "a-2": 0.5, "b-1": 2.75}
    assert data.videos["a-1"].value == "x.mp4"


def test_segments_are_read_and_paths_may_have_spaces(tmp_path):
    data = read_data_dir(write_files(tmp_path, FILES | CALLS))
    assert data.segments["b-1"] == Segment("call2", 0.25, 3.0, f"{tmp_path}/segments:3")
    assert data.wavs["call2"].value == "y y.wav"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"text": "a-2 lay\na-1 bin\nb-1 x\n"},
            "text:2: 'a-1' comes after 'a-2', so the file is not sorted. Sort it: LC_ALL=C",
        ),
        ({"utt2spk": "a-1 a\na-1 a\na-2 a\n"}, "utt2spk:2: 'a-1' is there twice"),
        (
            {"text": "a-1 x\nb-1 x\n"},
            "utt2spk:2: 'a-2' is not in .*text; both must have the same ids .utt2spk has 3, text 2",
        ),
        ({"text": "a-1 x\na-2 x\nb-1 x\nb-2 x\n"}, "text:4: 'b-2' is not in .*utt2spk"),
        ({"wav_scp": "a-1 x\na-2 y\n"}, "utt2spk:3: 'b-1' is not in .*wav.scp"),
        (
            {"text": "a-1 x\r\na-2 x\r\nb-1 x\r\n"},
            "text:1: the line has a Windows line end .CR LF.. Convert the file: dos2unix",
        ),
        ({"text": b"a-1 x\na-2 gr\xfcn\nb-1 x\n"}, "text:2: byte 7 of the line, 0xfc, is not UTF-8"),
        ({"utt2spk": "a 1 a\na-2 a\nb-1 b\n"}, "utt2spk:1: got 3 columns in 'a 1 a', expected 2. Ids have no spaces"),
        ({"utt2spk": "a-1\na-2 a\nb-1 b\n"}, "utt2spk:1: got 1 columns in 'a-1', expected 2"),
        ({"text": "a-1 x\n\nb-1 x\n"}, "text:2: got '', expected an id at the beginning of the line"),
        ({"text": " a-1 x\n"}, "text:1: got ' a-1 x', expected an id at the beginning"),
        ({"text": "a-1 x\na-2 x\nb-1 x"}, "text:3: the last line has no line end"),
        ({"text": ""}, "text is empty"),
        ({"text": "a-1 x\na-2 <s> x\nb-1 x\n"}, "text:2: the text has '<s>', which Kaldi reserves"),
        ({"text": "a-1 x\na-2 x\u00a0y\nb-1 x\n"}, r"text:2: the text has '\\xa0'"),
        ({"spk2utt": "a a-1 a-2 b-1\nb b-1\n"}, "spk2utt:1: 'a' has 'b-1', which contradicts .*utt2spk"),
        ({"spk2utt": "a a-1\nb b-1\n"}, "utt2spk:2: 'a-2' is not in .*spk2utt"),
        ({"utt2dur": "a-1 1\na-2 0\nb-1 1\n"}, "utt2dur:2: got '0', expected a number of seconds above 0"),
        ({"utt2dur": "a-1 1\na-2 long\nb-1 1\n"}, "utt2dur:2: got 'long', expected a number of seconds"),
        ({"utt2dur": "a-1 1\n"}, "utt2spk:2: 'a-2' is not in .*utt2dur"),
        ({"video_scp": "c-1 x.mp4\n"}, "video.scp:1: 'c-1' is not in .*wav.scp"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_line(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **files)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a-2 call1 -0.5 2", "segments:2: the segment begins at -0.5 s, before its recording"),
        ("a-2 call1 2 2", "segments:2: the segment ends at 2 s, not after its start at 2 s"),
        ("a-2 call1 2 -1", "segments:2: the segment ends at -1 s, not after its start at 2 s"),
        ("a-2 call1 nan 2", "segments:2: got 'nan', expected a number of seconds"),
        ("a-2 call1 1_0 20", "segments:2: got '1_0', expected a number of seconds"),
        ("a-2 call1 2", "segments:2: got 3 columns"),
        ("a-2 call1 1 2 3", "segments:2: got 5 columns"),
        ("a-2 call3 1 2", "segments:2: 'call3' is not in .*wav.scp"),
        ("a-3 call1 1 2", "utt2spk:2: 'a-2' is not in .*segments"),
    ],
)
def test_impossible_segments_are_refused(tmp_path, second, message):
    lines = CALLS["segments"].splitlines()
    files = CALLS | {"segments": f"{lines[0]}\n{second}\n{lines[2]}\n"}
    with pytest.raises(ValueError, match=message):
        read_data_dir(write_files(tmp_path, FILES | files))


def test_a_recording_without_segments_is_refused_as_by_kaldi(tmp_path):
    files = CALLS | {"wav.scp": CALLS["wav.scp"] + "call3 z.wav\n"}
    with pytest.raises(ValueError, match=r"wav\.scp:3: 'call3' is not in .*segments"):
        read_data_dir(write_files(tmp_path, FILES | files))


def test_what_kaldi_allows_is_a_warning(tmp_path, caplog):
    files = CALLS | {
        "segments": "a-1 call1 0 2.5\na-2 call1 1.5 2\nb-1 call2 0 3\n",
        "utt2spk": "a-1 a\na-2 b\nb-1 b\n",
    }
    with caplog.at_level(logging.WARNING):
        read_data_dir(write_files(tmp_path, FILES | files))
    assert "segments: 1 segments begin before another one of their recording ends; the first is a-2" in caplog.text
    assert "utt2spk: 1 utterance ids do not begin with the id of their speaker: a-2 of b, for example" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        read_data_dir(write_dir(tmp_path / "one"))
    assert "utt2spk: all utterances are of one speaker" in caplog.text


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"No folder .*nowhere: expected is a Kaldi data directory, with wav\.scp, text"
    ):
        read_data_dir(tmp_path / "nowhere")
    for name in ("text", "utt2spk", "wav.scp"):
        folder = write_dir(tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"No file {re.escape(str(folder / name))}"):
            read_data_dir(folder)


IDS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=6)
VALUES = st.text(st.sampled_from("ab é\u4e00|:-"), max_size=12).map(lambda text: text.strip())


@given(st.dictionaries(IDS, VALUES, min_size=1, max_size=8))
def test_sorted_tables_are_read_and_others_are_refused(tmp_path_factory, table):
    path = tmp_path_factory.getbasetemp() / "table"
    names = sorted(table, key=str.encode)
    lines = [f"{name} {table[name]}".rstrip(" ") + "\n" for name in names]
    path.write_bytes("".join(lines).encode())
    read = read_table(path)
    assert {name: row.value for name, row in read.items()} == table
    assert [row.where for row in read.values()] == [f"{path}:{number}" for number in range(1, len(names) + 1)]
    if len(lines) > 1:
        path.write_bytes("".join(reversed(lines)).encode())
        with pytest.raises(ValueError, match=r"table:2: .* so the file is not sorted"):
            read_table(path)
    path.write_bytes("".join([*lines, lines[-1]]).encode())
    with pytest.raises(ValueError, match=rf"table:{len(lines) + 1}: .* is there twice"):
        read_table(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_the_file_named(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    try:
        table, refusal = read_table(path), ""
    except ValueError as error:
        table, refusal = {}, str(error)
    assert refusal.startswith(str(path)) or len(table) == content.count(b"\n")
