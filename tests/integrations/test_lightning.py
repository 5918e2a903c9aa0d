import lightning as L
import pytest
import torch

from asrsparse.integrations.lightning import PruningCallback
from asrsparse.pruning import DynamicPruner, EasyToHard, KeptSampler, PruningPlan

IDS = [str(number) for number in range(60)]


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)
        self.data = torch.utils.data.TensorDataset(torch.arange(60), torch.randn(60, 4), torch.randn(60))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.data, batch_size=8, sampler=KeptSampler(self.pruner))

    def training_step(self, batch, batch_idx):
        numbers, x, y = batch
        return self.pruner.observe([str(int(n)) for n in numbers], (self.layer(x).squeeze(1) - y).square())


def fit(folder, max_epochs, resume_from=None, final_epochs=0, **options):
    plan = PruningPlan(num_epochs=6, warmup_epochs=1, final_epochs=final_epochs, num_strata=1)
    pruner = DynamicPruner(IDS, [1.0] * 60, EasyToHard(0.5), plan)
    module = Module()
    settings = {"reload_dataloaders_every_n_epochs": 1} | options
    trainer = L.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PruningCallback(pruner)],
        **settings,
    )
    trainer.fit(module, ckpt_path=resume_from, weights_only=True)
    return trainer, module, pruner


def test_epochs_are_pruned_and_losses_become_scores(tmp_path):
    trainer, _, pruner = fit(tmp_path, 3)
    assert trainer.global_step == 8 + 4 + 4  # 60 utterances, then 30, in batches of 8
    assert (pruner.table.last_seen >= 0).all()
    assert (pruner.table.last_seen == 2).sum() == 30
    assert trainer.callback_metrics["kept_share"] == 0.5


def test_a_run_resumed_from_lightnings_checkpoint_ends_like_one_that_was_not_stopped(tmp_path):
    _, whole, expected = fit(tmp_path / "whole", 6)
    trainer, _, _ = fit(tmp_path / "stopped", 3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed, pruner = fit(tmp_path / "resumed", 6, resume_from=tmp_path / "half.ckpt")
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    assert (pruner.table.scores == expected.table.scores).all()
    assert (pruner.kept.kept == expected.kept.kept).all()
    assert pruner.epoch == expected.epoch == 5


def test_each_epoch_is_as_long_as_its_kept_set_also_where_it_grows(tmp_path):
    trainer, _, pruner = fit(tmp_path, 6, final_epochs=1)
    assert trainer.global_step == 8 + 4 * 4 + 8
    assert pruner.audit.is_clean
    assert (pruner.table.last_seen == 5).all()


def test_a_trainer_that_keeps_its_loader_is_refused(tmp_path):
    with pytest.raises(ValueError, match="reload_dataloaders_every_n_epochs: got 0, allowed is 1"):
        fit(tmp_path, 1, reload_dataloaders_every_n_epochs=0)
