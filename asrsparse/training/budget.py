"""What a training may cost: a budget of processed speech, or of seconds, at whose end its schedules end.

A budget in the time of another run is one of processed speech: the clock of one training says little on a machine where
others run beside it, and a run that is resumed must end where it would have ended.
"""

import logging
import math
import os
from bisect import bisect_left
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from asrsparse.files import read_json, write_json
from asrsparse.pruning import DynamicPruner, SegmentPruner
from asrsparse.training.position import Position

logger = logging.getLogger(__name__)

BUDGET = "budget.json"
"""The file of the budget that a run began with, in its folder."""

_ROUNDING = 1e-7
"""The share of a budget in hours that sums of rounded durations may differ by."""

_NO_EPOCH = 0.02
"""The share of an epoch below which what is left of a budget is not planned as one more epoch."""

_JUDGED_FROM = 0.25
"""The share of a budget in seconds from which the pace of the first epoch is trusted."""

_MOST_EPOCHS = 100_000
"""The number of epochs above which a budget is taken for a mistake."""


@dataclass(frozen=True)
class Budget:
    """What a training may cost, in hours of processed speech or in seconds by the clock.

    Args:
        hours: The hours of speech that the model processes, without segments that are pruned.
        seconds: The seconds of training, without validation.

    Raises:
        ValueError: If both or none are given, or a number is not above 0.

    Example:
        >>> budget = Budget(hours=2.0)
        >>> budget.progress(Position(heard_seconds=1800.0)), budget.progress(Position(heard_seconds=7300.0))
        (0.25, 1.0)
    """

    hours: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.hours is None) == (self.seconds is None):
            raise ValueError(
                f"trainer.budget: got hours={self.hours} and seconds={self.seconds}, allowed is one of them. Leave out "
                "the other one."
            )
        for unit, value in asdict(self).items():
            if value is not None and not (isinstance(value, int | float) and 0.0 < value < math.inf):
                raise ValueError(
                    f"trainer.budget.{unit}: got {value}, allowed are finite numbers above 0: the {unit} after which "
                    "training ends. For a number of epochs use trainer.num_epochs."
                )

    def progress(self, position: Position) -> float:
        """Returns the share of the budget that is used at a position, in [0, 1]; it never falls."""
        if self.seconds is not None:
            return min(1.0, position.train_seconds / self.seconds)
        assert self.hours is not None
        used = position.heard_seconds / (3600 * self.hours)
        return 1.0 if used > 1 - _ROUNDING else used

    def speech_left(self, position: Position) -> float | None:
        """Returns the seconds of speech that the rest pays for, at the pace so far; None before a pace is known."""
        if self.hours is not None:
            return 3600 * self.hours - position.heard_seconds
        assert self.seconds is not None
        if position.heard_seconds == 0.0 or position.train_seconds == 0.0:
            return None
        return (self.seconds - position.train_seconds) * position.heard_seconds / position.train_seconds

    def check_first_epoch(self, position: Position, kept_seconds: float) -> None:
        """Checks within the first epoch that a budget in seconds lasts until its end, once its pace can be judged.

        Args:
            position: The position after an update.
            kept_seconds: The speech that the first epoch keeps, in seconds.

        Raises:
            ValueError: If it does not last, at the pace so far.
        """
        if self.seconds is None or position.epoch > 0:
            return
        share, used = position.epoch_seconds / kept_seconds, self.progress(position)
        if used >= _JUDGED_FROM and share < used:
            raise ValueError(
                f"trainer.budget.seconds: got {self.seconds:g}, which ends in the first epoch: {share:.0%} of it "
                f"took {position.train_seconds:.0f} s. Allowed is at least one epoch, about "
                f"{math.ceil(position.train_seconds / share)} s here. Raise it and delete the run's folder, or "
                "train on less data."
            )


