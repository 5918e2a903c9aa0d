import pytest
import torch
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.masks.compact import compact
from asrsparse.models.builders import build_model, load_model
from asrsparse.models.weights import save_weights
from asrsparse.training.train import resolve_precision, train

TOKENIZER = CharTokenizer.train(["bin blue"])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("accelerator", ["cpu", "auto", "gpu"])
def test_a_precision_that_is_named_is_taken(precision, accelerator):
    assert resolve_precision(precision, accelerator) == precision


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bf16_where_the_processor_computes_in_it(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert resolve_precision("auto", "auto") == resolve_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_asks_the_gpu_where_one_is_used(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not native)
    assert resolve_precision("auto", "auto") == expected
    assert resolve_precision("auto", "cpu") != expected


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


def test_the_same_run_may_go_on_and_be_decoded_another_way(tmp_path):
    begin(config_in(tmp_path))
    others = (["decode=joint"], ["decode.splits=[dev]"], ["systems=[full-dense]"], ["masks.regime=in other words"])
    for more in ([], *others):
        assert "asrsparse prepare" in begin(config_in(tmp_path, *more))


def test_a_run_from_before_there_were_modalities_goes_on(tmp_path):
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


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_a_finished_model_that_sees_is_loaded_also_compacted(tmp_path, modality):
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


def test_another_name_is_another_folder(tmp_path):
    begin(config_in(tmp_path))
    assert "asrsparse prepare" in begin(config_in(tmp_path, "seed=1", "name=seed-1"))
    assert (tmp_path / "seed-1" / "config.yaml").is_file()


def test_what_a_run_begins_with_and_its_longest_utterance_make_it_another_run(tmp_path):
    begin(config_in(tmp_path))
    message = begin(config_in(tmp_path, "init_from=other.safetensors", "trainer.max_seconds=4"))
    assert "init_from: None there, other.safetensors now; trainer.max_seconds: None there, 4 now" in message
