"""Trains a small model under each method of masks on two ranks, and writes what each rank found.

    python sharding_program.py <rank> <folder>

One process on whole batches is the reference (`train` with `alone`). All is in float64, so that sums of another order
choose the same masks.
"""

import copy
import functools
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from asrsparse.masks import (
    NM,
    SNIP,
    SRSTE,
    Blocks,
    DecayingMask,
    GraNet,
    LearnedMask,
    RandomMask,
    RigL,
    SparseMasks,
    Structured,
    Uniform,
)
from asrsparse.masks.structured import FeedForwardUnits

NUM_RANKS = 2
NUM_STEPS = 20
PHASE = {"until": 0.6, "regrowth_warmup": 5}
UNITS = Structured([FeedForwardUnits("linear1", "linear2")])


def methods(exit):
    """By name, every family of methods, each with a granularity or allocation of its own."""
    phase = {**PHASE, "exit": exit}
    return {
        "learned": LearnedMask(**phase, stable_share=0.0),
        "learned 2:4": LearnedMask(**phase, allocation=NM(2, 4), exclude=["5.*"]),
        "learned units": LearnedMask(**phase, granularity=UNITS),
        "penalty": LearnedMask(**phase, target_density=None, penalty_weight=1.0, logit=0.05, logit_lr=0.03),
        "random": RandomMask(**phase),
        "snip": SNIP(**phase, density=0.3),
        "rigl": RigL(**phase, every=0.1, density=0.3),
        "rigl units": RigL(**phase, every=0.1, granularity=UNITS),
        "granet": GraNet(**phase, every=0.1, density=0.3, granularity=Blocks(1, 4)),
        "srste": SRSTE(**phase, weight_decay=0.01),
        "decaying": DecayingMask(**phase, allocation=Uniform()),
    }


CASES = [
    *((name, "sparse") for name in methods("sparse")),
    *((name, "dense") for name in ("learned", "random", "rigl", "srste")),
]
RESUMED = [
    (name, exit, stop)
    for name, exit in (("learned", "dense"), ("rigl", "sparse"), ("srste", "dense"))
    for stop in (8, 15)
]
LATE = LearnedMask(**PHASE, start=0.3)


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(64, 32), nn.Linear(32, 64)

    def forward(self, inputs):
        return inputs + self.linear2(torch.nn.functional.silu(self.linear1(inputs)))


def build():
    torch.manual_seed(0)
    layers = [
        nn.Conv1d(8, 16, 3, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        FeedForward(),
        nn.LayerNorm(64),
        nn.Linear(64, 7),
    ]
    return nn.Sequential(*layers)


def alone(model, masks):
    return model


def with_ddp(model, masks):
    return DistributedDataParallel(model)


def with_ddp_of_unused(model, masks):
    return DistributedDataParallel(model, find_unused_parameters=True)


def with_fsdp(model, masks):
    """A block, a layer that is one, and the root."""
    for module in (model[3], model[5], model):
        fully_shard(module, mesh=the_mesh())
    return model


@functools.cache
def the_mesh():
    return init_device_mesh("cpu", (NUM_RANKS,))


def inputs_of(step):
    whole = torch.randn(16, 8, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return whole.chunk(NUM_RANKS)[dist.get_rank()] if dist.is_initialized() else whole


def start(method, wrap, states=None):
    """Model, masks and optimiser, from the beginning or from `states`."""
    model = build()
    masks = SparseMasks.attach(model, method)
    model.double()  # logits too, since FSDP2 wants one precision
    if states is not None:
        masks.load_state_dict(states["masks"])
        model.load_state_dict(states["model"])
    wrapped = wrap(model, masks)
    optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01, weight_decay=0.1))
    if states is not None:
        optimizer.load_state_dict(states["optimizer"])
    return wrapped, masks, optimizer


def train(method, wrap, rewrap=None, stop=None, accumulate=1):
    """What is known of the masks after each step, and the weights in the end; `stop` is where a run is resumed."""
    model, masks, optimizer = start(method, wrap)
    fingerprints, densities = [], []
    for step in range(1, NUM_STEPS + 1):
        phase = masks.phase
        for inputs in inputs_of(step).chunk(accumulate):
            loss = (model(inputs) - inputs.mean(2)[:, :7]).square().mean() + masks.penalty()
            (loss / accumulate).backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        masks.step(step / NUM_STEPS, optimizer)
        fingerprints.append(masks.fingerprint())
        densities.append(masks.density)
        if rewrap is not None and masks.phase != phase:
            model = rewrap(model.module, masks)
        if step == stop:
            model, masks, optimizer = start(method, wrap, copy.deepcopy(states_of(model, masks, optimizer)))
    found = {"fingerprints": fingerprints, "densities": densities, "weights": masks.merged_state_dict()}
    return found | {"phase": masks.phase, "masks": masks.state_dict(), "weight_masks": masks.weight_masks()}


def states_of(model, masks, optimizer):
    full = {name: value.full_tensor() for name, value in model.state_dict().items()}
    return {"model": full, "masks": masks.state_dict(), "optimizer": optimizer.state_dict()}


def saved_names(method):
    """What torch's checkpoints of sharded models call the weights."""
    model, _, _ = start(method, with_fsdp)
    return list(get_model_state_dict(model))


def error_of(function, *words):
    try:
        function(*words)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def errors(rank):
    late = {**PHASE, "start": 0.3}
    seeds = RandomMask(seed=rank)
    return {
        "seeds": error_of(train, seeds, with_ddp),
        "sharded seeds": error_of(train, seeds, with_fsdp),
        "late learned": error_of(start, LearnedMask(**late), with_fsdp),
        "late srste": error_of(start, SRSTE(**late), with_fsdp),
        "attached late": error_of(SparseMasks.attach, with_fsdp(build(), None), LearnedMask()),
    }


def main(rank, folder):
    store = dist.FileStore(str(folder / "store"), NUM_RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_RANKS, timeout=timedelta(seconds=60))
    found = {}
    for name, exit in CASES:
        found["ddp", name, exit] = train(methods(exit)[name], with_ddp, rewrap=with_ddp)
        found["fsdp", name, exit] = train(methods(exit)[name], with_fsdp)
    for name, exit, stop in RESUMED:
        found["resumed", name, exit, stop] = train(methods(exit)[name], with_fsdp, stop=stop)
    found["late"] = train(LATE, with_ddp, rewrap=with_ddp)
    found["unused"] = train(methods("dense")["learned"], with_ddp_of_unused)
    for wrap in (with_ddp, with_fsdp):
        found["accumulated", wrap.__name__] = train(methods("sparse")["rigl"], wrap, accumulate=2)
    found["saved"] = {name: saved_names(methods("dense")[name]) for name in ("learned", "rigl", "srste")}
    found["errors"] = errors(rank)
    torch.save(found, folder / f"rank_{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
