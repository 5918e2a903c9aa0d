"""Dynamic data pruning in anybody's LightningModule."""

from typing import Any

import lightning as L

from asrsparse.pruning import DynamicPruner


class PruningCallback(L.Callback):
    """Gives a module its pruner, closes its epochs, and takes its state through Lightning's checkpoints.

    The module samples by `KeptSampler(pruner)` and returns `self.pruner.observe(ids, losses)` from `training_step`. The
    trainer needs `reload_dataloaders_every_n_epochs=1`, since kept sets differ in size, and with several processes
    `use_distributed_sampler=False`, since `KeptSampler` parts the kept set among ranks itself.

    Args:
        pruner: Becomes the module's attribute `pruner`.

    Raises:
        ValueError: Before training, if the trainer is set up in another way.
    """

    def __init__(self, pruner: DynamicPruner) -> None:
        self.pruner = pruner

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Checks the trainer and hands the pruner to the module."""
        every: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if every != 1:
            raise ValueError(
                f"reload_dataloaders_every_n_epochs: got {every}, allowed is 1: the size of the kept set, and "
                "with it the length of an epoch, changes."
            )
        pl_module.pruner = self.pruner  # type: ignore[assignment]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The losses of the epoch become scores, on all ranks."""
        self.pruner.end_epoch()
        kept = self.pruner.start_epoch(trainer.current_epoch)
        pl_module.log_dict({"kept_share": kept.share, "num_not_finite": float(self.pruner.num_not_finite)})

    def state_dict(self) -> dict[str, Any]:
        """The pruner's state."""
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a saved run was."""
        self.pruner.load_state_dict(state_dict)
