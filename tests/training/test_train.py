import pytest
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.training.train import train


def config_in(exp_dir, *more):
    return compose_config([*MICRO, f"data_dir={exp_dir}/no_data", f"exp_dir={exp_dir}", *more])


def begin(config):
    """Claims the folder of a run; ends there, since there are no data."""
    with pytest.raises(ValueError) as stopped:
        train(config, "asrsparse train")
    return str(stopped.value)


def test_a_folder_that_holds_another_run_is_refused_with_what_differs(tmp_path):
    assert "asrsparse prepare" in begin(config_in(tmp_path))
    written = (tmp_path / "full-dense" / "config.yaml").read_bytes()
    message = begin(config_in(tmp_path, "seed=1", "optim.lr=0.5"))
    assert "holds a run with another configuration (optim.lr: 0.002 there, 0.5 now; seed: 0 there, 1 now)" in message
    assert "Give this run another name (name=NAME), or delete the folder" in message
    assert (tmp_path / "full-dense" / "config.yaml").read_bytes() == written


def test_many_differences_are_named_in_part(tmp_path):
    begin(config_in(tmp_path))
    message = begin(config_in(tmp_path, "model=small"))
    assert 1 <= message.count(" there, ") <= 5


def test_the_same_run_may_be_resumed_and_decoded_another_way(tmp_path):
    begin(config_in(tmp_path))
    others = (["decode=joint"], ["decode.splits=[dev]"], ["systems=[full-dense]"], ["masks.regime=in other words"])
    for more in ([], *others):
        assert "asrsparse prepare" in begin(config_in(tmp_path, *more))


def test_a_run_from_before_there_were_modalities_is_resumed(tmp_path):
    begin(config_in(tmp_path, "masks=learned"))
    path = tmp_path / "full-dense" / "config.yaml"
    older = OmegaConf.load(path)
    older.trainer.num_epochs = older.trainer.num_epochs
    del older.modality, older.by_modality
    older.name = "full-dense"
    older.masks.method.exclude = ["encoder.embed.*|ctc.*|decoder.output_layer.*"]
    OmegaConf.save(older, path)
    assert "asrsparse prepare" in begin(config_in(tmp_path, "masks=learned"))


def test_a_run_of_another_modality_under_the_same_name_is_refused(tmp_path):
    begin(config_in(tmp_path))
    message = begin(config_in(tmp_path, "modality=video", "name=full-dense"))
    assert "holds a run with another configuration (model.encoder.input_layer: conv2d there, linear now" in message


def test_another_name_is_another_folder(tmp_path):
    begin(config_in(tmp_path))
    assert "asrsparse prepare" in begin(config_in(tmp_path, "seed=1", "name=seed-1"))
    assert (tmp_path / "seed-1" / "config.yaml").is_file()


def test_what_a_run_begins_with_and_its_longest_utterance_make_it_another_run(tmp_path):
    begin(config_in(tmp_path))
    message = begin(config_in(tmp_path, "init_from=other.safetensors", "trainer.max_seconds=4"))
    assert "init_from: None there, other.safetensors now; trainer.max_seconds: None there, 4 now" in message
