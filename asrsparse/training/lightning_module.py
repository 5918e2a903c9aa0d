"""The training step: losses per utterance, scores to the pruner, masks after each update, state for an exact resume.

Shape legend: B utterances.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel
from torchmetrics.text import WordErrorRate

from asrsparse.data.batch import Batch
from asrsparse.masks import SparseMasks
from asrsparse.masks.partial_updates import Updates
from asrsparse.models.asr import ASRModel
from asrsparse.pruning import DynamicPruner
from asrsparse.schedules import Schedule
from asrsparse.training.budget import Budget
from asrsparse.training.position import Position

LOG_EVERY_STEPS = 10
"""Optimiser updates between two lines of the log of metrics."""


class ASRLightningModule(L.LightningModule):
    """Trains a recogniser under a pruner and masks; with `KeepAll` and `DenseMask` the same lines train the baseline.

    Args:
        model: The recogniser.
        masks: The masks attached to `model`.
        pruner: Receives the losses of each batch.
        position: The position of the run; shared with the data module.
        optimizer: Makes the optimiser of parameter groups.
        lr_schedule: The factor on the learning rate, by the share of the training that is done.
        lr: The peak learning rate.
        weight_decay: The weight decay of the weights (not of norms and biases, nor of mask logits).
        to_text: Turns token ids into text; the `decode` of a tokenizer, for the word error rate on dev.
        updates: Which weights the steps of the optimiser update.
        budget: Ends the training, and the schedules with it, in place of a number of epochs; None without a budget.
    """

    def __init__(
        self,
        model: ASRModel,
        masks: SparseMasks,
        pruner: DynamicPruner,
        position: Position,
        optimizer: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer],
        lr_schedule: Schedule,
        lr: float,
        weight_decay: float,
        to_text: Callable[[Iterable[int]], str],
        updates: Updates,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.masks = masks
        self.pruner = pruner
        self.position = position
        self.lr_schedule = lr_schedule
        self.to_text = to_text
        self.budget = budget
        self.dev_wer = WordErrorRate()
        self._fingerprint = model_fingerprint(model)  # of the size that the configuration describes
        self._make_optimizer = optimizer
        self._lr = lr
        self._weight_decay = weight_decay
        self._updates = updates
        self._saved_updates: dict[str, Any] | None = None
        self._rng_states: list[dict[str, Any]] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns one optimiser over the weights and, while masks are learned, their logits."""
        optimizer = self._make_optimizer(self.masks.param_groups(lr=self._lr, weight_decay=self._weight_decay))
        self._updates.attach(optimizer)
        return optimizer

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1], counted in speech processed, or as the budget counts."""
        if self.budget is not None:
            return self.budget.progress(self.position)
        return self.position.progress(self.pruner.kept.seconds, self.pruner.planned_seconds(self.position.epoch))

    @property
    def budget_is_used(self) -> bool:
        """Whether a budget ends the training here."""
        return self.budget is not None and self.progress == 1.0

    def on_train_start(self) -> None:
        """Restores of a resumed run what needs its optimiser, and the random states, after set-up has drawn numbers.

        A run that was stopped after its last epoch, before its model was written, trains no further.
        """
        if self.budget_is_used:
            self.trainer.should_stop = True
        if self._saved_updates is not None:
            self._updates.load_state_dict(self._saved_updates)
            self._saved_updates = None
        if self._rng_states is not None:
            _set_rng_state(self._rng_states[min(self.global_rank, len(self._rng_states) - 1)])
            self._rng_states = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Sets the learning rate by the share of the training that is done, which reaches 1 under pruning too."""
        self.model.segments.start_epoch(self.position.epoch)  # here, since no epoch starts for a resumed run
        factor = self.lr_schedule(self.progress)
        for group in self._optimizer.param_groups:
            if group.get("name") != "mask_logits" or "lr_scale" in group:
                group["lr"] = self._lr * factor * group.get("lr_scale", 1.0)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Returns the loss of a batch, and counts the batch as trained."""
        losses = self.model(batch)
        loss = self.pruner.observe(batch.ids, losses.total) + self.masks.penalty()
        seconds, processed = self._over_ranks(batch.seconds, losses.kept_share * batch.seconds)
        self.position.advance(seconds, processed / seconds, batches=self.trainer.world_size)
        self._log_step(loss.detach())
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Updates the weights, then the masks, and stops the training when its budget is used.

        Raises:
            ValueError: If the budget turns out to be shorter than the first epoch.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.position.steps += 1
        if self.masks.step(self.progress, optimizer.optimizer):
            wrap_anew(self.trainer.strategy)
        if self.budget is not None:
            self.budget.check_first_epoch(self.position, self.pruner.kept.seconds)
            if self.budget_is_used:  # after an update, so that no gradient that was accumulated is lost
                self.trainer.should_stop = True

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Ends the epoch of the pruners with its last batch, or the last one of a budget: its losses become scores.

        Lightning calls the callbacks' hooks of an epoch's end before the module's, and these read the scores.
        """
        if self.trainer.is_last_batch or self.trainer.should_stop:
            self.pruner.end_epoch()
            self.model.segments.end_epoch()

    def on_train_epoch_end(self) -> None:
        """Moves the position to the next epoch, after all callbacks have read the one that ended."""
        self.position.next_epoch()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the mean losses per utterance over dev, and the word error rate of CTC alone."""
        losses, found = self.model.validate(batch)
        shown = {"dev_loss": losses.total, "dev_ctc": losses.ctc, "dev_attention": losses.attention}
        for name, values in shown.items():
            self.log(name, values.mean(), prog_bar=name == "dev_loss", batch_size=len(batch.ids), sync_dist=True)
        said = batch.tokens.tolist()  # padding is no token, and leaves no text
        self.dev_wer.update([self.to_text(ids) for ids in found], [self.to_text(ids) for ids in said])
        self.log("dev_wer", self.dev_wer, prog_bar=True, batch_size=len(batch.ids))

    def on_validation_epoch_end(self) -> None:
        """Logs the seconds of training until here, so that curves can be drawn over seconds."""
        self.log("train_seconds", self.position.train_seconds)

    def _log_step(self, loss: torch.Tensor) -> None:
        shown: dict[str, torch.Tensor | float] = {
            "loss": loss,
            "hours": self.position.hours_heard,
            "kept": self.pruner.kept.share,
        }
        if self.position.steps % LOG_EVERY_STEPS == 0:
            shown["density"] = self.masks.density  # counts every bit of learned masks
        self.log_dict(shown, prog_bar=True, on_step=True, batch_size=1)
        self.log("lr", self._optimizer.param_groups[0]["lr"], on_step=True, batch_size=1)

    def _over_ranks(self, *numbers: float) -> tuple[float, ...]:
        """Returns the sums of numbers over all ranks."""
        if self.trainer.world_size == 1:
            return numbers
        sums = self.trainer.strategy.reduce(torch.tensor(numbers, device=self.device), reduce_op="sum")
        return tuple(sums.tolist())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the masks, the state of segment pruning, the random states of all ranks, and a hash of the model."""
        checkpoint["masks"] = self.masks.state_dict()
        checkpoint["segments"] = self.model.segments.state_dict()
        checkpoint["updates"] = self._updates.state_dict()
        checkpoint["model_fingerprint"] = self._fingerprint
        checkpoint["rng_states"] = _gather_rng_states()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores masks, segment pruning and random states; Lightning calls it before the weights are loaded.

        The masks of a model that was compacted make this one as small, before the optimiser is built.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        if checkpoint.get("model_fingerprint") != self._fingerprint:
            difference = _first_difference(checkpoint["state_dict"], self.state_dict())
            raise ValueError(
                f"The checkpoint is of another model: {difference}. Resume with the model configuration that the run "
                "began with, or give the new run another name (name=NAME)."
            )
        self.masks.load_state_dict(checkpoint["masks"])
        self.model.segments.load_state_dict(checkpoint["segments"])
        self._saved_updates = checkpoint.get("updates")  # those of earlier versions have none
        self._rng_states = checkpoint["rng_states"]


