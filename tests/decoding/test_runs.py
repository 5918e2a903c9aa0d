import shutil
from pathlib import Path

import pytest
import torch
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.decoders import JointBeamSearch
from asrsparse.decoding.runs import open_run
from asrsparse.files import write_json, write_text
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import save_weights


@pytest.fixture
def root(tiny_corpus, tmp_path):
    """A folder in which a run was trained, on data beside it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mini").symlink_to(tiny_corpus)
    config = compose_config([*MICRO, "trainer.accelerator=cpu"])
    write_text(tmp_path / config.run_dir / "config.yaml", OmegaConf.to_yaml(config))
    torch.manual_seed(0)
    model = build_model(config, load_tokenizer(tiny_corpus / "cuts").vocab_size)
    save_weights(tmp_path / config.run_dir / "model.safetensors", model.state_dict())
    write_json(tmp_path / config.run_dir / "train.json", {"seed": 0})
    return tmp_path


RUN = Path("exp", "mini", "full-dense")


def change_config(root, **values):
    config = OmegaConf.load(root / RUN / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    write_text(root / RUN / "config.yaml", OmegaConf.to_yaml(config))


def test_a_run_opens_from_its_own_folder_and_from_others(root, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(root)
    here = open_run(RUN)
    assert (here.folder, here.sampling_rate, here.train) == (RUN, 16000, {"seed": 0})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    there = open_run(root / RUN, ("decode=joint", "decode.nbest=3"))
    assert isinstance(there.decoder, JointBeamSearch)
    assert there.decoder.ctc_weight == there.config.model.ctc_weight
    assert not there.model.training
    assert all(torch.equal(there.model.state_dict()[key], value) for key, value in here.model.state_dict().items())


def test_a_run_that_was_moved_away_from_its_data_asks_for_them(root, tmp_path_factory, monkeypatch):
    away = tmp_path_factory.mktemp("away")
    monkeypatch.chdir(away)
    shutil.copytree(root / RUN, away / "run")
    with pytest.raises(ValueError, match=r"No tokenizer in data/mini/cuts, .* of run has it\. .*: data_dir=DIR"):
        open_run(Path("run"))
    assert open_run(Path("run"), data_dir=root / "data" / "mini").tokenizer.vocab_size


def test_a_configuration_of_an_older_version_gets_the_groups_of_today(root, monkeypatch):
    monkeypatch.chdir(root)
    config = OmegaConf.load(RUN / "config.yaml")
    for group in ("segments", "noise", "modality"):
        del config[group]
    config.decode = {"split": "test", "method": "ctc_greedy"}
    write_text(root / RUN / "config.yaml", OmegaConf.to_yaml(config))
    assert open_run(RUN).config.decode.method == "ctc_greedy"


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "train.json"])
def test_a_run_that_is_not_finished_is_refused(root, name):
    (root / RUN / name).unlink()
    with pytest.raises(ValueError, match=f"full-dense is no finished run: {name} is missing. .*run it again"):
        open_run(root / RUN)


def test_the_tokens_of_another_corpus_are_refused(root, tmp_path):
    write_text(tmp_path / "cuts" / "tokens.txt", "<blank>\n<unk>\na\n<sos/eos>\n")
    with pytest.raises(ValueError, match=r"model.safetensors is of another model"):
        open_run(root / RUN, data_dir=tmp_path)


def test_a_configuration_calls_nothing_but_models_unless_it_is_trusted(root, monkeypatch):
    monkeypatch.chdir(root)
    frontend = OmegaConf.load(RUN / "config.yaml").model.frontend
    change_config(root, model__frontend={"_target_": "os.mkdir", "path": str(root / "made")})
    with pytest.raises(
        ValueError, match=r"model.frontend._target_ is 'os.mkdir'; allowed are modules of torch .*trust=true"
    ):
        open_run(RUN)
    change_config(
        root,
        model__frontend=frontend,
        model__specaug="${planted}",
        planted={"_target_": "os.mkdir", "path": str(root / "made")},
    )
    with pytest.raises(ValueError, match=r"model.specaug._target_ is 'os.mkdir'"):
        open_run(RUN)
    assert not (root / "made").exists()


def test_bad_settings_are_named(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=r"Unknown decode: got 'jiont', allowed are ctc_greedy, joint\. Did you mean"):
        open_run(RUN, ("decode=jiont",))
    with pytest.raises(ValueError, match=r"decode.nbest: got 2"):
        open_run(RUN, ("decode.nbest=2",))
