import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.pruning import DynamicPruner, EasyToHard, InfoBatch, KeepAll, PruningPlan, Random

IDS = [f"u{i:03d}" for i in range(200)]
DURATIONS = np.random.default_rng(0).gamma(4.0, 1.0, len(IDS)) + 0.2


def train(pruner, num_epochs, first=0, seed=0):
    """Runs epochs with losses that depend on (utterance, epoch) alone; returns the kept sets."""
    sets = []
    for epoch in range(first, num_epochs):
        kept = pruner.start_epoch(epoch)
        sets.append(kept.kept.copy())
        for batch in np.array_split(kept.positions, 7):
            losses = torch.tensor([np.sin(seed + 13.0 * p + epoch) + 2 for p in batch])
            pruner.observe([IDS[p] for p in batch], losses)
    return sets


def test_null_policy_keeps_everything_and_returns_the_plain_mean():
    pruner = DynamicPruner(IDS, DURATIONS, KeepAll(), PruningPlan(num_epochs=3))
    assert all(kept.all() for kept in train(pruner, 3))
    losses = torch.rand(5, requires_grad=True)
    loss = pruner.observe(IDS[:5], losses)
    assert loss.item() == losses.mean().item()
    loss.backward()
    assert losses.grad.tolist() == [pytest.approx(0.2)] * 5


@given(st.integers(1, 20), st.floats(0.1, 1.0), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_pruned_epochs_keep_the_budget_in_hours(num_strata, keep_ratio, seed):
    plan = PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=0, num_strata=num_strata)
    pruner = DynamicPruner(IDS, DURATIONS, EasyToHard(keep_ratio), plan, seed=seed)
    train(pruner, 2, seed=seed)
    share = pruner.start_epoch(2).share
    assert share == pytest.approx(keep_ratio, abs=2 * DURATIONS.max() / DURATIONS.sum())


def test_warmup_and_final_epochs_see_all_data():
    plan = PruningPlan(num_epochs=6, warmup_epochs=2, final_epochs=1)
    pruner = DynamicPruner(IDS, DURATIONS, EasyToHard(0.5), plan)
    shares = [kept.mean() for kept in train(pruner, 6)]
    assert shares[0] == shares[1] == shares[5] == 1.0
    assert max(shares[2:5]) < 0.7


def test_random_prunes_from_the_first_epoch_since_it_needs_no_scores():
    pruner = DynamicPruner(IDS, DURATIONS, Random(0.5), PruningPlan(num_epochs=2, warmup_epochs=2, final_epochs=0))
    assert pruner.start_epoch(0).share < 0.7


def test_no_utterance_stays_away_longer_than_max_age():
    plan = PruningPlan(num_epochs=20, warmup_epochs=1, final_epochs=0, max_age=3, num_strata=1)
    pruner = DynamicPruner(IDS, DURATIONS, EasyToHard(0.5), plan)
    kept = np.stack(train(pruner, 20))
    windows = [kept[e : e + 4].any(axis=0).all() for e in range(17)]
    assert all(windows)


def test_the_set_is_a_pure_function_of_seed_and_epoch():
    sets = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(ord(name))  # the global generators have no say
        np.random.seed(ord(name))
        sets[name] = (
            DynamicPruner(IDS, DURATIONS, Random(0.5), PruningPlan(num_epochs=1, final_epochs=0), seed)
            .start_epoch(0)
            .kept
        )
    assert (sets["a"] == sets["b"]).all()
    assert (sets["a"] != sets["c"]).any()


def test_the_set_is_frozen_within_the_epoch():
    pruner = DynamicPruner(IDS, DURATIONS, EasyToHard(0.5), PruningPlan(num_epochs=3, final_epochs=0))
    train(pruner, 2)
    first = pruner.start_epoch(2)
    pruner.observe(IDS[:50], torch.full((50,), 100.0))
    assert pruner.start_epoch(2) is pruner.kept is first
    pruner.end_epoch()
    assert pruner.kept is first
    assert pruner.epoch == 2


