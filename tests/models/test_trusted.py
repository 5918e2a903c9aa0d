import sys

import pytest
from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.models.builders import model_node
from asrsparse.models.trusted import ESPNET_LAYERS, check_layers, check_segments, is_layer

HOSTILE = {
    "an attribute of a module": "asrsparse.models.asr.torch.hub.load",
    "torch.load": "torch.load",
    "torch.hub.load": "torch.hub.load",
    "a builtin": "builtins.eval",
    "a program": "os.system",
    "a re-export of ours": "asrsparse.models.frontends.DefaultFrontend",
    "a re-exported layer of torch": "asrsparse.models.frontends.torch.nn.Linear",
    "a class of ours elsewhere": "asrsparse.models.streams.Fusion",
    "a function of ours": "asrsparse.models.builders.load_model",
    "a class that is no module": "asrsparse.models.asr.Losses",
    "a protocol": "asrsparse.models.frontends.Frontend",
    "no such class": "asrsparse.models.asr.NoSuchClass",
    "no such module": "asrsparse.models.nowhere.ASRModel",
    "a method": "asrsparse.models.asr.ASRModel.encode",
    "another package of ours": "asrsparse.training.callbacks.StopOnSignal",
    "an encoder of ESPnet that downloads and unpickles": "espnet2.asr.encoder.hubert_encoder.FairseqHubertEncoder",
    "a module": "asrsparse.models.asr",
    "a name that only begins well": "asrsparse.models_of_mine.Evil",
    "an interpolation": "asrsparse.models.asr.${name}",
    "spaces": " asrsparse.models.asr.ASRModel",
    "a line break": "asrsparse.models.asr.ASRModel\n",
    "no text": None,
    "a list": ["os", "system"],
}


@pytest.mark.parametrize("target", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_layer_of_ours_or_espnets_is_refused(target):
    assert not is_layer(target)
    with pytest.raises(
        ValueError, match=r"^FILE: model.encoder.blocks\[1\]._target_ is .*; allowed are modules .*REMEDY$"
    ):
        check_layers("FILE", {"encoder": {"blocks": [1, {"_target_": target}]}}, "REMEDY")


@pytest.mark.parametrize("target", ["this.s", "antigravity.fly", "asrsparse.models.asr.this.S", "asrsparse.cli.Main"])
def test_no_name_is_imported_to_find_out_what_it_is(target, monkeypatch):
    for name in ("this", "antigravity"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    assert not is_layer(target)
    assert set(sys.modules) == before


@pytest.mark.parametrize("target", sorted(ESPNET_LAYERS))
def test_the_layers_of_espnet_are_modules_where_their_names_say(target):
    from hydra.utils import get_class

    found = get_class(target)
    assert f"{found.__module__}.{found.__qualname__}" == target


@pytest.mark.parametrize("model", ["tiny", "small", "base", "large"])
@pytest.mark.parametrize("modality", ["audio", "video", "audiovisual"])
def test_the_models_of_the_recipes_are_trusted(model, modality):
    node = model_node(compose_config([f"model={model}", f"modality={modality}"]), vocab_size=30)
    check_layers("FILE", node, "REMEDY")
    assert "_target_" in node


@pytest.mark.parametrize(
    "target", ["os.system", "asrsparse.pruning.select", "asrsparse.pruning.segment.torch.load", None]
)
def test_segment_pruning_is_made_of_exported_classes(target):
    with pytest.raises(
        ValueError, match=r"^FILE: segments.pruner.policy._target_ is .*; allowed are classes that asrspars"
    ):
        check_segments("FILE", {"pruner": {"policy": {"_target_": target}}})


@pytest.mark.parametrize("choice", ["none", "energy", "blank", "random"])
def test_segments_of_the_recipes_are_trusted(choice):
    node = OmegaConf.to_container(compose_config([f"segments={choice}"]).segments, resolve=True)
    check_segments("FILE", node)
    assert node["pruner"]["_target_"].startswith("asrsparse.pruning.")
