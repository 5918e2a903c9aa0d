"""What makes two configurations the same run."""

import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.data.cut_index import CutIndex
from asrsparse.files import write_text
from asrsparse.training.run_dir import check_utterances, claim_utterances, differences


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


def test_the_same_epochs_are_the_same_run_whether_a_recipe_or_a_user_says_so(tmp_path):
    folder = claimed(tmp_path, "recipe=grid")
    epochs = compose_config(["recipe=grid"]).trainer.num_epochs
    assert differences(folder, compose_config(["recipe=grid", f"trainer.num_epochs={epochs}"])) == []
    assert differences(folder, compose_config(["recipe=grid", "by_modality.video.num_epochs=1"])) == []


def cuts(ids, path="train_cuts.jsonl", seconds=3.6):
    return CutIndex(path, pa.array(ids), np.full(len(ids), seconds), *np.zeros((2, len(ids)), np.int64))


def test_a_run_is_resumed_with_the_utterances_that_it_began_with(tmp_path):
    check_utterances(tmp_path, cuts("ab"))  # nothing is known of a run of older versions
    assert not (tmp_path / "data.json").is_file()
    claim_utterances(tmp_path, cuts("ab"))
    claim_utterances(tmp_path, cuts("ab", "moved/train_cuts.jsonl"))


@pytest.mark.parametrize("other", [cuts("abc"), cuts("ac"), cuts("ab", seconds=3.7), cuts("ba")])
def test_other_utterances_are_refused(other, tmp_path):
    claim_utterances(tmp_path, cuts("ab"))
    message = (
        rf"was begun with 2 utterances \(0\.00 h\) of training, .* holds others, {len(other)} utterances .*name=NAME"
    )
    with pytest.raises(ValueError, match=message):
        claim_utterances(tmp_path, other)
    claim_utterances(tmp_path, cuts("ab"))
