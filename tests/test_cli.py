import re
import subprocess
import sys

import pytest
from decoded import decoded

import asrsparse
from asrsparse.cli import main
from asrsparse.commands import COMMANDS
from asrsparse.config import CONF_DIR
from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.files import read_json
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

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
    for name in [*COMMANDS, *(folder.name for folder in CONF_DIR.iterdir() if folder.is_dir())]:
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
    known = "grid, kaldi, librispeech, librispeech_100, lrs2, lrs3, mini"
    expected = f"asrsparse: error: Unknown recipe: got 'gird', allowed are {known}. Did you mean 'grid'?\n"
    assert done.stderr == expected
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


@pytest.fixture
def run_dir(tmp_path):
    """A run that has decoded its test set."""
    write_decoded(tmp_path / "exp" / "full-dense" / "decode_test_ctc_greedy", decoded(0.2))
    return tmp_path / "exp" / "full-dense"


def score_words(run_dir, *words):
    """The command that scores that run, without a tokenizer."""
    return ["score", f"exp_dir={run_dir.parent}", f"data_dir={run_dir.parent}", "score.bootstrap.resamples=50", *words]


def test_scoring_again_with_other_settings_is_not_skipped(run_dir, caplog):
    path = run_dir / "decode_test_ctc_greedy" / "score.json"
    for words in ([], ["score.normaliser=lower_no_punctuation"], ["score.bootstrap.unit=speaker"]):
        main(score_words(run_dir, *words))
        made = path.read_bytes()
        assert "is already scored" not in caplog.text
        main(score_words(run_dir, *words))
        assert "is already scored" in caplog.text
        assert path.read_bytes() == made
        caplog.clear()
    assert read_json(path)["bootstrap"] == {"resamples": 50, "seed": 0, "unit": "speaker"}


def test_the_tokenizer_of_the_data_gives_the_token_rate(run_dir, tmp_path, caplog):
    main(score_words(run_dir))
    path = run_dir / "decode_test_ctc_greedy" / "score.json"
    assert read_json(path)["ter"] is None
    assert "No tokenizer in " in caplog.text
    CharTokenizer.train(["bin blue at f two now x y"]).save(tmp_path / "exp" / "cuts")
    main(score_words(run_dir))
    assert read_json(path)["ter"] == read_json(path)["cer"]


def test_an_unknown_normaliser_is_told(run_dir, capsys):
    assert "got 'lower', allowed are none, " in fails(capsys, *score_words(run_dir, "score.normaliser=lower"))


def test_compare_and_breakdown_print_tables_and_write_json_on_demand(run_dir, tmp_path, capsys):
    write_decoded(tmp_path / "exp" / "lr=0.1" / "decode_test_ctc_greedy", decoded(0.1))
    main(score_words(run_dir))
    score(tmp_path / "exp" / "lr=0.1" / "decode_test_ctc_greedy", Bootstrap(50))
    kept = tmp_path / "compare.json"
    main(["compare", str(run_dir), str(tmp_path / "exp" / "lr=0.1"), "relative_margin=5", f"json={kept}"])
    assert "decode_test_ctc_greedy" in capsys.readouterr().out
    assert read_json(kept)[0]["margin"] == {"value": 0.05, "relative": True}
    main(["breakdown", str(run_dir), f"json={kept}"])
    assert "full-dense: decode_test_ctc_greedy" in capsys.readouterr().out
    assert {group["by"] for group in read_json(kept)[0]["groups"]} == {"all", "duration", "speaker"}


def test_compare_and_breakdown_say_what_they_take(run_dir, tmp_path, capsys):
    here = str(run_dir)
    assert "compare: got no folder, allowed are folders that exist, margin=VALUE" in fails(capsys, "compare")
    assert "allowed are folders that exist, margin=VALUE, relative_margin=VALUE, json=VALUE." in fails(
        capsys, "compare", here, f"{tmp_path}/nowhere"
    )
    assert "compare margin: got 'a', allowed is a number" in fails(capsys, "compare", here, "margin=a")
    assert "got margin and relative_margin" in fails(capsys, "compare", here, "margin=1", "relative_margin=1")
    assert "compare margin: got '-1', allowed is a number in per cent, 0 or more" in fails(
        capsys, "compare", here, "margin=-1"
    )
    assert "got margin=1, allowed are folders that exist, json=VALUE." in fails(capsys, "breakdown", here, "margin=1")
    assert "Run `asrsparse score recipe=" in fails(capsys, "breakdown", here)
