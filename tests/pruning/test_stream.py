import numpy as np
import pytest
import torch

from asrsparse.pruning import DynamicPruner, EasyToHard, InfoBatch, PruningPlan, StreamPruner

IDS = [f"u{number:03d}" for number in range(120)]
DURATIONS = (np.random.default_rng(0).gamma(4.0, 1.0, len(IDS)) + 0.2).astype(np.float32)
PLAN = PruningPlan(num_epochs=6, warmup_epochs=1, final_epochs=0, num_strata=3)


def losses_of(rows, epoch):
    return torch.tensor([np.sin(13.0 * row + epoch) + 2 for row in rows])


def stream(pruner, first=0, until=6):
    """Trains on a stream in batches of 7; returns what was kept in each epoch."""
    sets = []
    for epoch in range(first, until):
        kept = pruner.start_epoch(epoch)
        rows = [row for row in range(len(IDS)) if IDS[row] in kept]
        for begin in range(0, len(rows), 7):
            batch = rows[begin : begin + 7]
            pruner.observe(
                [IDS[row] for row in batch], losses_of(batch, epoch), [float(DURATIONS[row]) for row in batch]
            )
        sets.append(rows)
    return sets


@pytest.mark.parametrize("policy", [EasyToHard(0.6), InfoBatch(0.7)])
def test_a_stream_is_pruned_as_a_list_of_the_same_utterances(policy):
    pruner = DynamicPruner(IDS, DURATIONS, policy, PLAN, seed=3)
    expected = []
    for epoch in range(6):
        rows = pruner.start_epoch(epoch).positions.tolist()
        pruner.observe([IDS[row] for row in rows], losses_of(rows, epoch))
        expected.append(rows)
    assert stream(StreamPruner(policy, PLAN, seed=3)) == expected


def test_new_utterances_are_kept_while_the_known_ones_are_chosen_among():
    pruner = StreamPruner(EasyToHard(0.5), PLAN)
    stream(pruner, until=2)
    kept = pruner.start_epoch(2)
    assert "never heard of" in kept
    assert kept.share == pytest.approx(0.5, abs=0.05)
    pruner.observe(["never heard of"], torch.tensor([1.0]), [2.0])
    pruner.end_epoch()
    assert len(pruner.table) == len(IDS) + 1
    assert "never heard of" in kept  # what was given out stays as it was


def test_losses_of_known_utterances_are_weighted_and_those_of_new_ones_are_not():
    pruner = StreamPruner(InfoBatch(0.7), PLAN)
    stream(pruner, until=3)
    kept = pruner.start_epoch(3)
    heavy = int(np.argmax(kept.known.weights))
    weight = float(kept.known.weights[heavy])
    assert weight > 1.0
    loss = pruner.observe([IDS[heavy], "new"], torch.tensor([2.0, 4.0]), [1.0, 1.0])
    assert loss.item() == pytest.approx((weight * 2.0 + 4.0) / 2)


def test_losses_that_are_not_finite_become_no_scores():
    pruner = StreamPruner(EasyToHard(0.5), PLAN)
    pruner.start_epoch(0)
    pruner.observe(["a", "b"], torch.tensor([float("nan"), 1.0]), [1.0, 1.0])
    pruner.end_epoch()
    assert pruner.table.scores.tolist() == [0.0, 1.0]
    assert pruner.table.last_seen.tolist() == [-1, 0]


def test_a_stream_saved_in_mid_epoch_goes_on_as_if_it_had_not_been(tmp_path):
    whole = StreamPruner(EasyToHard(0.6), PLAN, seed=1)
    expected = stream(whole)
    saved = StreamPruner(EasyToHard(0.6), PLAN, seed=1)
    stream(saved, until=3)
    saved.start_epoch(3)
    torch.save(saved.state_dict(), tmp_path / "state")
    resumed = StreamPruner(EasyToHard(0.6), PLAN, seed=1)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert stream(resumed, first=3) == expected[3:]
    assert resumed.table.scores.tolist() == whole.table.scores.tolist()


def test_the_kept_set_is_that_of_the_epoch_that_began_last_also_after_a_resume(tmp_path):
    pruner = StreamPruner(EasyToHard(0.6), PLAN)
    with pytest.raises(RuntimeError, match=r"kept: no epoch has begun.*Call start_epoch\(epoch\)"):
        _ = pruner.kept
    stream(pruner, until=3)
    kept = pruner.start_epoch(3)
    assert pruner.kept is kept is pruner.start_epoch(3)
    assert pruner.epoch == 3
    torch.save(pruner.state_dict(), tmp_path / "state")
    resumed = StreamPruner(EasyToHard(0.6), PLAN)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert resumed.epoch == 3
    assert [i in resumed.kept for i in IDS] == [i in kept for i in IDS]


def test_a_state_of_before_the_first_epoch_has_no_kept_set():
    resumed = StreamPruner(EasyToHard(0.6), PLAN)
    resumed.start_epoch(0)
    resumed.load_state_dict(StreamPruner(EasyToHard(0.6), PLAN).state_dict())
    with pytest.raises(RuntimeError, match="no epoch has begun"):
        _ = resumed.kept


def test_a_state_of_another_seed_is_refused():
    state = StreamPruner(EasyToHard(0.5), PLAN, seed=1).state_dict()
    with pytest.raises(ValueError, match="saved pruner has seed 1, this one 2"):
        StreamPruner(EasyToHard(0.5), PLAN, seed=2).load_state_dict(state)
