import numpy as np
import pytest
import torch

from asrsparse.pruning import DynamicPruner, Easy, InfoBatch, PruningPlan, StreamPruner
from asrsparse.pruning.batch_means import BatchMeans

IDS = [f"u{number:03d}" for number in range(400)]
RNG = np.random.default_rng(0)
DURATIONS = RNG.uniform(1.0, 16.0, len(IDS))
HARDNESS = RNG.normal(0.0, 1.0, len(IDS))


def train_on_means(observe_batch, num_epochs=12, smoothing_steps=50):
    """Batches of 8 of like duration, whose losses grow with the duration and fall with the steps."""
    rng, step = np.random.default_rng(1), 0
    by_duration = np.array_split(np.argsort(DURATIONS), 5)
    for epoch in range(num_epochs):
        batches = [batch for rows in by_duration for batch in np.array_split(rng.permutation(rows), 10)]
        for number in rng.permutation(len(batches)):
            rows = batches[number]
            losses = HARDNESS[rows] + DURATIONS[rows] + 2.0 * np.exp(-step / smoothing_steps)
            observe_batch(epoch, rows, float(losses.mean()))
            step += 1


def agreement(scores, with_what):
    return float(np.corrcoef(scores, with_what)[0, 1])


def test_scores_of_batch_means_say_what_is_hard_and_not_what_is_long():
    plan = PruningPlan(num_epochs=60, warmup_epochs=60, final_epochs=0)
    pruner = DynamicPruner(IDS, DURATIONS, Easy(), plan, smoothing=0.95)

    bare_means = np.zeros(len(IDS))

    def observe(epoch, rows, loss):
        pruner.start_epoch(epoch)
        pruner.observe_batch([IDS[row] for row in rows], torch.tensor(loss))
        bare_means[rows] += loss

    train_on_means(observe, num_epochs=60)
    pruner.end_epoch()
    assert agreement(pruner.table.scores, HARDNESS) > 0.3 > agreement(bare_means, HARDNESS)
    assert abs(agreement(pruner.table.scores, DURATIONS)) < 0.2 < 0.9 < agreement(bare_means, DURATIONS)
    assert pruner.audit.is_clean


def test_a_stream_scores_by_batch_means_like_a_list_of_the_same_utterances():
    plan = PruningPlan(num_epochs=12, warmup_epochs=12, final_epochs=0)
    stream, known = StreamPruner(Easy(), plan), DynamicPruner(IDS, DURATIONS, Easy(), plan)

    def observe(epoch, rows, loss):
        ids = [IDS[row] for row in rows]
        stream.start_epoch(epoch)
        known.start_epoch(epoch)
        stream.observe_batch(ids, loss, known.table.durations[rows].tolist())
        known.observe_batch(ids, loss)

    train_on_means(observe, num_epochs=3)
    stream.end_epoch()
    known.end_epoch()
    assert stream.table.scores[stream.table.positions(IDS)] == pytest.approx(known.table.scores, abs=1e-5)


def test_running_means_are_those_of_a_bucket_and_are_saved(tmp_path):
    pruner = DynamicPruner(["short", "long"], [1.0, 10.0])
    pruner.start_epoch(0)
    for loss in (1.0, 1.0, 4.0):
        pruner.observe_batch(["short"], loss)
    pruner.observe_batch(["long"], 9.0)
    torch.save(pruner.state_dict(), tmp_path / "state")
    resumed = DynamicPruner(["short", "long"], [1.0, 10.0])
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for one in (pruner, resumed):
        one.observe_batch(["short"], 5.0)
        one.end_epoch()
        assert one.table.scores.tolist() == [3.0, 0.0]


def test_a_state_of_before_there_were_batch_means_loads():
    pruner = DynamicPruner(["a"], [1.0])
    state = pruner.state_dict()
    del state["batch_means"]
    pruner.load_state_dict(state)


def test_means_that_are_not_finite_are_no_scores_and_leave_the_running_mean_alone():
    means = BatchMeans()
    assert means.excess([1.0], 2.0) == 0.0
    assert np.isnan(means.excess([1.0], float("nan")))
    assert means.excess([1.0], 3.0) == 1.0


def test_losses_of_utterances_are_refused_as_a_mean():
    with pytest.raises(ValueError, match=r"^mean_loss: got the shape \(2,\), allowed is one number.*`observe`"):
        BatchMeans().excess([1.0, 1.0], torch.ones(2))


def test_weights_of_losses_are_refused_where_only_their_mean_is_known():
    pruner = DynamicPruner(IDS, DURATIONS, InfoBatch(0.5), PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=0))
    pruner.start_epoch(0)
    pruner.observe(IDS, torch.rand(len(IDS)))
    pruner.start_epoch(1)
    with pytest.raises(ValueError, match=r"^policy: got InfoBatch, which weights losses; allowed are policies that do"):
        pruner.observe_batch(IDS[:2], 1.0)
