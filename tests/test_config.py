import re
import shutil
from pathlib import Path

import pytest
from hydra.utils import get_object
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.config import CONF_DIR, build, compose_config, flatten, with_constructor_defaults
from asrsparse.masks import SparseMasks
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import build_model
from asrsparse.training.train import build_pruner

GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("[!_]*.yaml"))
    for folder in CONF_DIR.iterdir()
    if folder.is_dir()
}
CHOICES = [f"{group}={choice}" for group, choices in GROUPS.items() for choice in choices]
RECIPES_AND_SYSTEMS = [(recipe, system) for recipe in GROUPS["recipe"] for system in GROUPS["system"]]


def refuse(*folder_and_name):
    raise ValueError("what the target said")


def give(**arguments):
    return arguments


def give_path(source_dir, path):
    return source_dir, path


def unreadable():
    raise FileNotFoundError("no such file: words.txt")


def picky(max_age, warmup, what):
    raise ValueError(what)


def broken():
    raise KeyError("a bug of ours")


@pytest.mark.integration
@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_with_nothing_missing_and_targets_that_exist(choice):
    config = compose_config([choice, "+vocab_size=30"])  # else known when the tokenizer is
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    targets = {value for key, value in flatten(config).items() if key.endswith("_target_")}
    assert len(targets) > 5
    assert all(callable(get_object(target)) for target in targets)


@pytest.mark.integration
@pytest.mark.parametrize(("recipe", "system"), RECIPES_AND_SYSTEMS)
def test_a_recipe_and_a_system_choose_the_other_groups_and_build(recipe, system):
    config = compose_config([f"recipe={recipe}", f"system={system}", *MICRO])
    assert config.run_dir == f"exp/{recipe}/{system}{config.modality.suffix}"
    assert config.data_dir == f"data/{recipe}"
    assert config.corpus.name == recipe
    pruner = build_pruner(config, ["a", "b"], [1.0, 2.0])
    assert pruner.plan.num_epochs == config.trainer.num_epochs
    assert (pruner.policy.keep_ratio < 1) == system.startswith("easy2hard")
    assert (config.masks.name == "learned") == ("masks" in system)
    for part in (config.masks.method, config.optim.optimizer, config.optim.lr_schedule, config.trainer.average):
        assert build(part) is not None
    assert build(config.decode.decoder) is not None
    assert isinstance(build_model(config, vocab_size=9), ASRModel)


@pytest.mark.parametrize("model", GROUPS["model"])
@pytest.mark.parametrize("modality", GROUPS["modality"])
def test_every_model_has_every_modality_and_no_key_of_another(modality, model):
    config = compose_config([f"modality={modality}", f"model={model}", "recipe=grid"])
    sees, hears = modality != "audio", modality != "video"
    assert ("num_mel_bins" in config.model.frontend) == hears
    assert (config.model.encoder.input_layer == "conv2d") == hears
    assert ("video" in config.model) == (sees and hears)
    if sees:
        stream = config.model.video if hears else config.model
        assert stream.frontend._target_.endswith("SmallVisualFrontend" if model == "tiny" else "Conv3dResNet18")
        assert stream.encoder.input_size == stream.frontend.output_size
        assert stream.encoder.output_size == config.model.encoder.output_size
        assert stream.encoder.keys() == config.model.encoder.keys()


@pytest.mark.slow
@pytest.mark.parametrize("modality", GROUPS["modality"])
@pytest.mark.parametrize("masks", GROUPS["masks"])
def test_masks_leave_the_layers_next_to_input_and_output_alone_in_every_modality(modality, masks):
    model = build_model(config := compose_config([f"modality={modality}", f"masks={masks}", *MICRO]), vocab_size=16)
    masked = SparseMasks.attach(model, build(config.masks.method)).weight_masks()
    assert (masks == "dense") == (not masked)
    if masks != "dense" and not masks.startswith("structured"):
        outer = re.compile(r".*frontend\.stem\.|(video\.)?encoder\.embed\.|ctc\.|decoder\.output_layer\.")
        assert not any(outer.match(name) for name in masked)
        assert ("frontend.trunk.0.0.conv1.weight" in masked) == (modality == "video")
        assert ("video.encoder.encoders.0.feed_forward.w_2.weight" in masked) == (modality == "audiovisual")


