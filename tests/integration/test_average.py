"""The finished model of a training whose masks move, or are soft, until its end."""

import pytest
from micro import MICRO
from safetensors.torch import load_file

from asrsparse.config import compose_config
from asrsparse.files import read_json
from asrsparse.masks.semi_structured import is_two_of_four
from asrsparse.training.train import train


@pytest.mark.parametrize("system", ["set", "decaying"])
def test_the_finished_model_has_the_density_at_the_exit(system, tiny_corpus, tmp_path):
    words = [*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={tmp_path}", "name=run", f"masks={system}"]
    train(compose_config([*words, "trainer.num_epochs=3", "trainer.average.num=3", "trainer.accelerator=cpu"]), "test")
    record, weights = read_json(tmp_path / "run" / "train.json"), load_file(tmp_path / "run" / "model.safetensors")
    matrices = {name: value for name, value in weights.items() if name.endswith(".weight") and value.dim() >= 2}
    masked = {name: value for name, value in matrices.items() if (value == 0).any()}
    num_zeros = sum(int((value == 0).sum()) for value in masked.values())
    assert len(list((tmp_path / "run" / "snapshots").iterdir())) == 3
    assert record["density_of_masked"] == record["density_at_exit"] == pytest.approx(0.5, abs=0.02)
    assert record["density"] == pytest.approx(1 - num_zeros / record["parameters"])
    if system == "decaying":
        inputs_last = [value.movedim(1, -1) for value in masked.values()]
        assert all(is_two_of_four(value.reshape(-1, value.shape[-1])) for value in inputs_last)
