"""The training itself: Lightning's trainer with the callbacks of a run, from its beginning or from a checkpoint."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from asrsparse.config import build
from asrsparse.training.callbacks import (
    EpochLog,
    PruningLog,
    ResumeCheckpoint,
    Snapshots,
    StopOnSignal,
    Stopwatch,
)
from asrsparse.training.checkpoints import AmongLast, SnapshotChoice
from asrsparse.training.datamodule import SpeechDataModule
from asrsparse.training.lightning_module import LOG_EVERY_STEPS, ASRLightningModule
from asrsparse.training.mask_log import MaskLog

logger = logging.getLogger(__name__)


def fit(
    config: DictConfig, run_dir: Path, module: ASRLightningModule, data: SpeechDataModule, stopwatch: Stopwatch
) -> None:
    """Trains from the beginning, or from the checkpoint of the run's folder.

    Args:
        config: The composed configuration.
        run_dir: The folder of the run, which gets checkpoints, snapshots and logs.
        module: The training step.
        data: The batches.
        stopwatch: Counts the seconds of training.

    Raises:
        Interrupted: If a signal stopped the training, after a checkpoint was written.
    """
    _quieten_lightning()
    checkpoint = ResumeCheckpoint(run_dir / "last.ckpt", config.trainer.save_every_steps)
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    num_local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    trainer = L.Trainer(
        accelerator=config.trainer.accelerator,
        devices=num_local_ranks,
        num_nodes=num_ranks // num_local_ranks,
        strategy=_strategy(module, num_ranks),
        precision=resolve_precision(config.trainer.precision, config.trainer.accelerator),
        max_epochs=config.trainer.num_epochs if module.budget is None else -1,  # until the budget ends it
        accumulate_grad_batches=config.trainer.accumulate,
        gradient_clip_val=config.trainer.clip,
        logger=TensorBoardLogger(run_dir, name="", version="tensorboard"),
        callbacks=[
            stopwatch,
            TQDMProgressBar(refresh_rate=10 if sys.stderr.isatty() else 0),
            EpochLog(config.name, stopwatch),
            PruningLog(run_dir / "pruning", data.train_cuts.ids),
            MaskLog(run_dir / "masks"),
            Snapshots(run_dir / "snapshots", _averaged(config, module)),
            StopOnSignal(checkpoint),
            checkpoint,
        ],
        use_distributed_sampler=False,  # the sampler of an epoch divides the batches among the ranks itself
        reload_dataloaders_every_n_epochs=1,  # a loader serves one epoch: its kept set
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=LOG_EVERY_STEPS,
    )
    resume_from = checkpoint.path if checkpoint.path.is_file() else None
    if resume_from is not None:
        logger.info("resuming from %s", resume_from)
    trainer.fit(module, data, ckpt_path=resume_from, weights_only=True)


def _averaged(config: DictConfig, module: ASRLightningModule) -> SnapshotChoice:
    """Returns the choice of the epochs to average; where only the last epochs keep all time, it is made among them."""
    choice: SnapshotChoice = build(config.trainer.average)
    final_epochs = module.model.segments.final_epochs
    return AmongLast(choice, final_epochs) if final_epochs else choice


def _strategy(module: ASRLightningModule, num_ranks: int) -> str:
    """Returns Lightning's name of the way to train on several ranks."""
    if num_ranks == 1:
        return "auto"
    # Once masks are learned, their logits get no gradient any more, and DDP would wait for it.
    return "ddp_find_unused_parameters_true" if module.masks.num_masked else "ddp"


def _quieten_lightning() -> None:
    """Silences Lightning's advertising, and its warnings about settings that are intended here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")


def resolve_precision(precision: str, accelerator: str) -> Any:
    """Returns Lightning's name of a precision: `auto` is bf16 where the processor computes in it, else float32.

    On a CPU without AVX-512 BF16, bf16 is emulated and slower than float32.
    """
    if precision != "auto":
        return precision
    on_gpu = torch.cuda.is_available() and accelerator != "cpu"
    native = torch.cuda.is_bf16_supported(False) if on_gpu else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native else "32-true"