def test_a_system_of_another_modality_has_another_name():
    names = [compose_config(["system=easy2hard", *more]).name for more in ([], ["modality=video"], ["name=mine"])]
    assert names == ["easy2hard", "easy2hard-video", "mine"]
    assert compose_config(["modality=audiovisual"]).run_dir == "exp/mini/full-dense-audiovisual"


@pytest.mark.parametrize("pruning", GROUPS["pruning"])
def test_every_pruning_builds_its_policy(pruning):
    config = compose_config([f"pruning={pruning}"])
    pruner = build_pruner(config, ["a"], [1.0])
    assert pruner.policy.keep_ratio == config.pruning.keep_ratio


def test_a_keep_ratio_that_pruning_none_ignores_is_warned_of(caplog):
    build_pruner(compose_config(["pruning=none"]), ["a"], [1.0])
    assert not caplog.records
    build_pruner(compose_config(["pruning=none", "pruning.keep_ratio=0.5"]), ["a"], [1.0])
    assert "pruning.keep_ratio: got 0.5, which pruning=none ignores: it keeps all speech." in caplog.text


def test_a_group_chosen_beside_a_recipe_wins_over_the_recipes_own():
    config = compose_config(["recipe=grid", "model=small", "system=easy2hard", "pruning=random"])
    assert config.model.encoder.output_size == 256
    assert config.pruning.policy._target_ == "asrsparse.pruning.Random"


def test_an_unknown_choice_is_answered_with_the_allowed_and_the_nearest():
    known = "grid, kaldi, librispeech, librispeech_100, lrs2, lrs3, mini"
    with pytest.raises(ValueError, match=rf"Unknown recipe: got 'gird', allowed are {known}\. Did you mean 'grid'\?"):
        compose_config(["recipe=gird"])
    with pytest.raises(ValueError, match=r"Unknown pruning: got 'zzz', allowed are coverage, .*window\.$"):
        compose_config(["pruning=zzz"])


def test_a_group_before_an_unknown_key_is_not_blamed():
    for group in ("recipe=grid", "stream/audio=waveform"):
        with pytest.raises(ValueError, match=r"Unknown option: got 'pruning\.keep_rate'"):
            compose_config([group, "pruning.keep_rate=0.5"])


def test_an_unknown_key_is_answered_with_the_nearest_of_any_choice():
    with pytest.raises(ValueError, match=r"got 'trainer.num_epoch'\. Did you mean 'trainer.num_epochs'\?"):
        compose_config(["trainer.num_epoch=3"])
    with pytest.raises(ValueError, match=r"got 'prunning'\. Did you mean 'pruning'\?"):
        compose_config(["prunning=easy"])
    with pytest.raises(
        ValueError, match=r"got 'masks.method.target_densty'\. Did you mean 'masks.method.target_density'\?"
    ):
        compose_config(["masks=learned", "masks.method.target_densty=0.5"])


def test_a_key_of_the_other_modality_is_known_by_its_place():
    with pytest.raises(ValueError, match=r"got 'model.video.fusion.p_adio'\. Did you mean '.*\.fusion\.p_audio'"):
        compose_config(["modality=audiovisual", "model.video.fusion.p_adio=0.1"])
    with pytest.raises(
        ValueError, match=r"got 'model.frontend.num_melbins'\. Did you mean 'model.frontend.num_mel_bins'"
    ):
        compose_config(["model.frontend.num_melbins=40"])
    with pytest.raises(ValueError, match=r"Unknown modality: got 'vidio', allowed are audio, audiovisual, video"):
        compose_config(["modality=vidio"])


def test_a_word_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"Got 'easy2hard', allowed are overrides as key=value"):
        compose_config(["easy2hard"])


def test_a_value_that_hydra_cannot_read_is_quoted():
    with pytest.raises(ValueError, match=r"cannot be composed from 'optim.lr=\['"):
        compose_config(["optim.lr=["])


def test_a_plus_adds_a_key_that_nobody_knows():
    assert compose_config(["+note=new"]).note == "new"


def test_build_gives_the_errors_of_the_target_itself():
    with pytest.raises(ValueError, match=r"^what the target said$") as caught:
        build(OmegaConf.create({"_target_": f"{__name__}.refuse"}))
    assert caught.value.__suppress_context__
    with pytest.raises(FileNotFoundError, match="no such file"):
        build(OmegaConf.create({"_target_": f"{__name__}.unreadable"}))


