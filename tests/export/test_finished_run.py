import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from asrsparse.checkpoints import load_weights
from asrsparse.export.finished_run import read_run, require


def test_a_run_is_read_with_its_weights_and_its_tokens(run, run_dir, tiny_corpus):
    saved = load_weights(run_dir / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in run.model.state_dict().items())
    assert run.tokenizer.tokens == (tiny_corpus / "cuts" / "tokens.txt").read_text().splitlines()
    assert run.sampling_rate == 16000
    assert not run.model.training


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "train.json"])
def test_a_run_that_is_not_finished_is_refused(run_dir, tmp_path, name):
    for other in {"config.yaml", "model.safetensors", "train.json"} - {name}:
        shutil.copy(run_dir / other, tmp_path / other)
    with pytest.raises(ValueError, match=f"is no finished run: {name} is missing. .*run it again"):
        read_run(tmp_path)


def test_a_tokenizer_that_is_missing_is_asked_for(run_dir, tmp_path):
    with pytest.raises(ValueError, match=r"tokens.txt is missing.* name its folder: data_dir=DIR"):
        read_run(run_dir, tmp_path)


def test_a_prepared_corpus_may_have_moved(run_dir, tiny_corpus, tmp_path):
    (tmp_path / "cuts").mkdir()
    shutil.copy(tiny_corpus / "cuts" / "tokens.txt", tmp_path / "cuts" / "tokens.txt")
    assert read_run(run_dir, tmp_path).tokenizer.vocab_size == read_run(run_dir).tokenizer.vocab_size


def test_the_tokens_of_another_corpus_are_refused(run_dir, tmp_path):
    (tmp_path / "cuts").mkdir()
    Path(tmp_path / "cuts" / "tokens.txt").write_text("<blank>\n<unk>\na\n<sos/eos>\n")
    with pytest.raises(ValueError, match=r"model.safetensors is of another model"):
        read_run(run_dir, tmp_path)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    require("torch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx, onnxruntime: not installed.*pip install 'asrsparse\[export\]'"):
        require("onnx", "onnxruntime")
