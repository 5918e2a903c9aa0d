"""Dynamic data pruning in a plain PyTorch loop: five lines (marked) around a map-style data set."""

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from asrsparse.pruning import DynamicPruner, EasyToHard, PruningPlan

torch.manual_seed(0)
inputs = torch.randn(1000, 20)
targets = (inputs @ torch.randn(20)).sign().clamp(min=0) * (torch.rand(1000) > 0.05)
dataset = TensorDataset(torch.arange(1000), inputs, targets)
durations = [1.0] * len(dataset)  # of the utterances, in seconds; the keep ratio is a share of their sum
names = [f"utterance-{number}" for number in range(len(dataset))]

model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
plan = PruningPlan(num_epochs=10, warmup_epochs=1, final_epochs=1)
pruner = DynamicPruner(names, durations, EasyToHard(keep_ratio=0.7), plan)  # 1
for epoch in range(10):
    kept = pruner.start_epoch(epoch)  # 2: the same on every rank, frozen for the epoch
    for numbers, x, y in DataLoader(Subset(dataset, kept.positions.tolist()), batch_size=50, shuffle=True):  # 3
        losses = torch.nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y, reduction="none")
        loss = pruner.observe([names[number] for number in numbers], losses)  # 4: scores by id; returns the mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pruner.end_epoch()
    print(f"epoch {epoch}: kept {kept.share:.0%}, mean score {pruner.table.scores.mean():.3f}")
torch.save({"model": model.state_dict(), "pruner": pruner.state_dict()}, "checkpoint.pt")  # 5: resumes exactly
