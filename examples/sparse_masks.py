"""Sparse masks in a plain PyTorch loop: five lines (marked) around any module; other methods go in place of RigL."""

import torch

from asrsparse.masks import RigL, SparseMasks

torch.manual_seed(0)
teacher = torch.nn.Linear(64, 8)
teacher.weight.data *= torch.rand(8, 64) < 0.1

model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8))
masks = SparseMasks.attach(model, RigL(density=0.1, until=0.75, exit="sparse"))  # 1: any method, either exit
optimizer = torch.optim.AdamW(masks.param_groups(lr=1e-2, weight_decay=1e-2))  # 2: no decay for biases and norms
for step in range(1, 501):
    inputs = torch.randn(64, 64)
    loss = (model(inputs) - teacher(inputs)).square().mean() + masks.penalty()  # 3: zero unless a method has one
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    masks.step(step / 500, optimizer)  # 4: progress; masks appear, change and end by it
    if step % 100 == 0:
        print(f"step {step}: loss {loss:.4f}, density {masks.density:.1%}, changed {masks.changed_share:.2%}")
state = {"model": model.state_dict(), "masks": masks.state_dict(), "optimizer": optimizer.state_dict()}
torch.save(state, "checkpoint.pt")  # 5: resumes exactly; the model's keys are its own