def test_the_kept_set_is_refused_before_the_first_epoch_also_of_a_state_of_then():
    pruner = DynamicPruner(IDS, DURATIONS)
    with pytest.raises(RuntimeError, match=r"kept: no epoch has begun.*Call start_epoch\(epoch\).*on every rank"):
        _ = pruner.kept
    assert pruner.epoch == -1
    begun = DynamicPruner(IDS, DURATIONS)
    begun.start_epoch(0)
    begun.load_state_dict(pruner.state_dict())
    with pytest.raises(RuntimeError, match="no epoch has begun"):
        _ = begun.kept


def test_a_resumed_pruner_has_the_kept_set_of_the_saved_epoch_before_any_call():
    plan = PruningPlan(num_epochs=3, warmup_epochs=1, final_epochs=0)
    pruner, resumed = (DynamicPruner(IDS, DURATIONS, EasyToHard(0.5), plan) for _ in range(2))
    train(pruner, 2)
    resumed.load_state_dict(pruner.state_dict())
    assert (resumed.kept.kept == pruner.kept.kept).all()
    assert resumed.epoch == pruner.epoch == 1


@pytest.mark.parametrize("policy", [EasyToHard(0.6), InfoBatch(0.6)])
@pytest.mark.parametrize("stop_after", range(7))
def test_resumed_in_the_middle_of_an_epoch_all_later_sets_are_the_same(stop_after, policy, tmp_path):
    def make():
        return DynamicPruner(
            IDS,
            DURATIONS,
            policy,
            PruningPlan(num_epochs=6, warmup_epochs=1, final_epochs=0, num_strata=3, cycle_epochs=2),
        )

    def losses(p, epoch):
        return torch.tensor([np.cos(7.0 * x + epoch) + 2 for x in p])

    whole, resumed = make(), make()
    reference = []
    for epoch in range(6):
        kept = whole.start_epoch(epoch)
        reference.append(kept)
        for number, batch in enumerate(np.array_split(kept.positions, 7)):
            whole.observe([IDS[p] for p in batch], losses(batch, epoch))
            if epoch == 2 and number == stop_after:
                torch.save(whole.state_dict(), tmp_path / "state")
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for epoch in range(2, 6):
        kept = resumed.start_epoch(epoch)
        assert (kept.kept == reference[epoch].kept).all()
        assert np.array_equal(kept.weights, reference[epoch].weights)
        for number, batch in enumerate(np.array_split(kept.positions, 7)):
            if epoch > 2 or number > stop_after:
                resumed.observe([IDS[p] for p in batch], losses(batch, epoch))
    whole.end_epoch()
    resumed.end_epoch()
    assert (whole.table.scores == resumed.table.scores).all()


def test_another_seed_is_refused_on_resume():
    state = DynamicPruner(IDS, DURATIONS, seed=1).state_dict()
    with pytest.raises(ValueError, match="saved pruner has seed 1, this one 2"):
        DynamicPruner(IDS, DURATIONS, seed=2).load_state_dict(state)


def test_losses_that_are_not_finite_are_counted_and_do_not_become_scores():
    pruner = DynamicPruner(["a", "b"], [1.0, 1.0], max_not_finite=0.5)
    pruner.start_epoch(0)
    pruner.observe(["a", "b"], torch.tensor([float("inf"), 2.0]))
    pruner.end_epoch()
    assert pruner.table.last_seen.tolist() == [-1, 0]
    assert pruner.num_not_finite == 1


def test_many_losses_that_are_not_finite_stop_the_run():
    pruner = DynamicPruner(IDS, DURATIONS)
    pruner.start_epoch(0)
    losses = torch.ones(len(IDS))
    losses[7:27] = float("nan")
    pruner.observe(IDS, losses)
    with pytest.raises(ValueError, match=r"20 of 200 losses in epoch 0 are NaN or infinite, first .* number 7"):
        pruner.end_epoch()


