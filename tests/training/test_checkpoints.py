import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from asrsparse.training.checkpoints import (
    AmongLast,
    BestEpochs,
    LastEpochs,
    Snapshot,
    average,
    averageable,
    read_snapshots,
    save_snapshot,
)


def random_weights(seed, **more):
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(4, 3, generator=generator), "a.bias": torch.randn(4, generator=generator), **more}


def snapshots_of(tmp_path, *weights, losses=None):
    for epoch, values in enumerate(weights):
        save_snapshot(tmp_path, epoch, losses[epoch] if losses else 1.0, values)
    return read_snapshots(tmp_path)


def listed(losses):
    return [Snapshot(None, epoch, loss) for epoch, loss in enumerate(losses)]


losses = st.lists(st.floats(0, 10, width=16), min_size=1, max_size=12)


@given(losses, st.integers(1, 15), st.randoms())
def test_last_epochs_are_the_latest_in_any_order_of_the_folder(values, num, random):
    snapshots = listed(values)
    shuffled = random.sample(snapshots, len(snapshots))
    assert LastEpochs(num).choose(shuffled) == snapshots[max(0, len(values) - num) :]


@given(losses, st.integers(1, 15), st.randoms())
def test_best_epochs_are_of_lowest_loss_and_ascending(values, num, random):
    snapshots = listed(values)
    chosen = BestEpochs(num).choose(random.sample(snapshots, len(snapshots)))
    assert [s.dev_loss for s in sorted(chosen, key=lambda s: s.dev_loss)] == sorted(values)[:num]
    assert [s.epoch for s in chosen] == sorted(s.epoch for s in chosen)


def test_of_equally_good_epochs_the_earlier_is_taken():
    assert [s.epoch for s in BestEpochs(2).choose(listed([3.0, 1.0, 1.0, 1.0]))] == [1, 2]


def test_a_choice_among_the_last_epochs_takes_none_from_before():
    snapshots = listed([0.0, 1.0, 4.0, 3.0, 2.0])
    assert [s.epoch for s in AmongLast(BestEpochs(2), 3).choose(snapshots)] == [3, 4]
    assert [s.epoch for s in AmongLast(LastEpochs(8), 2).choose(snapshots)] == [3, 4]


@pytest.mark.parametrize("choice", [LastEpochs, BestEpochs])
@pytest.mark.parametrize("num", [0, -3])
def test_at_least_one_epoch_is_averaged(choice, num):
    with pytest.raises(ValueError, match=f"^num: got {num}, allowed is at least 1 epoch"):
        choice(num)


def test_the_average_is_the_mean_of_the_weights(tmp_path):
    weights = [random_weights(seed) for seed in range(5)]
    averaged = average(snapshots_of(tmp_path, *weights))
    for name in ("a.weight", "a.bias"):
        reference = torch.stack([w[name].double() for w in weights]).mean(dim=0).float()
        torch.testing.assert_close(averaged[name], reference, rtol=0, atol=1e-7)


def test_the_average_of_one_epoch_is_that_epoch_bit_for_bit(tmp_path):
    weights = random_weights(0)
    averaged = average(snapshots_of(tmp_path, weights))
    assert all(torch.equal(averaged[name], value) for name, value in weights.items())


def test_the_average_does_not_lose_small_weights_beside_large_ones(tmp_path):
    values = [torch.tensor([v]) for v in (2.0**24, 1.0, -(2.0**24), 1.0)]
    assert average(snapshots_of(tmp_path, *({"w": v} for v in values)))["w"].item() == 0.5


def test_the_average_keeps_the_type_of_the_weights(tmp_path):
    weights = [
        {"w": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)},
        {"w": torch.tensor([3.0, 2.0], dtype=torch.bfloat16)},
    ]
    averaged = average(snapshots_of(tmp_path, *weights))
    assert averaged["w"].dtype == torch.bfloat16
    assert averaged["w"].tolist() == [2.0, 2.0]


