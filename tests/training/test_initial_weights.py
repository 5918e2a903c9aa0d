"""What a training begins with: a whole model, or the streams of two."""

import pytest
import torch
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import save_weights
from asrsparse.training.initial_weights import load_initial_weights
from asrsparse.training.train import build_module, build_pruner

NONE = {"audio": None, "video": None}
AUDIOVISUAL = "modality=audiovisual"


def model_of(*overrides, seed=0):
    torch.manual_seed(seed)
    return build_model(compose_config([*MICRO, *overrides]), vocab_size=12)


@pytest.fixture
def saved(tmp_path):
    """Weights of a model of each modality, by its name, and the models."""

    def save(modality):
        model = model_of(f"modality={modality}", seed=1)
        path = tmp_path / modality / "model.safetensors"
        save_weights(path, model.state_dict())
        return str(path), model

    return save


def same(module, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_a_model_begins_with_the_weights_of_a_finished_run(saved, modality):
    path, other = saved(modality)
    model = model_of(f"modality={modality}")
    assert not same(model.ctc, other.ctc)
    load_initial_weights(model, path, NONE)
    assert same(model, other)


def test_without_a_file_nothing_changes():
    model, untouched = model_of(AUDIOVISUAL), model_of(AUDIOVISUAL)
    load_initial_weights(model, None, NONE)
    assert same(model, untouched)


def test_an_audio_visual_model_begins_with_the_streams_of_two_runs(saved):
    (audio_path, audio), (video_path, video) = saved("audio"), saved("video")
    model, untouched = model_of(AUDIOVISUAL), model_of(AUDIOVISUAL)
    load_initial_weights(model, None, {"audio": audio_path, "video": video_path})
    assert same(model.frontend, audio.frontend)
    assert same(model.encoder, audio.encoder)
    assert same(model.video.frontend, video.frontend)
    assert same(model.video.encoder, video.encoder)
    for part in ("ctc", "decoder"):
        assert same(getattr(model, part), getattr(untouched, part))
    assert same(model.video.fusion, untouched.video.fusion)


def test_a_configuration_names_them(saved):
    (audio_path, audio), (video_path, video) = saved("audio"), saved("video")
    config = compose_config(
        [*MICRO, AUDIOVISUAL, f"init_streams.audio={audio_path}", f"init_streams.video={video_path}"]
    )
    pruner = build_pruner(config, ["u1"], [3.0])
    model = build_module(config, pruner, CharTokenizer.train(["bin blue"])).model
    assert same(model.encoder, audio.encoder)
    assert same(model.video.encoder, video.encoder)


def test_one_stream_alone_may_be_named(saved):
    video_path, video = saved("video")
    model, untouched = model_of(AUDIOVISUAL), model_of(AUDIOVISUAL)
    load_initial_weights(model, None, {"audio": None, "video": video_path})
    assert same(model.video.encoder, video.encoder)
    assert same(model.encoder, untouched.encoder)


@pytest.mark.parametrize(
    ("other", "named"), [("num_blocks=3", "encoder.encoders.2"), ("linear_units=32", "size mismatch")]
)
def test_a_model_does_not_load_initial_weights_the_weights_of_another_one(saved, other, named):
    path, _ = saved("audio")
    model = model_of(f"model.encoder.{other}")
    with pytest.raises(ValueError, match=r"^init_from: .* is of another model .* tokens\) of that run\.$") as caught:
        load_initial_weights(model, path, NONE)
    assert named in str(caught.value)


@pytest.mark.parametrize(("stream", "run"), [("audio", "video"), ("video", "audio")])
def test_a_stream_of_the_other_modality_is_refused(saved, stream, run):
    path, _ = saved(run)
    with pytest.raises(ValueError, match=rf"^init_streams\.{stream}: the (frontend|encoder) of .* is of another model"):
        load_initial_weights(model_of(AUDIOVISUAL), None, NONE | {stream: path})


@pytest.mark.parametrize("key", ["init_from", "init_streams.audio", "init_streams.video"])
def test_a_missing_file_is_refused(key, tmp_path):
    path = str(tmp_path / "model.safetensors")
    whole, streams = (path, NONE) if key == "init_from" else (None, NONE | {key.split(".")[1]: path})
    with pytest.raises(ValueError, match=rf"{key}: no file .*\. Name the model\.safetensors of a finished run"):
        load_initial_weights(model_of(AUDIOVISUAL), whole, streams)


def test_streams_are_of_audio_visual_models_and_not_beside_a_whole_one(saved):
    path, _ = saved("video")
    with pytest.raises(
        ValueError, match=r"init_streams\.video: got a model of one stream, allowed is modality=audiovis"
    ):
        load_initial_weights(model_of("modality=video"), None, NONE | {"video": path})
    whole, _ = saved("audiovisual")
    with pytest.raises(ValueError, match=r"init_streams\.video: got init_from too, .* Choose one of them"):
        load_initial_weights(model_of(AUDIOVISUAL), whole, NONE | {"video": path})
