"""The finished model of a run: loaded with what it learned, refused where the configuration is of another model."""

import pytest
import torch
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.masks.compact import compact
from asrsparse.models.builders import build_model, load_model
from asrsparse.models.weight_files import save_weights

TOKENIZER = CharTokenizer.train(["bin blue"])


def config_in(exp_dir, *more):
    return compose_config([*MICRO, f"data_dir={exp_dir}/no_data", f"exp_dir={exp_dir}", *more])


def save_model(exp_dir, *more):
    config = config_in(exp_dir, *more)
    model = build_model(config, TOKENIZER.vocab_size)
    save_weights(exp_dir / config.name / "model.safetensors", model.state_dict())
    return model


def test_a_finished_model_is_loaded_ready_to_decode(tmp_path):
    saved = save_model(tmp_path).state_dict()
    model = load_model(config_in(tmp_path), TOKENIZER)
    assert not model.training
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_a_finished_model_has_the_layer_scale_that_it_learned(tmp_path):
    learned = save_model(tmp_path, "model.layer_scale=0.1").state_dict()
    name = "encoder.encoders.0.self_attn.layer_scale"
    learned[name].fill_(0.7)
    save_weights(tmp_path / "full-dense" / "model.safetensors", learned)
    model = load_model(config_in(tmp_path, "model.layer_scale=0.1"), TOKENIZER)
    assert torch.equal(model.state_dict()[name], torch.full((32,), 0.7))
    with pytest.raises(ValueError, match="layer_scale"):
        load_model(config_in(tmp_path), TOKENIZER)


def test_a_compacted_model_is_loaded_with_its_smaller_layers(tmp_path):
    config = config_in(tmp_path)
    saved = build_model(config, TOKENIZER.vocab_size)
    with torch.no_grad():
        saved.encoder.encoders[0].feed_forward.w_2.weight[:, 5:] = 0.0
    compact(saved)
    save_weights(tmp_path / config.name / "model.safetensors", saved.state_dict())
    model = load_model(config, TOKENIZER)
    assert model.encoder.encoders[0].feed_forward.w_2.in_features == 5
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.encoder.num_blocks=3", "encoder.encoders.2"),
        ("model.encoder.linear_units=48", "encoder.encoders.0.feed_forward.w_2.weight: got 64 input columns"),
        ("model.decoder=null", "decoder."),
    ],
)
def test_a_model_of_another_configuration_is_refused_with_what_differs(tmp_path, override, named):
    save_model(tmp_path)
    more = [override, "model.ctc_weight=1.0"] if override == "model.decoder=null" else [override]
    with pytest.raises(ValueError, match=r"is of another model .* train again under another name=NAME") as caught:
        load_model(config_in(tmp_path, *more), TOKENIZER)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_a_finished_model_with_video_is_loaded_also_compacted(tmp_path, modality):
    config = config_in(tmp_path, f"modality={modality}")
    saved = build_model(config, TOKENIZER.vocab_size)
    encoder = saved.encoder if saved.video is None else saved.video.encoder
    with torch.no_grad():
        encoder.encoders[1].feed_forward.w_2.weight[:, 7:] = 0.0
    compact(saved)
    save_weights(tmp_path / f"full-dense-{modality}" / "model.safetensors", saved.state_dict())
    model = load_model(config, TOKENIZER)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    shrunk = model.encoder if model.video is None else model.video.encoder
    assert shrunk.encoders[1].feed_forward.w_2.in_features == 7
