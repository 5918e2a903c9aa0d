"""Whole runs of recognisers that see, or hear and see: trained, stopped, resumed, decoded, scored, reported."""

import json
from pathlib import Path

import pytest
import torch
from micro import MICRO
from safetensors.torch import load_file

from asrsparse.cli import main
from asrsparse.config import compose_config
from asrsparse.files import read_json
from asrsparse.training.callbacks import ResumeCheckpoint
from asrsparse.training.train import train

SEEING = ["video", "audiovisual"]
PRUNED = ["segments=random", "segments.final_epochs=0", "pruning=easy2hard", "pruning.plan.warmup_epochs=1"]
MASKED = ["masks=learned", "masks.method.until=0.5"]


def overrides(corpus: Path, exp_dir: Path, *more: str) -> list[str]:
    words = [f"data_dir={corpus}", f"exp_dir={exp_dir}", "trainer.num_epochs=2", "trainer.accelerator=cpu"]
    return [*MICRO, *words, "pruning.plan.final_epochs=0", *more]


def run(stage: str, *words: str) -> None:
    main([stage, *words])


@pytest.mark.parametrize("modality", SEEING)
def test_from_cuts_to_the_table(modality, audiovisual_corpus, tmp_path):
    words = overrides(audiovisual_corpus, tmp_path / "exp", f"modality={modality}", *PRUNED)
    for stage in ("train", "decode", "score"):
        run(stage, *words)
    run("report", *words, "systems=[full-dense]")
    (row,) = json.loads((tmp_path / "exp" / "results.json").read_text())["rows"]
    assert row["name"] == f"full-dense-{modality}"
    assert row["utterances"] == len((audiovisual_corpus / "cuts" / "test_cuts.jsonl").read_text().splitlines())
    run_dir = tmp_path / "exp" / f"full-dense-{modality}"
    flops = read_json(run_dir / "masks" / "flops.json")
    assert any("frontend.trunk" in name for name in flops["layers"])
    run("report", "pruning", str(run_dir))
    assert "img" in (run_dir / "pruning.html").read_text()


@pytest.mark.slow
def test_a_run_joint_with_attention_and_with_structured_masks_is_decoded(audiovisual_corpus, tmp_path):
    words = overrides(audiovisual_corpus, tmp_path, "modality=audiovisual", "masks=structured", "decode=joint")
    for stage in ("train", "decode", "score"):
        run(stage, *words)
    record = read_json(tmp_path / "full-dense-audiovisual" / "train.json")
    assert record["parameters_compacted"] < record["parameters"]
    assert (tmp_path / "full-dense-audiovisual" / "decode_test_joint" / "score.json").is_file()


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("modality", SEEING)
def test_stopped_in_an_epoch_and_resumed_a_run_ends_the_same(modality, audiovisual_corpus, tmp_path, monkeypatch):
    """Crops, mirrors, masks of rows, dropped modalities and random chunks are drawn as if nothing had happened."""
    more = [f"modality={modality}", *PRUNED, *MASKED, "trainer.save_every_steps=1", "name=run"]
    train(compose_config(overrides(audiovisual_corpus, tmp_path / "whole", *more)), "test")
    whole = load_file(tmp_path / "whole" / "run" / "model.safetensors")
    num_steps = read_json(tmp_path / "whole" / "run" / "train.json")["steps"]
    saved = ResumeCheckpoint.save

    def save_and_stop(self, trainer):
        saved(self, trainer)
        if trainer.global_step == num_steps // 2 + 1:
            raise Killed

    words = overrides(audiovisual_corpus, tmp_path / "stopped", *more)
    monkeypatch.setattr(ResumeCheckpoint, "save", save_and_stop)
    with pytest.raises(Killed):
        train(compose_config(words), "test")
    monkeypatch.setattr(ResumeCheckpoint, "save", saved)
    torch.manual_seed(12345)
    train(compose_config(words), "test")
    resumed = load_file(tmp_path / "stopped" / "run" / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_a_corpus_without_video_is_refused_with_the_remedy(tiny_corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("train", *overrides(tiny_corpus, tmp_path, "modality=video"))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "has no video, but the model reads video. Prepare the corpus with video (corpus.video=true)" in message
