from types import SimpleNamespace

import lightning as L
import pytest
from micro import MICRO, make_batch
from torch.utils.data import DataLoader

from asrsparse.config import compose_config
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.training.lightning_module import ASRLightningModule
from asrsparse.training.position import Position
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


@pytest.mark.parametrize("end", [(True, False), (False, True), (True, True)])
def test_an_epoch_of_the_pruners_ends_once_with_its_last_batch_or_a_budget_before_the_position_moves(end):
    position, ended = Position(), []
    module = SimpleNamespace(
        pruner=SimpleNamespace(end_epoch=lambda: ended.append(("pruner", position.epoch))),
        model=SimpleNamespace(segments=SimpleNamespace(end_epoch=lambda: ended.append(("segments", position.epoch)))),
        position=position,
    )
    for is_last_batch, should_stop in ((False, False), end):
        module.trainer = SimpleNamespace(is_last_batch=is_last_batch, should_stop=should_stop)
        assert ended == []
        ASRLightningModule.on_train_batch_end(module, None, make_batch([5]), 0)
    ASRLightningModule.on_train_epoch_end(module)
    assert ended == [("pruner", 0), ("segments", 0)]
    assert position.epoch == 1


def test_logits_with_a_multiple_of_the_learning_rate_are_on_its_schedule_and_others_are_not():
    groups = [{"name": "matrices", "lr": 1.0}, {"name": "mask_logits", "lr": 0.003}]
    groups.append({"name": "mask_logits", "lr": 5.0, "lr_scale": 5.0})
    module = SimpleNamespace(
        model=SimpleNamespace(segments=SimpleNamespace(start_epoch=lambda epoch: None)),
        position=Position(),
        lr_schedule=lambda progress: 0.5,
        progress=0.1,
        _lr=0.002,
        _optimizer=SimpleNamespace(param_groups=groups),
    )
    ASRLightningModule.on_train_batch_start(module, None, 0)
    assert [group["lr"] for group in groups] == [0.001, 0.003, 0.005]
