"""Prepared cuts -> a trained, averaged model: reads the configuration, builds the parts, lets Lightning run them."""

import logging
import os
import resource
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lhotse import CutSet
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.environment import environment
from asrsparse.files import read_json, write_json, write_text
from asrsparse.masks import SparseMasks
from asrsparse.masks.compact import compact
from asrsparse.models.builders import build_model, build_segments
from asrsparse.models.weights import save_weights
from asrsparse.pruning import DynamicPruner, KeepAll
from asrsparse.pruning.scores import Durations
from asrsparse.training.callbacks import (
    EpochLog,
    PruningLog,
    ResumeCheckpoint,
    Snapshots,
    StopOnSignal,
    Stopwatch,
)
from asrsparse.training.checkpoints import AmongLast, SnapshotChoice, average, read_snapshots
from asrsparse.training.datamodule import SpeechDataModule
from asrsparse.training.initial_weights import begin_with
from asrsparse.training.lightning_module import LOG_EVERY_STEPS, ASRLightningModule
from asrsparse.training.mask_log import MaskLog
from asrsparse.training.position import Position
from asrsparse.training.run_dir import check_utterances, claim_utterances, differences

logger = logging.getLogger(__name__)


def train(config: DictConfig, command: str) -> dict[str, Any]:
    """Trains the system of a configuration, or goes on with it; a finished one is not trained again.

    Args:
        config: The composed configuration.
        command: The command that led here, for the record.

    Returns:
        What `train.json` holds: hours heard, seconds, density, parameters and so on.

    Raises:
        ValueError: If the run's folder holds a run of another configuration or with other utterances, or the
            configuration is wrong.
        Interrupted: If a signal stopped the training, after a checkpoint was written.
    """
    run_dir = Path(config.run_dir)
    _claim(run_dir, config)
    cuts_dir = Path(config.data_dir) / "cuts"
    if (run_dir / "train.json").is_file() and (run_dir / "model.safetensors").is_file():
        if cuts_path(cuts_dir, "train").is_file():  # else the run was moved here without its data
            check_utterances(run_dir, open_train_cuts(config))
        logger.info("%s is already trained.", run_dir)
        return dict(read_json(run_dir / "train.json"))
    L.seed_everything(config.seed, verbose=False)
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)
    tokenizer = load_tokenizer(cuts_dir)
    train_cuts = open_train_cuts(config)
    claim_utterances(run_dir, train_cuts)
    module = build_module(config, train_cuts, tokenizer)
    data = build_data(config, train_cuts, read_cuts(cuts_dir, "dev"), tokenizer, module)
    stopwatch = Stopwatch()
    _fit(config, run_dir, module, data, stopwatch)
    return _finish(config, run_dir, module, stopwatch, command)


def open_train_cuts(config: DictConfig) -> CutIndex:
    """The training cuts of a configuration: all that are prepared, or the short ones of a curriculum.

    Raises:
        ValueError: If they were never prepared, or none is so short.
    """
    cuts = CutIndex.open(cuts_path(Path(config.data_dir) / "cuts", "train"))
    return cuts if config.trainer.max_seconds is None else cuts.up_to(config.trainer.max_seconds)


def build_pruner(config: DictConfig, ids: Sequence[str], durations: Durations) -> DynamicPruner:
    """The pruner of a configuration over the training utterances."""
    policy = build(config.pruning.policy)
    if isinstance(policy, KeepAll) and config.pruning.keep_ratio != 1.0:
        logger.warning(
            "pruning.keep_ratio: got %s, which pruning=none ignores: it keeps all speech. Choose a policy that prunes, "
            "for example pruning=easy2hard.",
            config.pruning.keep_ratio,
        )
    return DynamicPruner(
        ids,
        durations,
        policy=policy,
        plan=build(config.pruning.plan),
        seed=config.seed,
        smoothing=config.pruning.smoothing,
    )


def build_module(config: DictConfig, train_cuts: CutIndex, tokenizer: Tokenizer) -> ASRLightningModule:
    """Model, masks, pruner and optimiser of a configuration, ready to train."""
    pruner = build_pruner(config, train_cuts.ids.to_pylist(), train_cuts.durations)
    model = build_model(config, tokenizer.vocab_size, build_segments(config, pruner.table))
    begin_with(model, config.init_from, config.init_streams)
    return ASRLightningModule(
        model,
        masks=SparseMasks.attach(model, build(config.masks.method)),
        pruner=pruner,
        position=Position(),
        optimizer=build(config.optim.optimizer),
        lr_schedule=build(config.optim.lr_schedule),
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
        to_text=tokenizer.decode,
    )


def build_data(
    config: DictConfig, train_cuts: CutIndex, dev_cuts: CutSet, tokenizer: Tokenizer, module: ASRLightningModule
) -> SpeechDataModule:
    """The data module that feeds `module`; they share the pruner and the position."""
    return SpeechDataModule(
        train_cuts,
        dev_cuts,
        tokenizer.encode,
        pruner=module.pruner,
        position=module.position,
        batch_seconds=config.trainer.batch_seconds,
        num_buckets=config.trainer.num_buckets,
        num_workers=config.trainer.num_workers,
        seed=config.seed,
        modalities=module.model.modalities,
        noise=build(config.noise),
    )


