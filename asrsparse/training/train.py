"""Prepared cuts -> a trained, averaged model: cuts -> pruner -> model and masks -> batches -> training -> average."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lhotse import CutSet
from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.files import read_json, write_text
from asrsparse.masks import SparseMasks
from asrsparse.masks.partial_updates import AllUpdates
from asrsparse.models.builders import build_model, build_segments
from asrsparse.pruning import DynamicPruner, KeepAll
from asrsparse.pruning.scores import Durations
from asrsparse.training.budget import Budget, EpochPlanner, read_budget
from asrsparse.training.callbacks import Stopwatch
from asrsparse.training.datamodule import SpeechDataModule
from asrsparse.training.finish import finish
from asrsparse.training.fit import fit
from asrsparse.training.initial_weights import load_initial_weights
from asrsparse.training.lightning_module import ASRLightningModule
from asrsparse.training.position import Position
from asrsparse.training.run_dir import check_utterances, claim_utterances, differences

logger = logging.getLogger(__name__)


def train(config: DictConfig, command: str) -> dict[str, Any]:
    """Trains the system of a configuration, or resumes its training; a finished one is not trained again.

    Args:
        config: The composed configuration.
        command: The command that started the training, for the record.

    Returns:
        The content of `train.json`: hours of speech, seconds, density, parameters and so on.

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
    pruner = build_pruner(config, train_cuts.ids.to_pylist(), train_cuts.durations)
    module = build_module(config, pruner, tokenizer, read_budget(config, run_dir))
    data = build_data(config, train_cuts, read_cuts(cuts_dir, "dev"), tokenizer, module)
    stopwatch = Stopwatch()
    fit(config, run_dir, module, data, stopwatch)
    return finish(config, run_dir, module, stopwatch, command)


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


def open_train_cuts(config: DictConfig) -> CutIndex:
    """Returns the training cuts of a configuration: all prepared ones, or those up to `trainer.max_seconds`.

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


def build_module(
    config: DictConfig, pruner: DynamicPruner, tokenizer: Tokenizer, budget: Budget | None = None
) -> ASRLightningModule:
    """Builds the training step of a configuration: the model with its initial weights, its masks, and the optimiser."""
    model = build_model(config, tokenizer.vocab_size, build_segments(config, pruner.table))
    load_initial_weights(model, config.init_from, config.init_streams)
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
        updates=AllUpdates() if config.optim.updates is None else build(config.optim.updates),
        budget=budget,
    )


def build_data(
    config: DictConfig, train_cuts: CutIndex, dev_cuts: CutSet, tokenizer: Tokenizer, module: ASRLightningModule
) -> SpeechDataModule:
    """Builds the batches of a configuration for `module`, with which they share the pruner and the position.

    Raises:
        ValueError: If the module has a budget that is shorter than an epoch.
    """
    planned = (module.pruner, module.model.segments, module.position)
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
        planner=None if module.budget is None else EpochPlanner(module.budget, *planned),
    )