@pytest.mark.parametrize(
    ("ids", "losses", "got"),
    [
        (["a", "b"], torch.ones(2, 1), r"\(2, 1\) for 2 ids"),
        (["a", "b"], torch.ones(3), r"\(3,\) for 2 ids"),
        (["a"], torch.tensor(1.0), r"\(\) for 1 ids"),
    ],
)
def test_each_batch_needs_one_loss_for_each_id(ids, losses, got):
    pruner = DynamicPruner(["a", "b", "c"], [1.0, 1.0, 1.0])
    pruner.start_epoch(0)
    with pytest.raises(ValueError, match=rf"^losses: got the shape {got}, allowed is \(B,\): one loss for each id"):
        pruner.observe(ids, losses)


def test_two_batches_that_are_off_by_one_do_not_cancel_out():
    pruner = DynamicPruner(["a", "b", "c"], [1.0, 1.0, 1.0])
    pruner.start_epoch(0)
    with pytest.raises(ValueError, match=r"^losses: got the shape \(1,\) for 2 ids"):
        pruner.observe(["a", "b"], torch.ones(1))
    pruner.observe(["c"], torch.ones(1))
    pruner.end_epoch()
    assert pruner.table.last_seen.tolist() == [-1, -1, 0]  # the batch that was refused left nothing behind


def test_a_choice_stands_for_a_cycle():
    plan = PruningPlan(num_epochs=12, warmup_epochs=1, final_epochs=2, cycle_epochs=3)
    sets = train(DynamicPruner(IDS, DURATIONS, EasyToHard(0.5), plan), 12)
    same = [bool((sets[e] == sets[e - 1]).all()) for e in range(1, 12)]
    assert same == [False, True, True, False, True, True, False, True, True, False, True]


def test_weights_multiply_the_losses_and_stay_with_their_utterances():
    pruner = DynamicPruner(
        IDS, DURATIONS, InfoBatch(0.6), PruningPlan(num_epochs=3, warmup_epochs=1, final_epochs=0, num_strata=1)
    )
    train(pruner, 1)
    kept = pruner.start_epoch(1)
    rows = kept.positions[::-1][:50].copy()
    losses = torch.rand(50, requires_grad=True)
    loss = pruner.observe([IDS[r] for r in rows], losses)
    expected = (losses.detach() * torch.from_numpy(kept.weights[rows])).mean()
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert losses.grad.numpy() == pytest.approx(kept.weights[rows] / 50)
    # What is drawn stands for as many seconds as there are, but for one utterance and its weight.
    assert kept.weights @ DURATIONS == pytest.approx(DURATIONS.sum(), abs=kept.weights.max() * DURATIONS.max())


def test_a_policy_that_keeps_nothing_is_refused():
    class Nothing:
        keep_ratio = 0.5
        needs_scores = False

        def select(self, among):
            return np.zeros(len(among), dtype=bool)

    with pytest.raises(ValueError, match=r"Nothing\(keep_ratio=0.5\) in epoch 0 keeps none of 200 utterances"):
        DynamicPruner(IDS, DURATIONS, Nothing(), PruningPlan(num_epochs=1, final_epochs=0)).start_epoch(0)


def test_a_keep_ratio_that_falls_is_planned_as_it_is_kept():
    policy = Random(keep_ratio=lambda progress: 1.0 - 0.5 * progress)
    plan = PruningPlan(num_epochs=5, final_epochs=0, num_strata=1)
    pruner = DynamicPruner(IDS, DURATIONS, policy, plan)
    shares = [pruner.start_epoch(epoch).share for epoch in range(5)]
    assert shares == pytest.approx([1.0, 0.875, 0.75, 0.625, 0.5], abs=0.02)
    assert pruner.planned_seconds(after_epoch=2) == pytest.approx((0.625 + 0.5) * DURATIONS.sum())


def test_planned_seconds_count_full_and_pruned_epochs():
    plan = PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=1)
    pruner = DynamicPruner(["a", "b"], [1.0, 3.0], EasyToHard(0.5), plan)
    assert pruner.planned_seconds(after_epoch=-1) == 4.0 + 2.0 + 2.0 + 4.0
    assert pruner.planned_seconds(after_epoch=2) == 4.0


def test_no_utterances_are_refused():
    with pytest.raises(ValueError, match=r"^ids: got none, allowed is at least one utterance to choose among"):
        DynamicPruner([], [])