def test_build_keeps_a_bug_visible():
    with pytest.raises(Exception, match="a bug of ours") as caught:
        build(OmegaConf.create({"_target_": f"{__name__}.broken"}))
    assert not isinstance(caught.value, (ValueError, OSError))


def test_build_makes_paths_of_folders_only():
    node = OmegaConf.create({"_target_": f"{__name__}.give_path", "source_dir": "data/mini", "path": "data/mini"})
    assert build(node) == (Path("data/mini"), "data/mini")
    assert build(node, path=3) == (Path("data/mini"), 3)


def test_build_gives_plain_lists_and_dicts():
    made = build(OmegaConf.create({"_target_": f"{__name__}.give", "width": [0, 20], "more": {"a": 1}}))
    assert type(made["width"]) is list
    assert type(made["more"]) is dict


@pytest.mark.parametrize("recipe", ["grid", "mini"])
def test_a_recipe_trains_each_modality_as_long_as_it_needs_unless_told_otherwise(recipe):
    epochs = {}
    for modality in ("audio", "video", "audiovisual"):
        config = compose_config([f"recipe={recipe}", f"modality={modality}"])
        epochs[modality] = config.trainer.num_epochs
        assert config.pruning.plan.num_epochs == epochs[modality]
    assert epochs["audio"] < epochs["video"]
    config = compose_config([f"recipe={recipe}", "modality=video", "trainer.num_epochs=7"])
    assert config.trainer.num_epochs == config.pruning.plan.num_epochs == 7


# ------------------------------------------------------------------------------------------- defaults of constructors


def test_the_defaults_of_the_subjects_constructors_are_in_the_configuration():
    config = compose_config(["pruning=ucb", "masks=rigl"])
    assert config.pruning.policy.exploration == 0.3
    assert config.masks.method.seed == 0
    assert with_constructor_defaults(config) == config


def test_a_key_that_stands_in_no_file_is_overridden_like_any_other(monkeypatch, tmp_path):
    shutil.copytree(CONF_DIR, tmp_path / "conf")
    (tmp_path / "conf" / "pruning" / "bare.yaml").write_text(
        "defaults: [_plan]\nkeep_ratio: 0.7\npolicy: {_target_: asrsparse.pruning.UpperConfidence}\n"
    )
    chosen = ["pruning=bare", "pruning.policy.exploration=0.5", "seed=3"]
    config = compose_config(chosen, tmp_path / "conf")
    assert (config.pruning.policy.exploration, config.pruning.policy.keep_ratio, config.seed) == (0.5, 0.7, 3)
    with pytest.raises(
        ValueError, match=r"Unknown option: got 'pruning.policy.explor'. Did you mean 'pruning.policy.ex"
    ):
        compose_config(["pruning=bare", "pruning.policy.explor=0.5"], tmp_path / "conf")


@pytest.mark.parametrize(
    "target", ["os.getcwd", "asrsparse.masks.no_such_name", "asrsparse.pruning.select", "asrsparse.models.asr.ASRModel"]
)
def test_only_classes_that_the_subjects_export_are_asked_for_defaults(target):
    config = OmegaConf.create({"part": [{"_target_": target}], "number": "${part}"})
    assert with_constructor_defaults(config) == config


def test_an_argument_in_a_message_becomes_the_key_that_sets_it():
    root = OmegaConf.create(
        {
            "ratio": 2.0,
            "pruning": {
                "plan": {"_target_": "test_config.picky", "max_age": 0, "warmup": "${ratio}", "what": "max_age: got 0"}
            },
        }
    )
    messages = {
        "max_age: got 0, allowed": "pruning.plan.max_age: got 0, allowed",
        "warmup: got 2": "ratio: got 2",
        "warmup and max_age: got": "ratio and max_age: got",
        "nothing: got": "nothing: got",
        "A sentence: nothing else.": "A sentence: nothing else.",
    }
    for said, shown in messages.items():
        root.pruning.plan.what = said
        with pytest.raises(ValueError, match=f"^{re.escape(shown)}$"):
            build(root.pruning.plan)
        with pytest.raises(ValueError, match=f"^{re.escape(shown)}$"):
            build(root.pruning)
    root.pruning.plan.what = "max_age: got 1"
    with pytest.raises(ValueError, match=r"^max_age: got 1$"):  # it came from code
        build(root.pruning.plan, max_age=1)
