"""Runs of older versions: their configuration names classes and options as they were called then."""

from pathlib import Path

import pytest
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.cli import main
from asrsparse.config import compose_config
from asrsparse.files import read_json, write_text
from asrsparse.old_names import KEYS, TARGETS
from asrsparse.training.run_dir import differences

CHANGED_DEFAULTS = {"lrs3_structured": ["masks.method.compact_at_exit=false"]}
"""What the command of an old run must say now, since the choice of masks that it names has another default."""

OLD_RUNS = sorted((Path(__file__).parents[1] / "old_runs").glob("*.yaml"))


@pytest.mark.parametrize("saved", OLD_RUNS, ids=lambda path: path.stem)
def test_the_command_of_an_old_run_is_that_of_the_same_run_today(saved, tmp_path):
    text = saved.read_text(encoding="utf-8")
    overrides = text.splitlines()[0].partition("asrsparse train ")[2].split()
    write_text(tmp_path / "config.yaml", text)
    assert any(old in text for old in TARGETS)
    overrides += CHANGED_DEFAULTS.get(saved.stem, [])
    assert differences(tmp_path, compose_config(overrides)) == []
    assert differences(tmp_path, compose_config([*overrides, "optim.lr=0.5"])) != []


def with_old_names(text: str) -> str:
    for old, new in TARGETS.items():
        text = text.replace(f"_target_: {new}\n", f"_target_: {old}\n")
    config = OmegaConf.create(text)
    for old, new in KEYS.items():
        parent, _, key = new.rpartition(".")
        node = OmegaConf.select(config, parent)
        if node is not None and key in node:
            OmegaConf.update(config, old, node.pop(key))
    return OmegaConf.to_yaml(config)


def test_an_old_run_resumes_decodes_and_is_exported(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*MICRO, f"data_dir={tiny_corpus}", "masks=rigl", "trainer.num_epochs=2", "trainer.accelerator=cpu"]
    run_dir = Path("exp", "mini", "full-dense")
    main(["train", *words])
    weights = (run_dir / "model.safetensors").read_bytes()
    config = run_dir / "config.yaml"
    config.write_text(with_old_names(config.read_text()))
    assert all(
        name in config.read_text() for name in ("asrsparse.checkpoints.LastEpochs", "asrsparse.decode.GreedyCTC")
    )

    (run_dir / "model.safetensors").unlink()
    (run_dir / "train.json").unlink()
    main(["train", *words])  # from the last checkpoint
    assert (run_dir / "model.safetensors").read_bytes() == weights
    assert read_json(run_dir / "train.json")["epochs"] == 2
    main(["decode", *words])
    main(["score", *words])
    main(["report", str(run_dir)])
    main(["report", "masks", str(run_dir)])
    assert read_json(run_dir / "decode_test_ctc_greedy" / "score.json")["words"] > 0
    main(["export", "huggingface", str(run_dir), "exported"])
    assert (tmp_path / "exported" / "model.safetensors").is_file()
