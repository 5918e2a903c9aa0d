"""Dynamic data pruning in Hugging Face's Trainer: `compute_loss` gives the loss of each utterance to the pruner."""

import torch
from transformers import TrainingArguments

from asrsparse.integrations.huggingface import PruningTrainer
from asrsparse.pruning import DynamicPruner, EasyToHard, PruningPlan

inputs, targets = torch.randn(1000, 20), torch.randint(0, 2, (1000,)).float()
data = [{"row": row, "x": x, "y": y} for row, (x, y) in enumerate(zip(inputs, targets, strict=True))]
plan = PruningPlan(num_epochs=5, warmup_epochs=1, final_epochs=0)
pruner = DynamicPruner([str(i) for i in range(1000)], [1.0] * 1000, EasyToHard(0.7), plan)


class Recognizer(PruningTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        losses = torch.nn.BCEWithLogitsLoss(reduction="none")(model(inputs["x"]).squeeze(1), inputs["y"])
        return self.pruner.observe([str(int(row)) for row in inputs["row"]], losses)


options = TrainingArguments(
    num_train_epochs=5, per_device_train_batch_size=50, learning_rate=1e-2, use_cpu=True, report_to="none"
)
trainer = Recognizer(model=torch.nn.Linear(20, 1), args=options, train_dataset=data, pruner=pruner)
trainer.train()
print(f"{trainer.state.global_step} steps, final lr {trainer.lr_scheduler.get_last_lr()[0]:g}; {pruner.audit}")
