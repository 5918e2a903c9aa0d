"""Structured masks: a transformer layer learns which hidden units it can do without, and gets smaller."""

import torch

from asrsparse.masks import FeedForwardUnits, LearnedMask, SparseMasks, Structured, Uniform, compact

torch.manual_seed(0)
model = torch.nn.TransformerEncoderLayer(d_model=32, nhead=4, dim_feedforward=256, dropout=0.0, batch_first=True)
kinds = [FeedForwardUnits("linear1", "linear2")]  # the default are ESPnet's modules
method = LearnedMask(
    until=0.5,
    target_density=0.25,
    exit="sparse",
    granularity=Structured(kinds),
    allocation=Uniform(),
    stable_share=0.01,
)
masks = SparseMasks.attach(model, method)
optimizer = torch.optim.AdamW(masks.param_groups(lr=1e-3))
for step in range(1, 201):
    inputs = torch.randn(8, 10, 32)
    loss = (model(inputs) - inputs.flip(2)).square().mean() + masks.penalty()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    masks.step(step / 200, optimizer)

before = model.eval()(inputs)
print(compact(model, kinds))
print(f"outputs differ by at most {(model(inputs) - before).abs().max():.1e}")
