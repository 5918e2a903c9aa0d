"""Several processes, one set of masks."""

import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, in place; the tensor itself in a training of one process."""
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
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
