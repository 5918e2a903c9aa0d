"""No training, on any number of ranks: pruner and table of blanks hear of uneven batches, rank 0 prints what they know.

Every rank checks that it knows the same. What is printed does not depend on the number of ranks.
"""

import hashlib
import os

import numpy as np
import torch
import torch.distributed as dist

from asrsparse.pruning import BlankTable, DynamicPruner, EasyToHard, PruningPlan, UpperConfidence

EPOCHS = 5
IDS = [f"u{number:03d}" for number in range(101)]
DURATIONS = np.random.default_rng(0).gamma(4.0, 0.5, len(IDS)) + 0.1


def share(rows: np.ndarray, rank: int, num_ranks: int) -> np.ndarray:
    """The rows of a rank; the first one has half of all, whatever the others have."""
    if num_ranks == 1:
        return rows
    half = len(rows) // 2
    return rows[:half] if rank == 0 else rows[half:][rank - 1 :: num_ranks - 1]


def train(policy, rank: int, num_ranks: int) -> list[str]:
    """Digests of what this rank knows after each epoch."""
    plan = PruningPlan(num_epochs=EPOCHS, warmup_epochs=1, final_epochs=0, num_strata=3)
    pruner = DynamicPruner(IDS, DURATIONS, policy, plan, seed=1)
    blanks = BlankTable(pruner.table, warmup_visits=1)
    known = []
    for epoch in range(EPOCHS):
        rows = pruner.start_epoch(epoch).positions
        mine = share(rows, rank, num_ranks)
        for batch in np.array_split(mine, 1 + 3 * rank):
            losses = torch.tensor([np.sin(13.0 * row + epoch) + 2 for row in batch], dtype=torch.bfloat16)
            ids = [IDS[row] for row in batch]
            pruner.observe(ids, losses)
            slots = torch.arange(20).expand(len(batch), -1)
            log_probs = torch.stack([torch.linspace(-2, -0.1, 20) / (1 + row) for row in batch])
            blanks.record(ids, slots, torch.full((len(batch),), 20), log_probs)
        pruner.end_epoch()
        blanks.end_epoch()
        assert pruner.audit.is_clean
        columns = (rows, pruner.table.scores, blanks.log_odds(IDS, 60).numpy())
        known.append(hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest())
    return known


def main() -> None:
    rank, num_ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks > 1:
        dist.init_process_group("gloo")
    for policy in (EasyToHard(0.6), UpperConfidence(0.5)):
        known = train(policy, rank, num_ranks)
        if num_ranks > 1:
            of_all = [None] * num_ranks
            dist.all_gather_object(of_all, known)
            assert all(other == known for other in of_all)
        if rank == 0:
            print("\n".join(known))
    if num_ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
