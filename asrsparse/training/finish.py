"""The end of a training: the averaged model, and the record of what the training cost."""

import logging
import resource
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from asrsparse.environment import environment
from asrsparse.files import read_json, write_json
from asrsparse.masks import SparseMasks
from asrsparse.masks.compact import compact, fit_to, num_parameters
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import save_weights
from asrsparse.training.budget import BUDGET
from asrsparse.training.callbacks import Stopwatch
from asrsparse.training.checkpoints import average, averageable, read_snapshots
from asrsparse.training.lightning_module import ASRLightningModule

logger = logging.getLogger(__name__)


def finish(
    config: DictConfig, run_dir: Path, module: ASRLightningModule, stopwatch: Stopwatch, command: str
) -> dict[str, Any]:
    """Averages the snapshots to `model.safetensors`, and writes `train.json`.

    Its densities, shares in [0, 1]:

    * `density`: of all parameters, those that are left in `model.safetensors`.
    * `density_of_masked`: of the parameters on which masks decided, those that are left there; 1 without masks.
    * `density_at_exit`: of the latter, those that the masks kept when they left. After an exit to fixed zeros, it is
      `density_of_masked`.

    Args:
        config: The composed configuration.
        run_dir: The folder of the run.
        module: The training step, after the last epoch.
        stopwatch: Has counted the seconds of training.
        command: The command that started the training, for the record.

    Returns:
        The content of `train.json`.
    """
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
        "budget": read_json(run_dir / BUDGET) if (run_dir / BUDGET).is_file() else None,
        "density_at_exit": module.masks.exit_summary.get("density"),
        "masks": config.masks.name,
        "parameters": module.masks.num_parameters,
        "peak_memory_gib": peak_memory_gib(),
        "environment": environment(),
    }
    if module.global_rank == 0:
        record |= _write_model(config, run_dir, module.model.vocab_size, module.masks)
        write_json(run_dir / "train.json", record)
        logger.info(
            "%s is trained: %.2f h of speech in %.0f s.", run_dir, record["hours_heard"], record["train_seconds"]
        )
    return record


def _write_model(config: DictConfig, run_dir: Path, vocab_size: int, masks: SparseMasks) -> dict[str, Any]:
    """Writes the average of the snapshots, compacted with `masks.compact`; returns its densities and its size."""
    snapshots = averageable(read_snapshots(run_dir / "snapshots"))
    model = build_model(config, vocab_size)
    before = num_parameters(model)
    weights = average(snapshots, masks.weight_masks())
    fit_to(model, weights)  # of a model that was compacted in training
    model.load_state_dict(weights)
    if config.masks.compact:
        compact(model)
    after = num_parameters(model)
    if after < before:
        logger.info("%s is compacted: %d of %d parameters are left.", run_dir, after, before)
    epochs = ",".join(str(s.epoch) for s in snapshots)
    save_weights(run_dir / "model.safetensors", model.state_dict(), {"epochs": epochs})
    return {
        "density": masks.overall_density_of(weights),
        "density_of_masked": masks.density_of(weights),
        "parameters_compacted": after,
    }


def peak_memory_gib() -> float:
    """Returns the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
