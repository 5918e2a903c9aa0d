"""Dynamic data pruning in Hugging Face's Trainer."""

from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from asrsparse.pruning import DynamicPruner, KeptSampler


class PruningTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` whose epochs see what the pruner keeps. `compute_loss` returns `self.pruner.observe(ids, losses)`.

    The learning rate ends at its end, although pruned epochs have fewer steps. The training set is a map-style data set
    in the order of the pruner's rows. The pruner's final state is in `pruner`; `Trainer` itself finds the epoch of a
    checkpoint by dividing steps, which pruned epochs break, so that going on from one is refused.

    Args:
        arguments: What `Trainer` takes.
        pruner: Chooses the utterances of an epoch; its plan has as many epochs as the training.

    Raises:
        ValueError: If the epochs differ.
    """

    def __init__(self, *arguments: Any, pruner: DynamicPruner, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.args.num_train_epochs != pruner.plan.num_epochs:
            raise ValueError(
                f"num_train_epochs: got {self.args.num_train_epochs:g}, and {pruner.plan.num_epochs} in the pruner's "
                "plan; both must be the same."
            )
        self.pruner = pruner
        self.sampler = KeptSampler(pruner, self.args.seed, self.args.process_index, self.args.world_size)
        self.add_callback(_Epochs(self.sampler))

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """A loader of the kept utterances of this rank; the sampler parts them, not accelerate."""
        return torch.utils.data.DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The schedule over the steps that the pruned epochs are expected to have."""
        planned = self.pruner.planned_seconds(after_epoch=-1)
        whole = self.pruner.plan.num_epochs * self.pruner.table.total_seconds
        return super().create_scheduler(round(num_training_steps * planned / whole), optimizer)

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **more: Any) -> Any:
        """Trains from the beginning.

        Raises:
            ValueError: If it is to go on from a checkpoint.
        """
        if resume_from_checkpoint:
            raise ValueError(
                f"resume_from_checkpoint: got {resume_from_checkpoint!r}, allowed is None: Trainer takes all epochs to "
                "be equally long, and would go on in another epoch. Train from the beginning."
            )
        return super().train(None, *arguments, **more)


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the sampler which epoch begins, and the pruner that one ends."""

    def __init__(self, sampler: KeptSampler) -> None:
        self.sampler = sampler
        self.epoch = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.sampler.set_epoch(self.epoch)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.sampler.pruner.end_epoch()
        self.epoch += 1
