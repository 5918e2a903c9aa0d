"""Sparse masks on the weights of any `nn.Module`: learned early in training, then switched to dense or kept sparse.

    masks = SparseMasks.attach(model, LearnedMask(until=0.25, target_density=0.5, exit="dense"))
    optimizer = AdamW(masks.param_groups(lr=1e-3, weight_decay=0.01))
    for step, batch in enumerate(batches, start=1):
        loss = task_loss(model, batch) + masks.penalty()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        masks.step(step / num_steps, optimizer)

`DenseMask()` in place of `LearnedMask(...)` runs the same lines and trains the plain model, bit for bit.

How it is built, in the order of reading:

    weights.py         which weights of a model get a mask
    soft_mask.py       theta * sigmoid(l * phi) behind the model's own names
    moments.py         what the optimiser remembers of a weight
    phases.py          the times of a training: Phase, DensePhase (no masks), SparsePhase (fixed masks)
    learned.py         LearnedMask (MSRS), and the phase in which it learns
    sparse_masks.py    SparseMasks: the phase that is on, the exit from it, state, counts

A new method is a small value with `begin(model) -> Phase` (`phases.MaskMethod`): one with fixed masks begins with a
`SparsePhase`, one that moves its masks begins with a subclass of it, one that learns them with a phase of its own.

Masks of single weights are *simulated* sparsity: zeros are multiplied like any other number, and nothing gets faster.
"""

from asrsparse.masks.learned import LearnedMask
from asrsparse.masks.phases import DenseMask, MaskMethod
from asrsparse.masks.sparse_masks import SparseMasks

__all__ = ["DenseMask", "LearnedMask", "MaskMethod", "SparseMasks"]
