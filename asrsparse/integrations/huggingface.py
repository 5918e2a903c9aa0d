"""Dynamic data pruning in Hugging Face's Trainer."""

from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from asrsparse.pruning import DynamicPruner, KeptSampler


class PruningTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` whose epochs train on what the pruner keeps.

    A subclass returns `self.pruner.observe(ids, losses)` from `compute_loss`. The training set is a map-style data set
    in the order of the pruner's rows. The schedule of the learning rate is as long as the training, although pruned
    epochs have fewer steps. To resume from a checkpoint is refused: `Trainer` divides the number of steps by the length
    of an epoch to find the epoch of a checkpoint, and pruned epochs differ in length.

    Args:
        arguments: The positional arguments of `Trainer`.
        pruner: Chooses the utterances of an epoch; its plan has as many epochs as the training.
        more: The keyword arguments of `Trainer`.

    Attributes:
        pruner: The pruner, with its final state after the training.

    Raises:
        ValueError: If the numbers of epochs of the training and of the plan differ.
    """

    def __init__(self, *arguments: Any, pruner: DynamicPruner, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.args.num_train_epochs != pruner.plan.num_epochs:
            raise ValueError(
                f"num_train_epochs: got {self.args.num_train_epochs:g}, and {pruner.plan.num_epochs} in the pruner's "
                "plan; both must be the same."
            )
        self.pruner = pruner
        self.sampler = _Sampler(pruner, self.args.seed, self.args.process_index, self.args.world_size)
        self.add_callback(_Epochs(pruner))

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Returns a loader of the kept utterances of this rank; the sampler divides them, not accelerate."""
        return torch.utils.data.DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Creates the schedule over the steps that the pruned epochs are expected to have."""
        planned = self.pruner.planned_seconds(after_epoch=-1)
        whole = self.pruner.plan.num_epochs * self.pruner.table.total_seconds
        return super().create_scheduler(round(num_training_steps * planned / whole), optimizer)

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **more: Any) -> Any:
        """Trains from the beginning.

        Args:
            resume_from_checkpoint: None; see the class for the reason.
            arguments: Further positional arguments of `Trainer.train`.
            more: Further keyword arguments of `Trainer.train`.

        Raises:
            ValueError: If a checkpoint is given.
        """
        if resume_from_checkpoint:
            raise ValueError(
                f"resume_from_checkpoint: got {resume_from_checkpoint!r}, allowed is None: Trainer assumes that all "
                "epochs are equally long, and would resume in another epoch. Train from the beginning."
            )
        self.pruner.start_epoch(0)
        return super().train(None, *arguments, **more)


class _Sampler(KeptSampler):
    """Has the length of an epoch on all data: `Trainer` reads it once, and stops each epoch there at the latest."""

    def __len__(self) -> int:
        return len(self.pruner.table) // self.num_ranks


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Ends each epoch of the pruner, and begins the next; `PruningTrainer.train` begins the first."""

    def __init__(self, pruner: DynamicPruner) -> None:
        self.pruner = pruner

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.pruner.end_epoch()
        if self.pruner.epoch + 1 < self.pruner.plan.num_epochs:
            self.pruner.start_epoch(self.pruner.epoch + 1)