def test_counters_come_from_the_latest_epoch(tmp_path):
    weights = [random_weights(seed, num_batches_tracked=torch.tensor(10 * (seed + 1))) for seed in range(3)]
    counter = average(snapshots_of(tmp_path, *weights))["num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter.item() == 30


def test_no_snapshots_are_refused():
    with pytest.raises(ValueError, match="No snapshots to average"):
        average([])


@pytest.mark.parametrize(
    "before",
    [{"w": torch.full((3,), 8.0)}, {"w": torch.full((2,), 8.0), "extra": torch.zeros(2)}],
    ids=["shape", "name"],
)
def test_snapshots_of_another_size_than_the_latest_are_left_out_and_named(tmp_path, before, caplog):
    mixed = snapshots_of(tmp_path, before, before, {"w": torch.full((2,), 1.0)}, {"w": torch.full((2,), 3.0)})
    with caplog.at_level("INFO", "asrsparse"):
        averaged = average(mixed)
    assert averaged["w"].tolist() == [2.0, 2.0]
    assert (
        "left out of the average: the snapshots of epochs 1, 2, from before the model changed its size" in caplog.text
    )


def test_an_average_of_one_size_and_phase_leaves_none_out(tmp_path, caplog):
    with caplog.at_level("INFO", "asrsparse"):
        average(snapshots_of(tmp_path, random_weights(0), random_weights(1)))
    assert not caplog.text


def in_phases(*phases):
    return [Snapshot(Path("run/snapshots/x"), epoch, 1.0, *pair) for epoch, pair in enumerate(phases)]


@pytest.mark.parametrize(
    ("phases", "chosen"),
    [
        ([("learning", "learning"), ("learning", "learning"), ("dense after the exit", "dense after the exit")], [2]),
        ([("dense", "dense"), ("sparse", "sparse"), ("sparse", "sparse")], [1, 2]),
        ([("dense", "dense"), ("following", "following"), ("sparse after the exit", "following")], [1, 2]),
        ([("following", "following"), ("sparse after the exit", "following"), ("sparse after the exit",) * 2], [1, 2]),
    ],
    ids=["a dense exit", "masks that come", "an exit at the end", "an exit before the end"],
)
def test_snapshots_from_before_an_exit_are_not_averaged_with_those_after_it(phases, chosen):
    snapshots = in_phases(*phases)
    assert [s.epoch for s in averageable(snapshots[::-1])] == chosen


def test_what_the_last_masks_drop_is_zero_in_the_average(tmp_path):
    moving = snapshots_of(tmp_path, {"w": torch.tensor([2.0, 0.0, 4.0])}, {"w": torch.tensor([0.0, 6.0, 2.0])})
    averaged = average(moving, {"w": torch.tensor([False, True, True])})
    assert averaged["w"].tolist() == [0.0, 6.0, 3.0]  # of a weight that was regrown, the snapshots since then count
    assert average(moving, {"w": torch.tensor([True, True, True])})["w"].tolist() == [1.0, 3.0, 3.0]
    assert average(moving)["w"].tolist() == [1.0, 3.0, 3.0]


def test_masks_of_weights_that_became_smaller_since_are_ignored(tmp_path):
    small = snapshots_of(tmp_path, {"w": torch.tensor([2.0, 1.0])})
    assert average(small, {"w": torch.tensor([False, True, True])})["w"].tolist() == [2.0, 1.0]


def test_a_snapshot_comes_back_with_epoch_and_loss(tmp_path):
    save_snapshot(tmp_path, 12, 1 / 3, random_weights(0))
    (snapshot,) = read_snapshots(tmp_path)
    shapes = {("a.weight", (4, 3)), ("a.bias", (4,))}
    assert snapshot == Snapshot(tmp_path / "epoch_012.safetensors", 12, 1 / 3, "dense", "dense", shapes)
    save_snapshot(tmp_path, 12, 1 / 3, random_weights(0), "sparse after the exit", "following")
    (snapshot,) = read_snapshots(tmp_path)
    assert (snapshot.phase, snapshot.joins) == ("sparse after the exit", "following")


def test_snapshots_of_earlier_versions_are_those_of_a_dense_model(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "epoch_000.safetensors", {"epoch": "0", "dev_loss": "1.5"})
    save_snapshot(tmp_path, 1, 1.0, {"w": torch.ones(2)})
    assert average(read_snapshots(tmp_path))["w"].tolist() == [0.5, 0.5]


def test_a_snapshot_without_validation_has_no_number_for_its_loss(tmp_path):
    save_snapshot(tmp_path, 0, math.nan, random_weights(0))
    assert math.isnan(read_snapshots(tmp_path)[0].dev_loss)


def test_snapshots_are_listed_by_epoch_also_beyond_three_digits(tmp_path):
    for epoch in (1000, 2, 999):
        save_snapshot(tmp_path, epoch, 1.0, {"w": torch.zeros(1)})
    assert [s.epoch for s in read_snapshots(tmp_path)] == [2, 999, 1000]
    assert read_snapshots(tmp_path / "nothing") == []


@pytest.mark.parametrize("damage", ["cut short", "overwritten", "empty"])
def test_a_damaged_file_says_what_to_do(tmp_path, damage):
    save_snapshot(tmp_path, 0, 1.0, random_weights(0))
    path = tmp_path / "epoch_000.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[:-20], "overwritten": b"x" * 200, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"is not a snapshot of asrsparse .*Delete it and train again"):
        read_snapshots(tmp_path)


def test_a_file_of_another_program_is_no_snapshot(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "epoch_000.safetensors")
    with pytest.raises(ValueError, match="is not a snapshot of asrsparse"):
        read_snapshots(tmp_path)
