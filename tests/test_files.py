import pytest

from asrsparse.files import atomic_folder, atomic_path, read_json, write_json, write_text


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


def test_a_folder_arrives_whole(tmp_path):
    with atomic_folder(tmp_path / "new" / "out") as folder:
        write_text(folder / "words.txt", "one")
        assert not (tmp_path / "new" / "out").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out" / "words.txt").read_text() == "one"


def write_half_a_folder(path, error):
    with atomic_folder(path) as folder:
        write_text(folder / "words.txt", "ha")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_of_a_folder_that_fails_nothing_is_left(tmp_path, error):
    with pytest.raises(error):
        write_half_a_folder(tmp_path / "out", error)
    assert not any(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as folder:
        write_text(folder / "words.txt", "one")
    full = pytest.raises(ValueError, match=r"out is a folder that is not empty; allowed is a new or empty folder")
    with full, atomic_folder(tmp_path / "out") as folder:
        write_text(folder / "words.txt", "two")
    assert (tmp_path / "out" / "words.txt").read_text() == "one"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    refused = pytest.raises(ValueError, match=r"out is a file; allowed is a new or empty folder")
    with refused, atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "mine"
