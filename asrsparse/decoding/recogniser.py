"""Cuts and a trained model -> hypotheses, in batches and by several processes.

No utterance depends on the others of its batch (`models.padding`), so the size of batches and the number of processes
change the speed alone.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lightning.fabric.utilities import move_data_to_device
from rich.progress import track

from asrsparse.data.batch import Batch, BatchDataset
from asrsparse.decoding.decoders import Decoder
from asrsparse.decoding.nbest import Hypothesis
from asrsparse.decoding.parallel import in_processes
from asrsparse.models.asr import ASRModel

logger = logging.getLogger(__name__)

LOADERS_OF_A_GPU = 4
"""The default number of processes that load files for a model on a GPU."""

_BATCHES_PER_JOB = 4
"""The least number of batches per process, so that all processes end at about the same time."""


class Recogniser:
    """Finds the hypotheses of cuts.

    Args:
        model: A trained model, in evaluation mode.
        decoder: The search.
        dataset: Loads batches for the model.
    """

    def __init__(self, model: ASRModel, decoder: Decoder, dataset: BatchDataset) -> None:
        self.model = model
        self.decoder = decoder
        self.dataset = dataset

    def __call__(self, cuts: Sequence[Cut]) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each cut of a batch."""
        return self.find(cuts, self.load(cuts))

    def load(self, cuts: Sequence[Cut]) -> Batch:
        """Loads a batch of cuts."""
        return self.dataset[CutSet.from_cuts(cuts)]

    def find(self, cuts: Sequence[Cut], batch: Batch) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance of a batch; one that is too large for a GPU is divided.

        Args:
            cuts: The cuts of the batch.
            batch: The batch that `load` made of them.
        """
        try:
            return hypotheses_of(self.model, self.decoder, batch)
        except torch.OutOfMemoryError:
            if len(cuts) == 1:
                raise
        logger.warning("%d utterances do not fit into the GPU's memory: lower decode.batch_seconds.", len(cuts))
        return [found for cut in cuts for found in self([cut])]


@torch.inference_mode()
def hypotheses_of(model: ASRModel, decoder: Decoder, batch: Batch) -> list[list[Hypothesis]]:
    """Returns the hypotheses of each utterance of a batch, the best one first."""
    encoded, encoded_lens = model.encode(move_data_to_device(batch, device_of_model(model)))
    return decoder(model, encoded, encoded_lens)


def recognise(
    recogniser: Recogniser, cuts: Iterable[Cut], batch_seconds: float, num_jobs: int
) -> list[list[Hypothesis]]:
    """Finds the hypotheses of cuts, with a progress bar.

    Args:
        recogniser: Finds the hypotheses of a batch.
        cuts: Any number of cuts.
        batch_seconds: The seconds of audio in a batch, padding counted; a longer cut is a batch alone.
        num_jobs: The number of processes, which decode on a CPU, and load files for a GPU; 1 does all in this process.

    Returns:
        The hypotheses of each cut, the best one first, in the order of the cuts; they are the same for all values of
        `batch_seconds` and `num_jobs`.

    Raises:
        ValueError: If a cut cannot be read, or a process was killed.
    """
    cuts = list(cuts)
    durations = [cut.duration for cut in cuts]
    even_seconds = sum(durations) / (_BATCHES_PER_JOB * num_jobs)
    rows = batches_by_length(durations, min(batch_seconds, even_seconds) if num_jobs > 1 else batch_seconds)
    batches = [[cuts[row] for row in batch] for batch in rows]
    settings = "decode.num_jobs or decode.batch_seconds"
    if device_of_model(recogniser.model).type == "cpu":
        found = in_processes(recogniser, batches, num_jobs, settings)
    else:
        found = map(recogniser.find, batches, in_processes(recogniser.load, batches, num_jobs, settings))
    singly = track(chain.from_iterable(found), description="decoding", total=len(cuts), transient=True)
    of_row = dict(zip(chain.from_iterable(rows), singly, strict=True))
    return [of_row[row] for row in range(len(cuts))]


def batches_by_length(durations: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Returns batches of utterances of similar length, the longest first, so that too large ones fail at once.

    Args:
        durations: The seconds of each utterance.
        batch_seconds: The seconds in a batch, padding counted.

    Returns:
        The indices of the utterances in each batch.

    Example:
        >>> batches_by_length([1.0, 4.0, 3.0, 9.0], batch_seconds=8.0)
        [[3], [1, 2], [0]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(durations)), key=lambda row: -durations[row]):
        if not batches or (len(batches[-1]) + 1) * durations[batches[-1][0]] > batch_seconds:
            batches.append([])
        batches[-1].append(row)
    return batches


def device_of(accelerator: str) -> torch.device:
    """Returns the device of `trainer.accelerator`: a GPU if there is one, unless it is `cpu`."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def device_of_model(model: ASRModel) -> torch.device:
    """Returns the device of a model's weights."""
    return next(model.parameters()).device
