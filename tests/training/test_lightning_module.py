import lightning as L
import pytest
from micro import MICRO, make_batch
from torch.utils.data import DataLoader

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.training.train import build_module, build_pruner, open_train_cuts


def test_dev_wer_is_pooled_over_the_words_of_all_batches(tiny_corpus, monkeypatch):
    config = compose_config([*MICRO, f"data_dir={tiny_corpus}"])
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    cuts = open_train_cuts(config)
    module = build_module(config, build_pruner(config, cuts.ids.to_pylist(), cuts.durations), tokenizer)
    texts = iter([["bin blue", "place"], ["set white by"]])  # one wrong of 3 words, then one missing of 4
    validate = module.model.validate
    monkeypatch.setattr(
        module.model, "validate", lambda batch: (validate(batch)[0], [tokenizer.encode(t) for t in next(texts)])
    )
    batches = [make_batch([5, 2]), make_batch([7])]
    for batch, said in zip(batches, [["bin blue", "lay"], ["set white by now"]], strict=True):
        tokens = [tokenizer.encode(text) for text in said]
        batch.token_lens[:] = batch.token_lens.new_tensor([len(ids) for ids in tokens])
        longest = max(map(len, tokens))
        batch.tokens = batch.tokens.new_tensor([ids + [-1] * (longest - len(ids)) for ids in tokens])
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (logged,) = trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
    assert logged["dev_wer"] == pytest.approx(2 / 7)
    assert logged["dev_loss"] > 0
