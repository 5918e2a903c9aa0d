"""Dynamic data pruning in ESPnet2's own trainer: a task whose training epochs train on what the pruner keeps.

It needs an environment in which `espnet2.bin.asr_train` runs. The environment of the recipes lacks some packages that
ESPnet2 imports, and that a recogniser never calls.

Shape legend: N utterances of the training set.
"""

import argparse
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import IteratorOptions
from espnet2.tasks.asr import ASRTask

from asrsparse.files import atomic_path
from asrsparse.pruning import DynamicPruner, EasyToHard, KeptSet, Policy, PruningPlan
from asrsparse.pruning.ranks import rank

logger = logging.getLogger(__name__)


class PrunedASRTask(ASRTask):  # type: ignore[misc]
    """ESPnet2's `ASRTask` with a pruner; its options, batches and files are those of ESPnet2.

    Scores are CTC losses per token, so `ctc_weight` must be above 0. The state of the pruner after each epoch is in
    `<output_dir>/pruner/`, where `--resume true` finds it.

    Attributes:
        policy: Which part an epoch keeps. Policies that weight losses are refused, since the loss is ESPnet2's own.
        pruner: The pruner of the training that runs.
    """

    policy: ClassVar[Policy] = EasyToHard(0.7)
    pruner: ClassVar[DynamicPruner]

    @classmethod
    def build_pruner(cls, args: argparse.Namespace, ids: Sequence[str], lengths: Sequence[float]) -> DynamicPruner:
        """Makes the pruner, with one warm-up epoch and no final epochs; a subclass overrides it for another plan.

        Args:
            args: ESPnet2's options.
            ids: N utterance ids of the training set.
            lengths: The lengths of the utterances (N,) in the unit of the shape file.
        """
        plan = PruningPlan(num_epochs=args.max_epoch, warmup_epochs=1, final_epochs=0)
        return DynamicPruner(ids, lengths, cls.policy, plan, seed=args.seed)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        """Builds ESPnet2's model, with hooks that report its CTC losses to the pruner.

        Args:
            args: ESPnet2's options.

        Raises:
            ValueError: If the CTC weight is 0.
        """
        model: Any = super().build_model(args)
        if not model.ctc_weight > 0.0:
            raise ValueError(f"ctc_weight: got {model.ctc_weight}, allowed is above 0: scores are CTC losses.")
        _Scoring(model, cls)
        return model

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, mode: str
    ) -> AbsIterFactory:
        """Builds the batches of an epoch from what the pruner keeps, with ESPnet2's own samplers.

        Args:
            args: ESPnet2's options.
            iter_options: ESPnet2's options of the iterator, with its shape files.
            mode: `train` for training; other iterators are ESPnet2's own.
        """
        if mode != "train":
            return super().build_sequence_iter_factory(args, iter_options, mode)
        shapes = dict(line.split(maxsplit=1) for line in Path(iter_options.shape_files[0]).read_text().splitlines())
        lengths = [float(shape.split(",")[0]) for shape in shapes.values()]
        cls.pruner = cls.build_pruner(args, list(shapes), lengths)
        return _KeptIterFactory(cls, super().build_sequence_iter_factory, args, iter_options)


class _Scoring:
    """Hooks on a model that report the CTC loss of each utterance in training, and return the sum ESPnet2 expects."""

    def __init__(self, model: Any, task: type[PrunedASRTask]) -> None:
        self.model = model
        self.task = task
        self.ids: Sequence[str] | None = None
        model.ctc.reduce = False
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.ctc.register_forward_hook(self._record)

    def _begin(self, model: torch.nn.Module, args: Any, kwargs: Any) -> None:
        self.ids = kwargs.get("utt_id") if model.training else None

    def _record(self, ctc: torch.nn.Module, args: Any, losses: torch.Tensor) -> torch.Tensor:
        # ESPnet2 divides each loss by the number of utterances, so that their sum is the mean.
        if self.ids is not None:
            self.task.pruner.observe(self.ids, losses * len(losses) / args[3])
            self.ids = None  # intermediate CTC losses of the same batch are no scores
        return losses.sum()


class _KeptIterFactory(AbsIterFactory):  # type: ignore[misc]
    """Makes the batches of an epoch from shape files that list only what it keeps."""

    def __init__(
        self, task: type[PrunedASRTask], build: Any, args: argparse.Namespace, options: IteratorOptions
    ) -> None:
        self.task = task
        self.build = build
        self.args = args
        self.options = options
        self.folder = Path(args.output_dir) / "pruner"

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[Any]:
        """Yields the batches of an epoch; ESPnet2 counts epochs from 1."""
        pruner, before = self.task.pruner, self._state_after(epoch - 1)
        if self.args.resume and before.is_file():
            pruner.load_state_dict(torch.load(before, weights_only=True))
        kept = pruner.start_epoch(epoch - 1)
        if kept.weights is not None:
            raise ValueError(
                f"policy: got {type(pruner.policy).__name__}, which weights losses; allowed are policies that do not, "
                "since the loss is ESPnet2's own."
            )
        logger.info("epoch %d keeps %d utterances (%.0f %%)", epoch, len(kept), 100 * kept.share)
        with tempfile.TemporaryDirectory() as folder:
            shape_files = [_kept_lines(Path(path), kept, Path(folder)) for path in self.options.shape_files]
            options = dataclasses.replace(self.options, shape_files=shape_files)
            batches = self.build(self.args, options, "train").build_iter(epoch, shuffle)
        yield from batches
        self._end_epoch(epoch)

    def _end_epoch(self, epoch: int) -> None:
        """Ends an epoch: runs when the trainer asks for a batch after the last one, so that all are trained on."""
        self.task.pruner.end_epoch()
        logger.info("epoch %d: %s", epoch, self.task.pruner.audit)
        state = self.task.pruner.state_dict()
        if rank() == 0:
            with atomic_path(self._state_after(epoch)) as temporary:
                torch.save(state, temporary)

    def _state_after(self, epoch: int) -> Path:
        return Path(self.args.output_dir) / "pruner" / f"after_epoch_{epoch:03d}.pt"


def _kept_lines(shape_file: Path, kept: KeptSet, folder: Path) -> str:
    """Writes the lines of a shape file whose utterances are kept."""
    lines = [line for line in shape_file.read_text().splitlines() if line.split(maxsplit=1)[0] in kept]
    path = folder / shape_file.name
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)
