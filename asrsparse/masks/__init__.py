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

    surgery.py           steps by which layers get smaller
    layers.py            the layer types that can be masked, compacted and counted: one adapter for each
    weights.py           which weights of a model get a mask, and how they are cut into units
    left_dense.py        which stay dense, and why
    structured.py        hidden units, attention heads and channels of a recogniser
    granularity.py       what is a unit: SingleWeights, Blocks, Structured
    allocation.py        how a density is distributed over weights: Global, Uniform, ErdosRenyi, ByPattern, NM
    saliency.py          the scores of units: RandomSaliency, MagnitudeSaliency, GradientSaliency, ...
    sharding.py          several ranks, one set of masks; weights in parts on several ranks (FSDP2)
    sensitivities.py     how sensitive the loss is to units, over many steps
    moments.py           the moments that an optimiser keeps of a weight
    optimizers.py        several optimisers as one
    sparse_adamw.py      AdamW that keeps moments of live weights only
    fixed_zeros.py       weights held at zero
    regrowth.py          weights that are trained again after they were dropped
    phases.py            the phases of a training: Phase, DensePhase (no masks), SparsePhase (fixed masks)
    settings.py          the arguments that all methods have
    mask_changes.py      how much masks still change
    parametrized.py      theta * mask behind the model's own names
    parametrized_phase.py  the base of the phases of learned and following masks
    learned.py           LearnedMask (MSRS): theta * sigmoid(l * phi)
    straight_through.py  SRSTE and DecayingMask: masks chosen anew in each step, mostly N:M
    binary.py            BinaryMask: masks of zeros and ones, chosen by saliencies at certain times
    shrinking.py         ShrinkingMask: units that shrink before they are cut
    methods.py           BinaryMask with other defaults: RandomMask, SNIP, MagnitudeMask, GMP, SET, RigL, MEST, GraNet
    sparse_masks.py      SparseMasks: the phase that is on, the exit from it, state, counts
    resizing.py           units leave layers, and come back; the optimiser's moments follow
    compacted.py         compaction amid a training, and regrowth to the full size
    averaged_weights.py  an EMA of the weights through all phases
    compact.py           structured zeros -> smaller layers
    partial_updates.py   LargestGradients: steps that update some of the weights alone
    semi_structured.py   2:4 zeros -> torch's tensors for sparse tensor cores

With several processes, attach on each rank to the same weights, and wrap the model then: in `DistributedDataParallel`,
which is built anew when `masks.phase` changes, or by `fully_shard`, before the optimiser is built. Compile after
`attach`. A scaler scales the loss and `masks.penalty()` together; call `masks.step` after `scaler.step`, also if that
skipped a step. The docstring of `SparseMasks` has the details.

A new method is a class with `begin(model) -> Phase` (`phases.MaskMethod`), a new layer type an entry in
`layers.LAYER_TYPES`.

Masks of single weights are *simulated* sparsity: zeros are multiplied like any other number, and nothing gets faster.
"""

from asrsparse.masks.allocation import NM, ByPattern, ErdosRenyi, Global, Uniform
from asrsparse.masks.averaged_weights import AveragedWeights
from asrsparse.masks.binary import BinaryMask
from asrsparse.masks.compact import Compaction, compact, fit_to
from asrsparse.masks.granularity import Blocks, SingleWeights, Structured
from asrsparse.masks.learned import LearnedMask
from asrsparse.masks.methods import GMP, MEST, SET, SNIP, GraNet, MagnitudeMask, RandomMask, RigL
from asrsparse.masks.partial_updates import LargestGradients
from asrsparse.masks.phases import DenseMask, MaskMethod
from asrsparse.masks.saliency import MagnitudeSaliency, RandomSaliency, RelativeSaliency, TaylorSaliency
from asrsparse.masks.semi_structured import to_semi_structured
from asrsparse.masks.shrinking import ShrinkingMask
from asrsparse.masks.sparse_adamw import SparseAdamW
from asrsparse.masks.sparse_masks import SparseMasks
from asrsparse.masks.straight_through import SRSTE, DecayingMask
from asrsparse.masks.structured import AttentionHeads, ConvolutionChannels, FeedForwardUnits, SubsamplingChannels

__all__ = [
    "GMP",
    "MEST",
    "NM",
    "SET",
    "SNIP",
    "SRSTE",
    "AttentionHeads",
    "AveragedWeights",
    "BinaryMask",
    "Blocks",
    "ByPattern",
    "Compaction",
    "ConvolutionChannels",
    "DecayingMask",
    "DenseMask",
    "ErdosRenyi",
    "FeedForwardUnits",
    "Global",
    "GraNet",
    "LargestGradients",
    "LearnedMask",
    "MagnitudeMask",
    "MagnitudeSaliency",
    "MaskMethod",
    "RandomMask",
    "RandomSaliency",
    "RelativeSaliency",
    "RigL",
    "ShrinkingMask",
    "SingleWeights",
    "SparseAdamW",
    "SparseMasks",
    "Structured",
    "SubsamplingChannels",
    "TaylorSaliency",
    "Uniform",
    "compact",
    "fit_to",
    "to_semi_structured",
]
