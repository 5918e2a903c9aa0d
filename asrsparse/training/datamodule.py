"""The data module: prepared cuts -> loaders of batches for Lightning."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
import torch
from lhotse import CutSet
from lhotse.dataset import SimpleCutSampler

from asrsparse.data.batch import Batch, BatchDataset, IndexedBatchDataset
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.noise import Noise
from asrsparse.data.sampler import EpochSampler, duration_bins
from asrsparse.pruning import DynamicPruner
from asrsparse.training.budget import EpochPlanner
from asrsparse.training.position import Position

Loader = Iterable[Batch]


class SpeechDataModule(L.LightningDataModule):
    """Loads each epoch's kept utterances for training, and all of dev for validation.

    Its state (the pruner's scores and kept set, the position) travels in Lightning's checkpoint. Lightning asks for a
    training loader in every epoch, and may do so twice: making one has no effect but the pruner's start of the epoch.

    Args:
        train_cuts: Training cuts.
        dev_cuts: Validation cuts, lazily read.
        encode: Turns a text into token ids; the `encode` of a tokenizer.
        pruner: Chooses the utterances of an epoch; its rows are those of `train_cuts`.
        position: The position of the run; shared with the training step, which moves it.
        batch_seconds: The seconds of audio in a batch on each rank, padding counted.
        num_buckets: The number of buckets of utterances of similar duration.
        num_workers: The number of processes that load batches; 0 loads in the training process.
        seed: The seed of the order of batches.
        modalities: The modalities that the model reads: `audio`, `video` or both.
        noise: The noise that is mixed into the audio in training.
        planner: Plans the epochs of a budget; None without a budget.
    """

    def __init__(
        self,
        train_cuts: CutIndex,
        dev_cuts: CutSet,
        encode: Callable[[str], list[int]],
        pruner: DynamicPruner,
        position: Position,
        batch_seconds: float,
        num_buckets: int,
        num_workers: int,
        seed: int,
        modalities: Sequence[str],
        noise: Noise,
        planner: EpochPlanner | None = None,
    ) -> None:
        super().__init__()
        self.train_cuts = train_cuts
        self.dev_cuts = dev_cuts
        self.pruner = pruner
        self.position = position
        self.batch_seconds = batch_seconds
        self.num_workers = num_workers
        self.seed = seed
        self.encode = encode
        self.modalities = modalities
        self.noise = noise
        self.planner = planner
        self._duration_bins = duration_bins(pruner.table.durations, num_buckets)

    def train_dataloader(self) -> Loader:
        """Begins the epoch of the position, and returns the loader of its rest, from the position on.

        The epoch begins here, since Lightning makes the loader of an epoch before it calls any hook of its start.
        """
        if self.planner is not None:
            self.planner.plan()
        self.pruner.start_epoch(self.position.epoch)
        sampler = EpochSampler(
            self.pruner.kept,
            self.batch_seconds,
            self._duration_bins,
            seed=self.seed,
            epoch=self.position.epoch,
            first_batch=self.position.batches,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_ranks=self.trainer.world_size if self.trainer else 1,
        )
        dataset = BatchDataset(self.encode, self.modalities, self.noise, self.position.epoch)
        return self._loader(IndexedBatchDataset(self.train_cuts, dataset), sampler)

    def val_dataloader(self) -> Loader:
        """Returns the loader of all of dev, in its order."""
        sampler = SimpleCutSampler(self.dev_cuts, max_duration=self.batch_seconds, shuffle=False)
        return self._loader(BatchDataset(self.encode, self.modalities), sampler)

    def _loader(self, dataset: torch.utils.data.Dataset[Batch], sampler: torch.utils.data.Sampler[Any]) -> Loader:
        # A generator of its own: else each new loader would draw its base seed from the global one, and the number of
        # loaders that Lightning makes would change the dropout that follows.
        return torch.utils.data.DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the pruner, and the position."""
        return {"pruner": self.pruner.state_dict(), "position": self.position.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets the pruner and the position to a saved state."""
        self.pruner.load_state_dict(state_dict["pruner"])
        self.position.load_state_dict(state_dict["position"])
