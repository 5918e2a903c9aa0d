import pytest

from asrsparse.cli import main
from asrsparse.export.kinds import KINDS, export


def fails(capsys, *words):
    """The message of a command that must end as a user's mistake."""
    with pytest.raises(SystemExit) as stopped:
        main(["export", *map(str, words)])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_the_command_writes_a_new_folder_and_names_it(run_dir, tmp_path, capsys):
    main(["export", "huggingface", str(run_dir), str(tmp_path / "out"), "language=en"])
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_an_unknown_kind_is_named_with_the_nearest(tmp_path, capsys):
    message = fails(capsys, "espnt", tmp_path / "run", tmp_path / "out")
    assert "got the kind 'espnt', allowed are espnet, huggingface, onnx" in message
    assert "Did you mean 'espnet'?" in message


def test_too_few_words_are_explained(tmp_path, capsys):
    assert "export: got nothing, allowed are a kind (espnet, " in fails(capsys)
    assert "export: got espnet, allowed are" in fails(capsys, "espnet")


def test_an_unknown_option_is_named(tmp_path, capsys):
    message = fails(capsys, "onnx", tmp_path / "run", tmp_path / "out", "push=me/mine")
    assert "export onnx: got the option 'push', allowed are data_dir." in message


def test_a_run_that_is_not_there_is_refused(tmp_path, capsys):
    assert "is no finished run: config.yaml is missing" in fails(capsys, "onnx", tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(run_dir, tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out is a folder that is not empty; allowed is a new or empty folder"):
        export(kind, run_dir, tmp_path / "out", {})
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "notes.txt"]


def test_a_kind_is_a_function_of_two_folders_and_options(monkeypatch, tmp_path):
    called = []
    monkeypatch.setitem(KINDS, "twice", lambda source, output, times="2": called.append((source, output, times)))
    export("twice", tmp_path, tmp_path / "out", {"times": "3"})
    assert called == [(tmp_path, tmp_path / "out", "3")]