class EpochPlanner:
    """Plans before each epoch how many epochs a budget pays, for pruners whose choices depend on their number.

    The last of them is the one within which the budget ends. The plan is a function of the position, so all ranks have
    the same. For a budget in seconds it is a guess in the first epoch (`num_epochs` of the pruner's plan), and follows
    from the pace so far in the others; the checkpoint holds the one in use.

    Args:
        budget: What the training may cost.
        pruner: The pruner of utterances, whose plan is set.
        segments: The pruner of time, whose number of epochs is set.
        position: The position of the run.

    Raises:
        ValueError: If a budget in hours is shorter than the first epoch, or longer than 100,000 epochs.
    """

    def __init__(self, budget: Budget, pruner: DynamicPruner, segments: SegmentPruner, position: Position) -> None:
        self.budget = budget
        self.pruner = pruner
        self.segments = segments
        self.position = position
        self.plan()
        self._check_first_epoch()

    def plan(self) -> None:
        """Sets the number of epochs; within an epoch that has begun, the one that it began with."""
        position = self.position
        if position.batches == 0 or position.planned_epochs is None:
            position.planned_epochs = self._affordable_epochs()
        self._set_epochs(position.planned_epochs)

    def _set_epochs(self, num_epochs: int) -> None:
        self.pruner.plan = replace(self.pruner.plan, num_epochs=num_epochs)
        self.segments.num_epochs = num_epochs

    def _affordable_epochs(self) -> int:
        """The least number of epochs, with those that are done, which need all that is left."""
        left = self.budget.speech_left(self.position)
        if left is None:
            return self.pruner.plan.num_epochs
        left -= _NO_EPOCH * self.pruner.table.total_seconds
        least = most = self.position.epoch + 1
        while self._speech_until(most) < left:
            if most > _MOST_EPOCHS:
                raise ValueError(
                    f"trainer.budget: got {self.budget}, which pays for more than {_MOST_EPOCHS} epochs here; "
                    "allowed are fewer. Hours are hours of speech, seconds are seconds of the clock."
                )
            most *= 2
        return bisect_left(range(most + 1), left, lo=least, key=self._speech_until)

    def _speech_until(self, num_epochs: int) -> float:
        """The seconds of speech that a training of so many epochs will process from here on."""
        self._set_epochs(num_epochs)
        epoch = self.position.epoch
        on_all_time = self.pruner.planned_seconds(max(epoch, num_epochs - self.segments.final_epochs) - 1)
        return on_all_time + self._time_share() * (self.pruner.planned_seconds(epoch - 1) - on_all_time)

    def _time_share(self) -> float:
        """The share of time that segment pruning keeps: what it kept so far, since it may keep more than was asked."""
        position = self.position
        return position.heard_seconds / position.earlier_seconds if position.earlier_seconds else self._asked_share()

    def _asked_share(self) -> float:
        return self.segments.keep_ratio if self.segments.final_epochs < self.pruner.plan.num_epochs else 1.0

    def _check_first_epoch(self) -> None:
        if self.budget.hours is None or self.position.epoch > 0:
            return
        first = self.pruner.planned_seconds(-1) - self.pruner.planned_seconds(0)
        hours = first * self._asked_share() / 3600
        if self.budget.hours < hours * (1 - _ROUNDING):
            raise ValueError(
                f"trainer.budget.hours: got {self.budget.hours:g}, allowed is at least one epoch, {hours:.4g} h of "
                "speech here. Raise it, or train on less data."
            )


# ------------------------------------------------------------------------------------------------------- configuration


def read_budget(config: DictConfig, run_dir: Path) -> Budget | None:
    """Returns the budget of a run, and records it in its folder; a resumed run has the one that it began with.

    Args:
        config: The composed configuration.
        run_dir: The folder of the run.

    Returns:
        The budget; None if the configuration has none.

    Raises:
        ValueError: If numbers are out of range, several budgets are given, or another run is not finished.
    """
    settings = {key: value for key, value in (config.trainer.get("budget") or {}).items() if value is not None}
    if not settings:
        return None
    path = run_dir / BUDGET
    record = read_json(path) if path.is_file() else _resolved(settings, Path(config.exp_dir))
    budget = Budget(record.get("hours"), record.get("seconds"))
    if int(os.environ.get("RANK", "0")) == 0:
        write_json(path, record)
    return budget


def _resolved(settings: dict[str, Any], exp_dir: Path) -> dict[str, Any]:
    """The settings, where the time of another run is turned into hours of speech."""
    others = {"same_time_as", "rate_of"} & settings.keys()
    if not others:
        return settings
    if len(settings) != 2 or len(others) != 2:
        got = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise ValueError(
            f"trainer.budget: got {got}, allowed are hours alone, seconds alone, or same_time_as with rate_of, which "
            "name finished runs. Leave out the others (key=null)."
        )
    timed, paced = (_train_record(exp_dir, key, settings[key]) for key in ("same_time_as", "rate_of"))
    _warn_of_other_machine(settings, timed, paced)
    hours = paced["hours_heard"] * timed["train_seconds"] / paced["train_seconds"]
    logger.info(
        "budget: the %.0f s of %s are %.4g h of speech at the pace of %s.",
        timed["train_seconds"],
        settings["same_time_as"],
        hours,
        settings["rate_of"],
    )
    return {**settings, "hours": hours, "of_seconds": timed["train_seconds"]}


def _train_record(exp_dir: Path, key: str, name: str) -> dict[str, Any]:
    path = exp_dir / name / "train.json"
    if not path.is_file():
        raise ValueError(
            f"trainer.budget.{key}: got {name}, allowed is the name of a finished run, and there is no {path}. Train "
            "that run first."
        )
    record: dict[str, Any] = read_json(path)
    return record


def _warn_of_other_machine(settings: dict[str, Any], timed: dict[str, Any], paced: dict[str, Any]) -> None:
    """Warns where the seconds of the two runs cannot be compared."""
    one, two = timed.get("environment", {}), paced.get("environment", {})
    different = [key for key in ("cpu", "gpu", "threads") if one.get(key) != two.get(key)]
    if different:
        logger.warning(
            "trainer.budget: %s and %s were trained with different %s; their seconds say little about one another.",
            settings["same_time_as"],
            settings["rate_of"],
            " and ".join(different),
        )
