import re
import subprocess
import sys

import pytest

import asrsparse
from asrsparse.cli import COMMANDS, PLAIN, main
from asrsparse.config import CONF_DIR

PRINT_MODULES = """
import sys
from asrsparse.cli import main
try:
    main({words!r})
except SystemExit as stopped:
    print("status", stopped.code)
print("modules", *sorted(module.partition(".")[0] for module in sys.modules))
"""


def run(*words):
    return subprocess.run([sys.executable, "-m", "asrsparse", *words], capture_output=True, text=True, timeout=60)


def fails(capsys, *words):
    """The message of a command that must end as a user's mistake."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("asrsparse: error: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(word):
    done = subprocess.run(
        [sys.executable, "-c", PRINT_MODULES.format(words=[word])], capture_output=True, text=True, check=True
    )
    assert "status 0" in done.stdout
    modules = set(done.stdout.rpartition("modules")[2].split())
    assert "asrsparse" in modules
    assert not modules & {"torch", "numpy", "lhotse", "lightning", "espnet", "espnet2", "hydra", "omegaconf", "rich"}


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == asrsparse.__version__


def test_help_names_every_command_and_every_group(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in [*COMMANDS, *PLAIN, *(folder.name for folder in CONF_DIR.iterdir() if folder.is_dir())]:
        assert f"\n  {name}" in text or f", {name}" in text


def test_help_names_every_choice_of_the_groups_it_lists(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    words = re.findall(r"[\w-]+", capsys.readouterr().out)
    for group in ("recipe", "system", "modality", "model", "pruning", "masks", "decode"):
        assert {file.stem for file in (CONF_DIR / group).glob("[!_]*.yaml")} <= set(words)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert "got 'trian', allowed are prepare, train, " in fails(capsys, "trian")
    assert "Did you mean 'train'?" in fails(capsys, "trian")
    assert "Did you mean" not in fails(capsys, "zzz")


def test_a_users_mistake_is_one_line_and_status_2():
    done = run("train", "recipe=gird")
    assert done.returncode == 2
    assert (
        done.stderr
        == "asrsparse: error: Unknown recipe: got 'gird', allowed are grid, lrs2, lrs3, mini. Did you mean 'grid'?\n"
    )
    assert done.stdout == ""


def test_a_corpus_that_is_not_made_here_needs_its_folder(capsys):
    assert "corpus.corpus_dir=DIR" in fails(capsys, "prepare", "recipe=grid")


def test_training_without_data_says_what_to_run(capsys, tmp_path):
    message = fails(capsys, "train", f"data_dir={tmp_path}", f"exp_dir={tmp_path}/exp")
    assert "Run `asrsparse prepare` first" in message


def test_decoding_without_data_says_what_to_run(capsys, tmp_path):
    assert "Run `asrsparse prepare` first" in fails(capsys, "decode", f"data_dir={tmp_path}", f"exp_dir={tmp_path}/exp")


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("ASRSPARSE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Unknown recipe"):
        main(["train", "recipe=gird"])


def test_config_prints_what_was_composed(capsys):
    main(["config", "recipe=grid", "system=easy2hard", "seed=7"])
    text = capsys.readouterr().out
    assert "seed: 7\n" in text
    assert "_target_: asrsparse.pruning.EasyToHard" in text
