"""What makes two configurations the same run."""

from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.files import write_text
from asrsparse.run_dir import differences


def claimed(tmp_path, *overrides):
    write_text(tmp_path / "config.yaml", OmegaConf.to_yaml(compose_config(overrides)))
    return tmp_path


def test_an_empty_folder_is_free(tmp_path):
    assert differences(tmp_path, compose_config([])) == []


def test_what_changes_training_is_named(tmp_path):
    folder = claimed(tmp_path, "pruning=random", "seed=1")
    assert differences(folder, compose_config(["pruning=random", "seed=1"])) == []
    assert differences(folder, compose_config(["pruning=random", "seed=2"])) == ["seed: 1 there, 2 now"]


def test_where_things_lie_and_how_runs_are_started_makes_no_other_run(tmp_path):
    folder = claimed(tmp_path, "exp_dir=there")
    assert differences(folder, compose_config(["exp_dir=here", "sweep=slurm", "decode=joint"])) == []
