"""Prepared cuts -> loaders of batches for Lightning."""

from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from lhotse import CutSet
from lhotse.dataset import SimpleCutSampler

from asrsparse.batch import Batch, BatchDataset
from asrsparse.position import Position
from asrsparse.pruning import DynamicPruner
from asrsparse.sampler import EpochSampler, duration_bins
from asrsparse.tokenizer import Tokenizer

Loader = Iterable[Batch]


class SpeechDataModule(L.LightningDataModule):
    """Loads each epoch's kept utterances for training, and all of dev for validation.

    Its state (the pruner's scores and kept set, the position) travels in Lightning's checkpoint. Lightning asks for a
    training loader in every epoch, and may do so twice: making one has no effect but the pruner's start of the epoch.

    Args:
        train_cuts: Training cuts, lazily read.
        dev_cuts: Validation cuts, lazily read.
        tokenizer: Encodes the texts.
        pruner: Chooses the utterances of an epoch.
        position: Where training stands; shared with the training loop, which moves it.
        batch_seconds: Seconds of audio in a batch on each rank, padding counted.
        num_buckets: Buckets of similar duration.
        num_workers: Loader processes; 0 loads in the training process.
        seed: Seed of the order of batches.
    """

    def __init__(
        self,
        train_cuts: CutSet,
        dev_cuts: CutSet,
        tokenizer: Tokenizer,
        pruner: DynamicPruner,
        position: Position,
        batch_seconds: float = 60.0,
        num_buckets: int = 10,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_cuts = train_cuts
        self.dev_cuts = dev_cuts
        self.pruner = pruner
        self.position = position
        self.batch_seconds = batch_seconds
        self.num_workers = num_workers
        self.seed = seed
        self._dataset = BatchDataset(tokenizer.encode)
        self._duration_bins = duration_bins(train_cuts, num_buckets)

    def train_dataloader(self) -> Loader:
        """The rest of the current epoch, from the position on."""
        sampler = EpochSampler(
            self.train_cuts,
            self.batch_seconds,
            self._duration_bins,
            kept=self.pruner.start_epoch(self.position.epoch),
            seed=self.seed,
            epoch=self.position.epoch,
            first_batch=self.position.batches,
        )
        return self._loader(sampler)

    def val_dataloader(self) -> Loader:
        """All of dev, in its order."""
        return self._loader(SimpleCutSampler(self.dev_cuts, max_duration=self.batch_seconds, shuffle=False))

    def _loader(self, sampler: torch.utils.data.Sampler[CutSet]) -> Loader:
        # A generator of its own: else each new loader would draw its base seed from the global one, and the number of
        # loaders that Lightning happens to make would change the dropout that follows.
        return torch.utils.data.DataLoader(
            self._dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def state_dict(self) -> dict[str, Any]:
        """The pruner's state and the position."""
        return {"pruner": self.pruner.state_dict(), "position": self.position.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a saved run was."""
        self.pruner.load_state_dict(state_dict["pruner"])
        self.position.load_state_dict(state_dict["position"])
