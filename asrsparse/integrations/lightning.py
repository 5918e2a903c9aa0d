"""Dynamic data pruning in any LightningModule."""

from typing import Any

import lightning as L

from asrsparse.pruning import DynamicPruner


class PruningCallback(L.Callback):
    """Gives a module its pruner, begins and ends the epochs, and saves the pruner's state in Lightning's checkpoints.

    The module makes its training loader with `KeptSampler(pruner)`, or from `pruner.kept`, and returns
    `self.pruner.observe(ids, losses)` from `training_step`. The trainer needs `reload_dataloaders_every_n_epochs=1`,
    since kept sets differ in size, and with several processes `use_distributed_sampler=False`, since `KeptSampler`
    divides the kept set among ranks itself.

    Args:
        pruner: The pruner, which becomes the module's attribute `pruner`. Its plan has as many epochs as the training.

    Raises:
        ValueError: Before training, if the trainer has another `reload_dataloaders_every_n_epochs`.
    """

    def __init__(self, pruner: DynamicPruner) -> None:
        self.pruner = pruner

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Checks the trainer, gives the pruner to the module, and begins the first epoch.

        A checkpoint is loaded after this hook, and its epoch takes the place of the first.
        """
        every: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if every != 1:
            raise ValueError(
                f"reload_dataloaders_every_n_epochs: got {every}, allowed is 1: the size of the kept set, and "
                "with it the length of an epoch, changes."
            )
        pl_module.pruner = self.pruner  # type: ignore[assignment]
        if stage == "fit":
            self.pruner.start_epoch(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends an epoch, logs its `kept_share` and `num_not_finite`, and begins the next, on all ranks.

        The next one begins here, since Lightning makes its loader before it calls any hook of its start.
        """
        self.pruner.end_epoch()
        share, num_not_finite = self.pruner.kept.share, self.pruner.num_not_finite
        pl_module.log_dict({"kept_share": share, "num_not_finite": float(num_not_finite)})
        if trainer.current_epoch + 1 < self.pruner.plan.num_epochs:
            self.pruner.start_epoch(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the pruner's state."""
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the pruner's state, so that the run continues where the saved one was."""
        self.pruner.load_state_dict(state_dict)
