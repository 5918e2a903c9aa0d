"""Training on several ranks: one set of masks, and weights that FSDP2 (`fully_shard`) has cut up between the ranks.

Masks are whole and the same on all ranks, while each rank holds a part of a weight, of its gradient and of its moments:
a `DTensor`. These functions lead from one to the other, and hand plain tensors back as they are.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

from typing import TYPE_CHECKING, cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Returns whether it is a `DTensor`, without importing that: it takes longer to load than all of this package."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Returns the part that this rank holds, in the same memory."""
    return cast("DTensor", tensor).to_local() if is_sharded(tensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """Returns the whole tensor. All ranks must call this, in the same order."""
    return cast("DTensor", tensor).full_tensor() if is_sharded(tensor) else tensor


def total(tensor: Tensor) -> Tensor:
    """Returns the sum of all elements over all ranks, 0-d; its gradient is sharded as the tensor is."""
    if not is_sharded(tensor):
        return tensor.sum()
    from torch.distributed.tensor import DTensor, Partial, Replicate

    parts = cast("DTensor", tensor)
    placements = [Partial() if placement.is_shard() else Replicate() for placement in parts.placements]
    part = (parts.to_local() * 1.0).sum()  # without the product, autograd would copy one number's view, unsharded
    return DTensor.from_local(part, parts.device_mesh, placements, run_check=False).full_tensor()


def shard_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """Shards a tensor that all ranks have like a parameter; this costs no communication.

    Args:
        whole: A tensor whose shape broadcasts to the parameter's; it is the same on all ranks.
        parameter: The parameter, sharded or not.
    """
    if not is_sharded(parameter):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    like = cast("DTensor", parameter)
    same = whole.to(like.device).expand(like.shape).contiguous()
    everywhere = [Replicate()] * like.device_mesh.ndim
    replicated = DTensor.from_local(same, like.device_mesh, everywhere, run_check=False)
    return replicated.redistribute(placements=like.placements)


def part_of(whole: Tensor, parameter: Tensor) -> Tensor:
    """Returns the part of a tensor that all ranks have that belongs to this rank's part of a parameter."""
    return local(shard_like(whole, parameter))


def join_like(part: Tensor, parameter: Tensor) -> Tensor:
    """Returns the whole tensor of which each rank has a part, sharded like a parameter; all ranks must call this."""
    if not is_sharded(parameter):
        return part
    from torch.distributed.tensor import DTensor

    like = cast("DTensor", parameter)
    parts = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return parts.full_tensor()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sums a tensor over all ranks in place, and returns it; with one process it stays as it is."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def require_same_on_all_ranks(fingerprint: str) -> None:
    """Compares the masks of all ranks.

    Args:
        fingerprint: The hash of this rank's masks.

    Raises:
        RuntimeError: If another rank has other masks.
    """
    if not is_distributed():
        return
    fingerprints: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(fingerprints, fingerprint)
    if len(set(fingerprints)) > 1:
        shown = ", ".join(f"rank {rank}: {print_[:8]}" for rank, print_ in enumerate(fingerprints))
        raise RuntimeError(
            f"The masks differ between ranks ({shown}), and from here their weights would, too. All ranks must attach "
            "the same method with the same seed to the same weights, and call masks.step after the same updates, with "
            "gradients that are averaged over ranks (DistributedDataParallel does so)."
        )


def is_distributed() -> bool:
    """Returns whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def leave_to_ranks(model: nn.Module, mask_buffers: list[str]) -> None:
    """Tells DDP not to send the buffers of masks (their temperature), which all ranks set alike.

    An exit removes them, and DDP fails in the step after it if it knew them and the model has no other buffers.

    Args:
        model: The model that will be wrapped.
        mask_buffers: Names of the buffers in it.
    """
    if mask_buffers:
        known = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
        ignored = [*known, *mask_buffers]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ignored)  # type: ignore[no-untyped-call]
