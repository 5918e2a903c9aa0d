"""A training with structured masks, from the configuration to hypotheses: the finished model is smaller."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.decode import decode
from asrsparse.files import read_json
from asrsparse.models.builders import build_model, load_model
from asrsparse.models.weight_files import load_weights
from asrsparse.training.callbacks import ResumeCheckpoint
from asrsparse.training.train import train

PROGRAM = Path(__file__).with_name("compaction_program.py")


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


REGROWN = ["masks=structured", "masks.method.exit=dense", "masks.method.until=0.3", "masks.method.regrow_at=0.7"]


def test_resumed_at_every_step_a_run_ends_the_same(tiny_corpus, exp_dir, monkeypatch):
    """Full size, small, full again: the checkpoints of all steps lead to the same weights, bit for bit."""
    words = ["trainer.save_every_steps=1", "trainer.average.num=1", "trainer.batch_seconds=25"]
    config = config_of(tiny_corpus, exp_dir, "regrown", *REGROWN, *words)
    run_dir, saved = exp_dir / "regrown", {}
    save = ResumeCheckpoint.save

    def save_and_copy(checkpoint, trainer):
        save(checkpoint, trainer)
        saved[trainer.global_step] = (checkpoint.path.read_bytes(), trainer.lightning_module.masks.phase)

    monkeypatch.setattr(ResumeCheckpoint, "save", save_and_copy)
    record = train(config, "test")
    monkeypatch.undo()
    whole = load_weights(run_dir / "model.safetensors")
    assert {phase for _, phase in saved.values()} == {"learning", "compacted", "regrown"}
    assert record["parameters_compacted"] == record["parameters"]
    for content, phase in saved.values():
        for file in ("train.json", "model.safetensors"):
            (run_dir / file).unlink()
        (run_dir / "last.ckpt").write_bytes(content)
        train(config, "test")
        resumed = load_weights(run_dir / "model.safetensors")
        assert all(torch.equal(resumed[name], value) for name, value in whole.items()), phase


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_ranks", "words", "phase"),
    [(2, ["masks=structured"], "compacted"), (3, ["masks=structured"], "compacted"), (2, REGROWN, "regrown")],
)
def test_all_ranks_have_the_same_small_model(tiny_corpus, exp_dir, num_ranks, words, phase):
    """Batches are accumulated, too; the program compares the weights of all ranks."""
    more = ["trainer.accelerator=cpu", "trainer.num_epochs=3", "trainer.batch_seconds=8", "trainer.accumulate=2"]
    paths = [f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", f"name=ranks-{phase}-{num_ranks}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    done = subprocess.run(
        [*launcher, str(PROGRAM), *MICRO, *paths, *more, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[:2] == [phase, str(num_ranks)]
