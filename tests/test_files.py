import pytest

from asrsparse.files import atomic_path, read_json, write_json, write_text


def test_what_is_written_arrives(tmp_path):
    write_text(tmp_path / "new" / "words.txt", "grün\n")
    assert (tmp_path / "new" / "words.txt").read_text(encoding="utf-8") == "grün\n"


def test_nothing_but_the_file_is_left(tmp_path):
    write_text(tmp_path / "words.txt", "one")
    write_text(tmp_path / "words.txt", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]
    assert (tmp_path / "words.txt").read_text() == "two"


def write_half(path):
    with atomic_path(path) as temporary:
        temporary.write_text("ha")
        raise OSError("No space left on device")


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="No space"):
        write_half(tmp_path / "words.txt")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_older_file(tmp_path):
    write_text(tmp_path / "words.txt", "old")
    with pytest.raises(OSError, match="No space"):
        write_half(tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_text() == "old"


def test_the_temporary_name_keeps_the_suffixes_by_which_writers_choose_a_format(tmp_path):
    with atomic_path(tmp_path / "cuts.jsonl.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("cuts.jsonl.gz")
        temporary.write_text("x")


def test_json_comes_back(tmp_path):
    value = {"wer": 5.25, "name": "grün", "rows": [1, None]}
    write_json(tmp_path / "results.json", value)
    assert read_json(tmp_path / "results.json") == value
    assert "grün" in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_broken_json_is_named_with_the_remedy(tmp_path):
    (tmp_path / "results.json").write_text('{"wer": ')
    with pytest.raises(ValueError, match=r"results.json is not valid JSON .*Delete it"):
        read_json(tmp_path / "results.json")
