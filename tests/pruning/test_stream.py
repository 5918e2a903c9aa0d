import numpy as np
import pytest
import torch

from asrsparse.pruning import DynamicPruner, EasyToHard, InfoBatch, PruningPlan, Random, StreamPruner

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
    pruner = StreamPruner(EasyToHard(0.5), PLAN, max_not_finite=0.5)
    pruner.start_epoch(0)
    pruner.observe(["a", "b"], torch.tensor([float("nan"), 1.0]), [1.0, 1.0])
    pruner.end_epoch()
    assert pruner.num_not_finite == 1
    assert pruner.table.scores.tolist() == [0.0, 1.0]
    assert pruner.table.last_seen.tolist() == [-1, 0]


def test_many_losses_that_are_not_finite_stop_the_run():
    pruner = StreamPruner(EasyToHard(0.5), PLAN)
    pruner.start_epoch(0)
    losses = losses_of(range(120), 0)
    losses[5:12] = float("nan")
    pruner.observe(IDS, losses, DURATIONS.tolist())
    with pytest.raises(
        ValueError, match=r"^7 of 120 losses in epoch 0 are NaN or infinite, first that of utterance 'u005'"
    ):
        pruner.end_epoch()


def test_a_choice_stands_for_a_cycle_and_what_is_new_in_it_is_kept():
    plan = PruningPlan(num_epochs=7, warmup_epochs=1, final_epochs=0, num_strata=3, cycle_epochs=3)
    pruner = StreamPruner(EasyToHard(0.5), plan)
    sets = stream(pruner, until=7)
    assert sets[1] == sets[2] == sets[3] != sets[4] == sets[5] == sets[6]
    pruner = StreamPruner(InfoBatch(0.7), plan)
    stream(pruner, until=2)
    pruner.observe(["new"], torch.tensor([1.0]), [1.0])
    kept = pruner.start_epoch(2)
    assert "new" in kept
    assert pruner.observe(["new"], torch.tensor([5.0]), [1.0]).item() == 5.0
    assert kept.share == pytest.approx(0.7, abs=0.03)


def test_a_stream_that_is_not_known_yet_is_chosen_from_as_soon_as_it_is():
    plan = PruningPlan(num_epochs=4, final_epochs=0, num_strata=1, cycle_epochs=4)
    sizes = [len(rows) for rows in stream(StreamPruner(Random(0.5), plan), until=4)]
    assert sizes[0] == 120 > sizes[1] == sizes[2] == sizes[3]


def test_an_id_that_is_no_string_is_refused_when_it_is_observed():
    pruner = StreamPruner(EasyToHard(0.5), PLAN)
    pruner.start_epoch(0)
    with pytest.raises(ValueError, match=r"^ids: got 3 of type int, allowed are strings"):
        pruner.observe([3], torch.ones(1), [1.0])


@pytest.mark.parametrize(
    ("losses", "durations", "message"),
    [
        (torch.ones(2, 1), [1.0, 1.0], r"^losses: got the shape \(2, 1\) for 2 ids"),
        (torch.ones(1), [1.0, 1.0], r"^losses: got the shape \(1,\) for 2 ids"),
        (torch.ones(2), [1.0], "^durations: got 1 for 2 ids, allowed is one for each"),
        (torch.ones(2), [1.0, float("inf")], "^durations: got inf s of 'b', allowed are positive and finite"),
    ],
)
def test_each_batch_needs_one_loss_and_one_duration_for_each_id(losses, durations, message):
    pruner = StreamPruner(EasyToHard(0.5), PLAN)
    pruner.start_epoch(0)
    with pytest.raises(ValueError, match=message):
        pruner.observe(["a", "b"], losses, durations)


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
