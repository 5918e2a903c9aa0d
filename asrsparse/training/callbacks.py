"""Callbacks of a training: time, the log, snapshots, checkpoints for resuming, stopping on a signal."""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.callbacks import Checkpoint

from asrsparse.files import atomic_path
from asrsparse.masks import SparseMasks
from asrsparse.pruning import Audit
from asrsparse.training.checkpoints import SnapshotChoice, averageable, read_snapshots, save_snapshot
from asrsparse.training.lightning_module import ASRLightningModule

logger = logging.getLogger(__name__)


class Stopwatch(L.Callback):
    """Counts the seconds of training: loading, steps and bookkeeping, without validation.

    A resumed run continues the count of its checkpoint. The position of the run gets the seconds before each batch and
    at the end of each epoch. All ranks get those of the first one, so that schedules over a budget in seconds agree.

    Args:
        clock: The clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._since: float | None = None

    def _start(self) -> None:
        self._since = self._clock()

    def _stop(self) -> None:
        self.seconds = self._now
        self._since = None

    @property
    def _now(self) -> float:
        return self.seconds if self._since is None else self.seconds + self._clock() - self._since

    def _tell(self, trainer: L.Trainer, module: ASRLightningModule) -> None:
        seconds = self._now
        if trainer.world_size > 1:
            of_first = torch.tensor(seconds if trainer.is_global_zero else 0.0, device=module.device)
            seconds = float(trainer.strategy.reduce(of_first, reduce_op="sum"))
        module.position.train_seconds = max(seconds, module.position.train_seconds)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start()

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: ASRLightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._tell(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: ASRLightningModule) -> None:  # type: ignore[override]
        self._stop()
        self._tell(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._now}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]


class EpochLog(L.Callback):
    """Writes one line per epoch to the log, with the numbers that the progress bar shows.

    Args:
        name: The name of the run.
        stopwatch: Counts the seconds of training.
    """

    def __init__(self, name: str, stopwatch: Stopwatch) -> None:
        self.name = name
        self.stopwatch = stopwatch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: ASRLightningModule) -> None:  # type: ignore[override]
        audit = pl_module.pruner.audit
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        logger.info(
            "%s: epoch %d/%d: loss %.3f, dev loss %.3f (CTC %.3f, attention %.3f), dev WER %.1f %%, %.2f h of speech, "
            "kept %.0f %%, density %.1f %%, lr %.2e, %.0f s; %s",
            self.name,
            pl_module.position.epoch + 1,
            pl_module.pruner.plan.num_epochs,
            metrics.get("loss", math.nan),
            metrics.get("dev_loss", math.nan),
            metrics.get("dev_ctc", math.nan),
            metrics.get("dev_attention", math.nan),
            100 * metrics.get("dev_wer", math.nan),
            pl_module.position.hours_heard,
            100 * pl_module.pruner.kept.share,
            100 * pl_module.masks.density,
            metrics.get("lr", math.nan),
            self.stopwatch.state_dict()["seconds"],
            audit,
        )
        cut_short = pl_module.budget_is_used and not trainer.is_last_batch
        if cut_short:
            logger.info("%s: the budget ended within this epoch.", self.name)
        if audit is not None and not _as_planned(audit, cut_short):
            logger.warning("%s: the epoch was not trained as planned: %s.", self.name, audit)


def _as_planned(audit: Audit, cut_short: bool) -> bool:
    """Whether each utterance was seen once; in an epoch that a budget ended, at most once."""
    return audit.is_clean or (cut_short and not (audit.repeated | audit.unexpected).any())


class PruningLog(L.Callback):
    """Writes the scores and the choice of the pruner in each epoch to `folder/epoch_NNN.parquet`.

    Args:
        folder: The folder of the files.
        ids: N utterance ids, in the order of the pruner's rows.
    """

    def __init__(self, folder: Path, ids: pa.StringArray) -> None:
        self.folder = folder
        self.ids = ids

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: ASRLightningModule) -> None:  # type: ignore[override]
        pruner, epoch = pl_module.pruner, pl_module.position.epoch
        assert pruner.audit is not None
        if not trainer.is_global_zero:
            return
        columns = {
            "id": self.ids,
            "duration": pruner.table.durations,
            "kept": pruner.kept.kept,
            "times_seen": pruner.audit.times_seen,
            "score": pruner.table.scores,
            "last_seen": pruner.table.last_seen,
        }
        metadata = {"hours_heard": repr(pl_module.position.hours_heard)}
        with atomic_path(self.folder / f"epoch_{epoch:03d}.parquet") as temporary:
            pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)


class Snapshots(L.Callback):
    """Keeps the weights of the epochs that will be averaged, with masks merged into them.

    Args:
        folder: The folder of the files.
        choice: The choice of the epochs to keep.
    """

    def __init__(self, folder: Path, choice: SnapshotChoice) -> None:
        self.folder = folder
        self.choice = choice
        self._phase_before: str | None = None  # the phase of the masks before the last update

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: ASRLightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._phase_before = _full_phase(pl_module.masks)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: ASRLightningModule) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        masks = pl_module.masks
        self._save(masks, pl_module.position.epoch, float(trainer.callback_metrics.get("dev_loss", math.nan)))
        snapshots = read_snapshots(self.folder)
        for dropped in set(snapshots) - set(self.choice.choose(averageable(snapshots))):
            dropped.path.unlink()

    def _save(self, masks: SparseMasks, epoch: int, dev_loss: float) -> None:
        joins = self._phase_before if masks.phase == "sparse" else None
        save_snapshot(self.folder, epoch, dev_loss, masks.merged_state_dict(), _full_phase(masks), joins)


def _full_phase(masks: SparseMasks) -> str:
    """Returns the phase of masks, and whether it follows their exit: a name may stand for a phase on either side."""
    return f"{masks.phase} after the exit" if masks.exit_summary else masks.phase


class ResumeCheckpoint(Checkpoint):
    """Writes the checkpoint of a run: everything that is needed to resume it exactly where it was.

    It is written after an optimiser update, never amid the batches of one, and replaces the older file only when it is
    complete.

    Args:
        path: The checkpoint file.
        every_steps: The optimiser updates between two checkpoints of an epoch; there is also one at the end of each.

    Raises:
        ValueError: If `every_steps` is below 1.
    """

    def __init__(self, path: Path, every_steps: int) -> None:
        if every_steps < 1:
            raise ValueError(f"trainer.save_every_steps: got {every_steps}, allowed is at least 1.")
        self.path = path
        self.every_steps = every_steps
        self._saved_step = -1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_steps == 0 and self.may_save(trainer):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def may_save(self, trainer: L.Trainer) -> bool:
        """Whether the run is right after an update, and not at the end of an epoch, which another hook saves.

        A budget that is used up ends the epoch, too.
        """
        loop = trainer.fit_loop.epoch_loop
        at_end = loop.batch_progress.is_last_batch or trainer.should_stop
        between_updates = not loop._should_accumulate() and not at_end
        return between_updates and trainer.global_step != self._saved_step

    def save(self, trainer: L.Trainer) -> None:
        """Writes the checkpoint; all ranks take part.

        Raises:
            OSError: If the checkpoint cannot be written; the older one stays complete.
        """
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            older = "the older one is still there" if self.path.exists() else "there is no older one"
            raise OSError(
                f"The checkpoint {self.path} cannot be written: {error}. Its disk may be full; {older}. Make room and "
                "run the same command again: it resumes from the last checkpoint."
            ) from error
        self._saved_step = trainer.global_step


class Interrupted(Exception):
    """Tells that a signal stopped the training, after a checkpoint was written."""


class StopOnSignal(L.Callback):
    """Finishes the current update on Ctrl-C or SIGTERM, writes the checkpoint and stops; a second one stops at once.

    Args:
        checkpoint: Writes the checkpoint.
    """

    def __init__(self, checkpoint: ResumeCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.received: str | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Here, since Lightning puts its own handlers in place after `setup`, and those stop between two checkpoints.
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._receive)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        logger.warning("%s received: finishing this update, then writing a checkpoint.", self.received)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop = self.received is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop and self.checkpoint.may_save(trainer):
            self.checkpoint.save(trainer)
            sender = self.received or "a signal to another rank"
            raise Interrupted(f"Stopped by {sender}; {self.checkpoint.path} is written.")
