import numpy as np
import pytest
import torch

from asrsparse.pruning import DynamicPruner, KeptSampler, PruningPlan, Random

IDS = [str(number) for number in range(101)]


def make_pruner(keep_ratio=0.5):
    return DynamicPruner(IDS, [1.0] * len(IDS), Random(keep_ratio), PruningPlan(num_epochs=9, num_strata=1))


def drawn(epoch, num_ranks, keep_ratio=0.5):
    samplers = [KeptSampler(make_pruner(keep_ratio), rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers, [list(sampler) for sampler in samplers]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_each_kept_utterance_is_drawn_once_by_one_rank_and_ranks_draw_equally_many(num_ranks):
    samplers, rows = drawn(epoch=4, num_ranks=num_ranks)
    kept = set(samplers[0].pruner.kept.positions.tolist())
    together = [row for of_rank in rows for row in of_rank]
    assert len(together) == len(set(together)) == len(kept) // num_ranks * num_ranks
    assert set(together) <= kept
    assert [len(r) for r in rows] == [len(sampler) for sampler in samplers] == [len(kept) // num_ranks] * num_ranks


def test_the_order_depends_on_the_epoch_and_not_on_global_generators():
    np.random.seed(1)
    torch.manual_seed(1)
    (_, first), (_, same), (_, other) = drawn(4, 1), drawn(4, 1), drawn(5, 1)
    assert first == same
    assert first != other
    assert first[0] != sorted(first[0])


def test_a_loader_and_worker_processes_draw_the_same():
    sampler = KeptSampler(make_pruner())
    sampler.set_epoch(0)
    loader = torch.utils.data.DataLoader(torch.arange(len(IDS)), batch_size=7, sampler=sampler, num_workers=2)
    assert torch.cat(list(loader)).tolist() == list(sampler)


def test_fewer_utterances_than_ranks_are_refused():
    sampler = KeptSampler(make_pruner(keep_ratio=0.02), num_ranks=3)
    sampler.set_epoch(0)
    with pytest.raises(ValueError, match=r"Epoch 0 keeps 2 utterances for 3 ranks; each needs one at least\."):
        len(sampler)


def test_length_and_order_are_those_of_the_pruners_epoch_and_begin_none():
    pruner = make_pruner()
    sampler = KeptSampler(pruner)
    with pytest.raises(RuntimeError, match=r"kept: no epoch has begun.*Call start_epoch\(epoch\)"):
        len(sampler)
    pruner.start_epoch(5)
    (_, drawn_by_set_epoch) = drawn(5, 1)
    assert [list(sampler)] == drawn_by_set_epoch
    assert len(sampler) == len(pruner.kept)
    assert pruner.epoch == 5


def test_a_rank_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"rank: got 2, allowed is \[0, 1\] with num_ranks=2"):
        KeptSampler(make_pruner(), rank=2, num_ranks=2)
