"""Budgets of a training: where it ends, what is planned until then, and which budgets are refused."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from asrsparse.files import read_json, write_json
from asrsparse.pruning import DynamicPruner, EasyToHard, KeepAll, PruningPlan, Random, SegmentPruner
from asrsparse.pruning.segment import KeepAllTime
from asrsparse.training.budget import Budget, EpochPlanner, read_budget
from asrsparse.training.callbacks import Stopwatch
from asrsparse.training.position import Position

IDS = [f"u{number}" for number in range(100)]
HOUR = [36.0] * 100


def make_pruner(policy=None, num_epochs=30, **plan):
    return DynamicPruner(IDS, HOUR, policy or KeepAll(), PruningPlan(num_epochs=num_epochs, **plan))


def planner_of(budget, policy=None, segments=None, position=None, **plan):
    segments = segments or KeepAllTime()
    return EpochPlanner(budget, make_pruner(policy, **plan), segments, position or Position())


# ------------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("unit", ["hours", "seconds"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "long"])
def test_a_budget_is_a_finite_number_above_zero(unit, value):
    with pytest.raises(ValueError, match=rf"^trainer\.budget\.{unit}: got {value}, allowed are finite numbers above 0"):
        Budget(**{unit: value})


@pytest.mark.parametrize("given", [{}, {"hours": 1.0, "seconds": 2.0}])
def test_a_budget_is_either_hours_or_seconds(given):
    with pytest.raises(ValueError, match=r"^trainer\.budget: got hours=.* and seconds=.*, allowed is one of them"):
        Budget(**given)


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=30), st.floats(0.1, 1.0))
def test_progress_over_hours_grows_to_exactly_one_where_the_hours_are_processed(batches, kept_share):
    budget, position, progress = Budget(hours=kept_share * sum(batches) / 3600), Position(), []
    for seconds in batches:
        position.advance(seconds, kept_share)
        progress.append(budget.progress(position))
    assert all(early <= late for early, late in pairwise(progress))
    assert progress[-1] == 1.0
    assert progress[0] == pytest.approx(batches[0] / sum(batches))


def test_progress_over_seconds_is_that_of_the_clock_and_ends_at_one():
    budget = Budget(seconds=50.0)
    assert [budget.progress(Position(train_seconds=s)) for s in (0.0, 25.0, 50.0, 60.0)] == [0.0, 0.5, 1.0, 1.0]


# ----------------------------------------------------------------------------------------------------------- the clock


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def module_at(position):
    return SimpleNamespace(position=position, device="cpu")


def test_the_position_gets_the_seconds_without_those_of_validation_and_a_resumed_run_goes_on():
    clock, position = Clock(), Position()
    watch, trainer = Stopwatch(clock), SimpleNamespace(world_size=1)
    watch.on_train_start(trainer, module_at(position))
    clock.now = 10.0
    watch.on_train_batch_start(trainer, module_at(position), None, 0)
    assert position.train_seconds == 10.0
    clock.now = 15.0
    watch.on_validation_start(trainer, module_at(position))
    clock.now = 100.0
    watch.on_validation_end(trainer, module_at(position))
    clock.now = 101.0
    watch.on_train_batch_start(trainer, module_at(position), None, 0)
    assert position.train_seconds == 16.0
    resumed, restored, later = Stopwatch(later_clock := Clock()), Position(), SimpleNamespace(world_size=1)
    resumed.load_state_dict(watch.state_dict())
    restored.load_state_dict(position.state_dict())
    resumed.on_train_start(later, module_at(restored))
    later_clock.now = 2.0
    resumed.on_train_batch_start(later, module_at(restored), None, 0)
    assert restored.train_seconds == 18.0


def test_all_ranks_have_the_seconds_of_the_first_one_and_they_never_fall():
    sent = []
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: sent.append(float(value)) or value.new_tensor(7.0))
    for is_first in (True, False):
        clock, position = Clock(), Position()
        watch = Stopwatch(clock)
        trainer = SimpleNamespace(world_size=2, is_global_zero=is_first, strategy=strategy)
        watch.on_train_start(trainer, module_at(position))
        clock.now = 5.0
        watch.on_train_batch_start(trainer, module_at(position), None, 0)
        assert position.train_seconds == 7.0
        position.train_seconds = 8.0
        watch.on_train_batch_start(trainer, module_at(position), None, 0)
        assert position.train_seconds == 8.0
    assert sent == [5.0, 5.0, 0.0, 0.0]


# -------------------------------------------------------------------------------------------------------------- epochs


@pytest.mark.parametrize(("hours", "num_epochs"), [(1.0, 1), (5.0, 5), (5.01, 5), (5.5, 6), (7.0, 7)])
def test_the_epochs_of_full_data_are_the_hours_by_those_of_an_epoch(hours, num_epochs):
    planner = planner_of(Budget(hours=hours))
    assert planner.position.planned_epochs == planner.pruner.plan.num_epochs == num_epochs


def test_pruned_epochs_cost_less_and_a_budget_pays_for_more_of_them():
    # Two first and two last epochs on all data, then 0.5 h each.
    assert planner_of(Budget(hours=10.0), EasyToHard(0.5)).position.planned_epochs == 16
    assert planner_of(Budget(hours=2.0), Random(0.5), final_epochs=0).position.planned_epochs == 4


def test_segments_that_are_pruned_are_not_paid_and_last_epochs_are_on_all_time():
    segments = SegmentPruner(keep_ratio=0.5, num_epochs=30, final_epochs=2)
    assert planner_of(Budget(hours=6.0), segments=segments).position.planned_epochs == 10
    assert segments.num_epochs == 10


@given(st.floats(1.0, 40.0), st.sampled_from([KeepAll(), Random(0.6), EasyToHard(0.7)]), st.floats(0.5, 1.0))
def test_a_plan_ends_where_the_hours_do_whatever_pruning_keeps(hours, policy, really_kept):
    """Epochs that keep less than planned are made up for by more of them: plans follow what was processed."""
    budget, position = Budget(hours=hours), Position()
    planner = planner_of(budget, policy, position=position)
    while budget.progress(position) < 1.0:
        planner.plan()
        assert position.planned_epochs > position.epoch
        kept = planner.pruner.planned_seconds(position.epoch - 1) - planner.pruner.planned_seconds(position.epoch)
        for _ in range(20):
            position.advance(really_kept * kept / 20)
            if budget.progress(position) == 1.0:
                break
        position.next_epoch()
    assert position.epoch - position.planned_epochs in (0, 1)  # what is less than 2 % of an epoch is not planned


def test_a_budget_in_seconds_guesses_first_and_then_plans_by_the_pace():
    position = Position()
    planner = planner_of(Budget(seconds=100.0), position=position)
    assert position.planned_epochs == 30
    position.advance(3600.0)
    position.train_seconds = 10.0
    planner.plan()
    assert position.planned_epochs == 30  # within the epoch
    position.next_epoch()
    planner.plan()
    assert position.planned_epochs == 10
    position.advance(3600.0)
    position.train_seconds = 40.0  # the machine got slower
    position.next_epoch()
    planner.plan()
    assert position.planned_epochs == 5


def test_a_resumed_run_has_the_plan_that_its_epoch_began_with():
    position = Position()
    planner_of(Budget(seconds=100.0), position=position)
    position.advance(1800.0)
    position.train_seconds = 40.0
    restored = Position()
    planner = planner_of(Budget(seconds=100.0), position=restored, num_epochs=30)
    restored.load_state_dict(position.state_dict() | {"planned_epochs": 17})
    planner.plan()
    assert planner.pruner.plan.num_epochs == planner.segments.num_epochs == 17


@pytest.mark.parametrize(
    ("policy", "segments", "epoch"),
    [(None, None, 1.0), (Random(0.5), None, 0.5), (None, SegmentPruner(0.7, num_epochs=9), 0.7)],
)
def test_hours_for_less_than_one_epoch_are_refused_before_training(policy, segments, epoch):
    plan = {"final_epochs": 0}
    planner_of(Budget(hours=epoch), policy, segments, **plan)
    with pytest.raises(
        ValueError,
        match=rf"^trainer\.budget\.hours: got {0.9 * epoch:g}, allowed is at least one epoch, {epoch:.4g} h of speech",
    ):
        planner_of(Budget(hours=0.9 * epoch), policy, segments, **plan)


def test_hours_for_far_too_many_epochs_are_refused():
    with pytest.raises(ValueError, match=r"^trainer\.budget: got .* pays for more than 100000 epochs here"):
        planner_of(Budget(hours=1e9))


def test_seconds_for_less_than_one_epoch_are_refused_once_the_pace_is_known():
    budget = Budget(seconds=100.0)
    slow = Position(epoch_seconds=500.0, train_seconds=24.0)
    budget.check_first_epoch(slow, kept_seconds=3600.0)  # too early to tell
    slow.train_seconds = 25.0
    with pytest.raises(
        ValueError,
        match=r"^trainer\.budget\.seconds: got 100, which ends in the first epoch: 14% of it took 25 s\. Allowed is "
        r"at least one epoch, about 180 s here\. Raise it",
    ):
        budget.check_first_epoch(slow, kept_seconds=3600.0)
    budget.check_first_epoch(Position(epoch_seconds=1000.0, train_seconds=25.0), kept_seconds=3600.0)
    budget.check_first_epoch(Position(epoch=1, epoch_seconds=1.0, train_seconds=99.0), kept_seconds=3600.0)


# ------------------------------------------------------------------------------------------------------- configuration


def config_of(exp_dir, **budget):
    return OmegaConf.create(
        {"exp_dir": str(exp_dir), "trainer": {"budget": {"hours": None, "seconds": None, **budget}}}
    )


def make_run(exp_dir, name, hours, seconds, **environment):
    values = {"hours_heard": hours, "train_seconds": seconds, "environment": {"cpu": "a CPU", **environment}}
    write_json(exp_dir / name / "train.json", values)


def test_without_a_budget_nothing_is_recorded(tmp_path):
    assert read_budget(config_of(tmp_path), tmp_path / "run") is None
    assert (
        read_budget(OmegaConf.create({"trainer": {"num_epochs": 3}}), tmp_path / "run") is None
    )  # of an older version
    assert not (tmp_path / "run").exists()


def test_the_time_of_another_run_is_hours_at_the_pace_of_full_data(tmp_path):
    make_run(tmp_path, "full-dense", hours=6.0, seconds=600.0)
    make_run(tmp_path, "easy2hard", hours=4.0, seconds=450.0)  # 0.75 of the time, and 0.67 of the hours
    config = config_of(tmp_path, same_time_as="easy2hard", rate_of="full-dense")
    assert read_budget(config, tmp_path / "run") == Budget(hours=4.5)
    expected = {"same_time_as": "easy2hard", "rate_of": "full-dense", "hours": 4.5, "of_seconds": 450.0}
    assert read_json(tmp_path / "run" / "budget.json") == expected
    make_run(tmp_path, "easy2hard", hours=4.0, seconds=60.0)  # trained again in the meantime
    assert read_budget(config, tmp_path / "run") == Budget(hours=4.5)


def test_a_run_that_is_not_finished_has_no_time_to_be_compared_with(tmp_path):
    make_run(tmp_path, "full-dense", hours=6.0, seconds=600.0)
    with pytest.raises(
        ValueError,
        match=r"^trainer\.budget\.same_time_as: got easy2hard, allowed is the name of a finished run, and there is no "
        r".*easy2hard/train\.json\. Train that run first\.",
    ):
        read_budget(config_of(tmp_path, same_time_as="easy2hard", rate_of="full-dense"), tmp_path / "run")


@pytest.mark.parametrize(
    "given", [{"same_time_as": "a"}, {"rate_of": "a"}, {"hours": 1.0, "same_time_as": "a", "rate_of": "b"}]
)
def test_the_time_of_another_run_needs_two_names_and_nothing_else(given, tmp_path):
    with pytest.raises(
        ValueError, match=r"^trainer\.budget: got .*, allowed are hours alone, seconds alone, or same_time"
    ):
        read_budget(config_of(tmp_path, **given), tmp_path / "run")


def test_runs_of_different_machines_are_compared_with_a_warning(tmp_path, caplog):
    make_run(tmp_path, "full-dense", hours=6.0, seconds=600.0)
    make_run(tmp_path, "easy2hard", hours=4.0, seconds=450.0, cpu="another", threads="1")
    read_budget(config_of(tmp_path, same_time_as="easy2hard", rate_of="full-dense"), tmp_path / "run")
    assert "easy2hard and full-dense were trained with different cpu and threads" in caplog.text


def test_the_choice_of_an_epoch_moves_to_the_end_of_the_budget():
    """The window of easy2hard is at its end in the last pruned epoch that is planned, whatever num_epochs was."""
    planner = planner_of(Budget(hours=5.0), EasyToHard(0.5), warmup_epochs=1, final_epochs=1)
    plan = planner.pruner.plan
    assert plan.num_epochs == 8
    assert np.isclose(plan.progress(planner.pruner.policy, 6), 1.0)