def _fit(
    config: DictConfig, run_dir: Path, module: ASRLightningModule, data: SpeechDataModule, stopwatch: Stopwatch
) -> None:
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
        max_epochs=config.trainer.num_epochs,
        accumulate_grad_batches=config.trainer.accumulate,
        gradient_clip_val=config.trainer.clip,
        logger=TensorBoardLogger(run_dir, name="", version="tensorboard"),
        callbacks=[
            stopwatch,
            TQDMProgressBar(refresh_rate=10 if sys.stderr.isatty() else 0),
            EpochLog(config.name, config.trainer.num_epochs, stopwatch),
            PruningLog(run_dir / "pruning", data.train_cuts.ids),
            MaskLog(run_dir / "masks"),
            Snapshots(run_dir / "snapshots", _averaged(config, module)),
            StopOnSignal(checkpoint),
            checkpoint,
        ],
        use_distributed_sampler=False,  # lhotse's samplers part the batches among ranks themselves
        reload_dataloaders_every_n_epochs=1,  # a loader serves one epoch: its kept set
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=LOG_EVERY_STEPS,
    )
    resume_from = checkpoint.path if checkpoint.path.is_file() else None
    if resume_from is not None:
        logger.info("going on from %s", resume_from)
    trainer.fit(module, data, ckpt_path=resume_from, weights_only=True)


def _averaged(config: DictConfig, module: ASRLightningModule) -> SnapshotChoice:
    """Which epochs are averaged; only those that hear all time, where the last ones do and the others do not."""
    choice: SnapshotChoice = build(config.trainer.average)
    final_epochs = module.model.segments.final_epochs
    return AmongLast(choice, final_epochs) if final_epochs else choice


def _strategy(module: ASRLightningModule, num_ranks: int) -> str:
    if num_ranks == 1:
        return "auto"
    # Once masks are learned, their logits get no gradient any more, and DDP would wait for it.
    return "ddp_find_unused_parameters_true" if module.masks.num_masked else "ddp"


def _quieten_lightning() -> None:
    """Leaves what concerns the user: not Lightning's advertising, nor its notes on what is meant here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")


def _finish(
    config: DictConfig, run_dir: Path, module: ASRLightningModule, stopwatch: Stopwatch, command: str
) -> dict[str, Any]:
    """Averages the snapshots and records what the training cost."""
    record = {
        "name": config.name,
        "command": command,
        "seed": config.seed,
        "init_from": config.init_from,
        "init_streams": dict(config.init_streams),
        "epochs": module.position.epoch,
        "steps": module.position.steps,
        "hours_heard": module.position.hours_heard,
        "train_seconds": stopwatch.seconds,
        "density": module.masks.overall_density,
        "density_at_exit": module.masks.exit_summary.get("density"),
        "masks": config.masks.name,
        "parameters": module.masks.num_parameters,
        "peak_memory_gib": peak_memory_gib(),
        "environment": environment(),
    }
    if module.global_rank == 0:
        record["parameters_compacted"] = _write_model(config, run_dir, module.model.vocab_size)
        write_json(run_dir / "train.json", record)
        logger.info("%s is trained: %.2f h heard in %.0f s.", run_dir, record["hours_heard"], record["train_seconds"])
    return record


def _write_model(config: DictConfig, run_dir: Path, vocab_size: int) -> int:
    """Writes the average of the snapshots, compacted if `masks.compact` says so; returns its number of parameters."""
    snapshots = read_snapshots(run_dir / "snapshots")
    model = build_model(config, vocab_size)
    model.load_state_dict(average(snapshots))
    if config.masks.compact:
        compaction = compact(model)
        logger.info(
            "%s is compacted: %d of %d parameters are left.",
            run_dir,
            compaction.parameters_after,
            compaction.parameters_before,
        )
    epochs = ",".join(str(s.epoch) for s in snapshots)
    save_weights(run_dir / "model.safetensors", model.state_dict(), {"epochs": epochs})
    return sum(parameter.numel() for parameter in model.parameters())


def resolve_precision(precision: str, accelerator: str) -> Any:
    """Turns `auto` into bf16 where the processor computes in it natively, else float32; leaves other values alone.

    On a CPU without AVX-512 BF16, bf16 is emulated and slower than float32.
    """
    if precision != "auto":
        return precision
    on_gpu = torch.cuda.is_available() and accelerator != "cpu"
    native = torch.cuda.is_bf16_supported(False) if on_gpu else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _claim(run_dir: Path, config: DictConfig) -> None:
    """Makes the folder of a run and writes its configuration there, or checks that it holds the same run."""
    path = run_dir / "config.yaml"
    if path.is_file():
        if different := differences(run_dir, config):
            raise ValueError(
                f"{run_dir} holds a run with another configuration ({'; '.join(different[:5])}). Give this run another "
                f"name (name=NAME), or delete the folder to train it anew."
            )
    elif int(os.environ.get("RANK", "0")) == 0:
        write_text(path, OmegaConf.to_yaml(config))
    if int(os.environ.get("RANK", "0")) == 0:
        handler = logging.FileHandler(run_dir / "train.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        logging.getLogger("asrsparse").addHandler(handler)
