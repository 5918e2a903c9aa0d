"""The files of stages are read whole, or an error names the command that makes them again."""

import re

import pytest

from asrsparse.files import write_json, write_text
from asrsparse.scoring.stage_files import read_stage, remedy


def test_what_a_stage_wrote_is_read_and_what_is_missing_named(tmp_path):
    path = tmp_path / "mini" / "masks" / "decode_test_greedy" / "decode.json"
    message = "the stage `decode` has not finished. Run `asrsparse decode recipe=mini system=masks`"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_stage(path, "decode")
    values = {"command": "asrsparse decode", "audio_hours": 0.1, "seconds": 2.0}
    write_json(path, values)
    assert read_stage(path, "decode") == values
    with pytest.raises(ValueError, match=r"has no split, method\. Another version wrote it\?"):
        read_stage(path, "decode", ["split", "method"])


def test_the_remedy_names_the_modality_that_a_folder_is_called_after(tmp_path):
    folder = tmp_path / "mini" / "easy2hard-masks-audiovisual"
    expected = "Run `asrsparse train recipe=mini system=easy2hard-masks modality=audiovisual`."
    assert remedy(folder, "train") == remedy(folder / "decode_test_greedy", "train") == expected


def test_the_remedy_has_the_options_of_the_recorded_command(tmp_path):
    """The folder of a run that was named by `name=` is no system."""
    run = tmp_path / "mini" / "easy-seed1"
    command = "asrsparse train 'exp_dir=exp/a b' pruning=easy seed=1 name=easy-seed1"
    write_json(run / "train.json", {"command": command})
    options = "'exp_dir=exp/a b' pruning=easy seed=1 name=easy-seed1"
    assert remedy(run / "decode_test_joint", "decode") == f"Run `asrsparse decode {options}`."
    assert remedy(run / "decode_test_joint", "score") == f"Run `asrsparse score {options}`."
    assert remedy(run, "train") == f"Run `asrsparse train {options}`."
    write_json(run / "decode_test_joint" / "decode.json", {"command": f"asrsparse decode {options} decode=joint"})
    assert remedy(run / "decode_test_joint", "score") == f"Run `asrsparse score {options} decode=joint`."
    assert remedy(run / "decode_test_joint", "decode") == f"Run `asrsparse decode {options}`."


def test_without_a_recorded_command_the_remedy_has_what_the_configuration_names(tmp_path):
    run = tmp_path / "mini-sweep" / "seed1"
    assert (
        remedy(run, "train")
        == "Run `asrsparse train recipe=mini-sweep name=seed1` with the other options of its training."
    )
    write_text(run / "config.yaml", "recipe_name: mini\nname: seed1\nmodality: {name: video}\n")
    write_json(run / "train.json", {"command": "test"})
    assert (
        remedy(run, "decode") == "Run `asrsparse decode recipe=mini name=seed1` with the other options of its training."
    )
    write_text(run / "config.yaml", "recipe_name: mini\nname: masks-video\nmodality: {name: video}\n")
    assert remedy(run, "train") == "Run `asrsparse train recipe=mini system=masks modality=video`."
