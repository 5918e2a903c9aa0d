"""A small model and its training, for the tests of masks."""

import torch
from torch import nn

from asrsparse.masks import SparseMasks

NUM_STEPS = 100


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(8, 16, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 8))


def task_loss(model, step):
    inputs = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step))
    return (model(inputs) - inputs.mean(2)).square().mean()


def attach(model, method, **settings):
    masks = SparseMasks.attach(model, method)
    return masks, torch.optim.AdamW(masks.param_groups(lr=0.01, weight_decay=0.1), **settings)


def train(model, masks, optimizer, first=1, last=NUM_STEPS, accumulate=1):
    """Yields after each step."""
    for step in range(first, last + 1):
        optimizer.zero_grad()
        for part in range(accumulate):
            (task_loss(model, step * accumulate + part) + masks.penalty()).backward()
        optimizer.step()
        masks.step(step / NUM_STEPS, optimizer)
        yield step


def trained(method, last=NUM_STEPS, **settings):
    model = build()
    masks, optimizer = attach(model, method, **settings)
    for _ in train(model, masks, optimizer, last=last):
        pass
    return model, masks, optimizer
