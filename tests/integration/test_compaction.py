"""A training with structured masks, from the configuration to hypotheses: the finished model is smaller."""

import pytest
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.decode import decode
from asrsparse.files import read_json
from asrsparse.models.builders import build_model, load_model
from asrsparse.training.train import train


@pytest.fixture(scope="module")
def exp_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("exp")


def config_of(tiny_corpus, exp_dir, name, *more):
    words = [*MICRO, f"name={name}", f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", "trainer.accelerator=cpu"]
    return compose_config([*words, "trainer.num_epochs=2", *more])


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_structured_masks_leave_a_smaller_model_that_decodes(tiny_corpus, exp_dir, caplog):
    config = config_of(tiny_corpus, exp_dir, "structured", "masks=structured")
    with caplog.at_level("INFO", "asrsparse"):
        train(config, "test")
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    model, dense = load_model(config, tokenizer), build_model(config, tokenizer.vocab_size)
    record = read_json(exp_dir / "structured" / "train.json")
    assert (record["parameters"], record["parameters_compacted"]) == (num_parameters(dense), num_parameters(model))
    assert record["density_at_exit"] == pytest.approx(0.5, abs=0.02)
    assert num_parameters(model) <= record["density"] * num_parameters(dense)
    assert "masks: compacted from here" in caplog.text
    assert model.encoder.embed.conv[2].weight.shape[:2] == (16, 16)
    assert model.encoder.encoders[0].feed_forward.w_2.in_features == 32
    assert f"{record['parameters_compacted']} of {record['parameters']} parameters are left" in caplog.text
    decode(config, "test")


@pytest.mark.parametrize("words", [["masks=structured", "masks.compact=false"], ["masks=random"]], ids=" ".join)
def test_other_models_keep_their_shapes(tiny_corpus, exp_dir, words):
    config = config_of(tiny_corpus, exp_dir, words[-1].replace("=", "-"), *words)
    record = train(config, "test")
    model = load_model(config, load_tokenizer(tiny_corpus / "cuts"))
    assert record["density"] < 1
    assert record["parameters_compacted"] == record["parameters"] == num_parameters(model)