def wrap_anew(strategy: Strategy) -> None:
    """Wraps the model for several ranks again, once its parameters are others: a reducer knows those that it found."""
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        wrapped = strategy.model
        wrapped._remove_autograd_hooks()  # type: ignore[no-untyped-call]  # those of the parameters that stay
        strategy.model = strategy._setup_model(wrapped.module)
        strategy._register_ddp_hooks()


def model_fingerprint(model: torch.nn.Module) -> str:
    """Returns a hash of the names and shapes of a model's weights."""
    shapes = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(model.state_dict().items()))
    return blake2b(shapes.encode(), digest_size=8).hexdigest()


def _first_difference(saved: dict[str, torch.Tensor], here: dict[str, torch.Tensor]) -> str:
    """Describes the first weight in which two models differ."""
    for name in sorted({*saved, *here}):
        got = tuple(saved[name].shape) if name in saved else "no such weight"
        want = tuple(here[name].shape) if name in here else "no such weight"
        if got != want:
            return f"{name} is {got} in the checkpoint and {want} here"
    return "its weights have the same shapes but no fingerprint of this version"


def _rng_state() -> dict[str, Any]:
    """Returns the random states of this process, as tensors and plain numbers."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))


def _gather_rng_states() -> list[dict[str, Any]]:
    """Returns the random states of all ranks, in their order."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [_rng_state()]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, _rng_state())
    return states
