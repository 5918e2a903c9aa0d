"""Dynamic data pruning in a LightningModule by one callback; Lightning's checkpoints hold the state of the pruner."""

import lightning as L
import torch

from asrsparse.integrations.lightning import PruningCallback
from asrsparse.pruning import DynamicPruner, EasyToHard, KeptSampler, PruningPlan

inputs, targets = torch.randn(1000, 20), torch.randint(0, 2, (1000,)).float()
dataset = torch.utils.data.TensorDataset(torch.arange(1000), inputs, targets)
plan = PruningPlan(num_epochs=5, warmup_epochs=1, final_epochs=0)
pruner = DynamicPruner([str(i) for i in range(1000)], [1.0] * 1000, EasyToHard(0.7), plan)


class Recognizer(L.LightningModule):
    def configure_model(self):
        self.layer = torch.nn.Linear(20, 1)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(dataset, batch_size=50, sampler=KeptSampler(pruner))

    def training_step(self, batch, batch_idx):
        losses = torch.nn.BCEWithLogitsLoss(reduction="none")(self.layer(batch[1]).squeeze(1), batch[2])
        return self.pruner.observe([str(int(number)) for number in batch[0]], losses)


L.Trainer(max_epochs=5, reload_dataloaders_every_n_epochs=1, callbacks=[PruningCallback(pruner)]).fit(Recognizer())
