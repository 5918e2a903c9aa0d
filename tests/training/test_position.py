from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import DynamicPruner, EasyToHard, KeepAll, PruningPlan, Random
from asrsparse.training.position import Position

batches = st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=20)
epochs_of_batches = st.lists(batches, min_size=1, max_size=6)


def train(position, epochs, planned_share=1.0):
    """Progress after each batch of some epochs; planned are `planned_share` of what the later epochs will keep."""
    progress = []
    for number, epoch in enumerate(epochs):
        planned = planned_share * sum(map(sum, epochs[number + 1 :]))
        for seconds in epoch:
            position.advance(seconds)
            progress.append(position.progress(sum(epoch), planned))
        position.next_epoch()
    return progress


@given(epochs_of_batches)
def test_progress_grows_from_above_zero_to_exactly_one(epochs):
    progress = train(Position(), epochs)
    assert all(early <= late + 1e-12 for early, late in pairwise(progress))
    assert progress[0] > 0
    assert max(progress) <= 1
    assert progress[-1] == 1.0


@given(epochs_of_batches, st.floats(0.5, 2.0))
def test_progress_ends_at_one_when_epochs_keep_other_amounts_than_planned(epochs, planned_share):
    progress = train(Position(), epochs, planned_share)
    assert all(0 < value <= 1 for value in progress)
    assert progress[-1] == 1.0


@given(batches, st.floats(0.0, 0.99))
def test_progress_is_exactly_one_at_the_end_when_more_was_trained_than_kept(epoch, share):
    position = Position()
    for seconds in epoch:
        position.advance(seconds)
    assert position.progress(share * position.epoch_seconds, planned_seconds=0.0) == 1.0


@pytest.mark.parametrize("policy", [KeepAll(), Random(0.7), EasyToHard(0.5)])
@pytest.mark.parametrize("final_epochs", [0, 1])
def test_progress_ends_at_exactly_one_with_a_pruner_whose_durations_are_rounded(policy, final_epochs):
    rng = np.random.default_rng(0)
    durations = {str(number): round(seconds, 4) for number, seconds in enumerate(rng.uniform(0.5, 15.0, 300))}
    plan = PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=final_epochs)
    pruner = DynamicPruner(list(durations), list(durations.values()), policy, plan)
    position, progress = Position(), [0.0]
    for epoch in range(4):
        kept = pruner.start_epoch(epoch)
        for batch in np.array_split(rng.permutation([i for i in durations if i in kept]), 20):
            pruner.observe(list(batch), torch.rand(len(batch)))
            position.advance(sum(durations[i] for i in batch))
            progress.append(position.progress(kept.seconds, pruner.planned_seconds(epoch)))
        position.next_epoch()
    assert progress[-1] == 1.0
    assert progress[-2] < 1.0
    assert all(0.0 < late <= 1.0 and late > early - 0.02 for early, late in pairwise(progress))


def test_progress_is_zero_before_the_first_batch():
    assert Position().progress(kept_seconds=10.0, planned_seconds=90.0) == 0.0


@given(epochs_of_batches)
def test_hours_are_the_sum_of_all_batches(epochs):
    position = Position()
    train(position, epochs)
    assert position.hours_heard * 3600 == pytest.approx(sum(map(sum, epochs)))
    assert (position.epoch, position.batches, position.epoch_seconds) == (len(epochs), 0, 0.0)


def test_pruned_segments_do_not_count_as_hours_and_do_not_slow_the_schedules_down():
    position = Position()
    position.advance(10.0, kept_share=0.5)
    assert position.hours_heard * 3600 == 5.0
    assert position.progress(kept_seconds=20.0, planned_seconds=20.0) == 0.25


@given(epochs_of_batches, st.lists(st.floats(0.1, 10.0), max_size=3), st.integers(0, 1000))
def test_a_restored_position_continues_the_same(epochs, rest, steps):
    position = Position(steps=steps)
    train(position, epochs)
    for seconds in rest:
        position.advance(seconds)
    restored = Position()
    restored.load_state_dict(position.state_dict())
    assert restored == position
    restored.advance(1.0)
    assert restored.batches == position.batches + 1


def test_a_state_is_plain_numbers():
    position = Position()
    position.advance(2.5)
    assert position.state_dict() == {
        "epoch": 0,
        "batches": 1,
        "steps": 0,
        "epoch_seconds": 2.5,
        "earlier_seconds": 0.0,
        "heard_seconds": 2.5,
        "train_seconds": 0.0,
        "planned_epochs": None,
    }
