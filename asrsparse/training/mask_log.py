"""Measures masks, weights and gradients during a training, dense ones too; `mask_log_files` says what is written.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from asrsparse.data.batch import Batch
from asrsparse.files import atomic_path, write_json
from asrsparse.masks.layers import maskable_layers, trained_weight, weight_of
from asrsparse.training.flops import count_flops
from asrsparse.training.lightning_module import ASRLightningModule
from asrsparse.training.mask_log_files import FLOPS, HISTOGRAM_SCHEMA, NUM_BINS, SCHEMA

MEASUREMENTS_PER_EPOCH = 4


class MaskLog(L.Callback):
    """Measures at the first update, and then four times in an epoch; counts FLOPs on the first batch.

    It does not change the training. Only rank 0 measures, since all ranks hold the same weights, masks and
    gradients.

    Args:
        folder: The folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[dict[str, Any]] = []  # of this epoch
        self._quarter = -1  # of the epoch that was measured last; -1 before the first update
        self._bits: dict[str, Tensor] | None = None  # the masks of the last measurement, packed

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: ASRLightningModule, batch: Batch, batch_idx: int
    ) -> None:
        path = self.folder / FLOPS
        if trainer.is_global_zero and not path.is_file():
            model = pl_module.model
            # The count is of one view in evaluation mode.
            seconds = batch.seconds / model.num_views
            with trainer.precision_plugin.train_step_context():
                flops = count_flops(model, lambda: model(batch).total.mean(), seconds)
            write_json(path, {"parameters": pl_module.masks.num_parameters, "dense": flops.dense, **asdict(flops)})

    def on_before_optimizer_step(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: ASRLightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        quarter = _quarter(pl_module)
        if trainer.is_global_zero and quarter > self._quarter:
            self._rows += self._measure(pl_module)
            self._quarter = quarter

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: ASRLightningModule) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        epoch, phase = pl_module.position.epoch, pl_module.masks.phase
        heard = {"hours_heard": repr(pl_module.position.hours_heard)}
        histograms = [{"phase": phase, **row} for row in weight_histograms(pl_module.model)]
        _write(self.folder / f"histogram_{epoch:03d}.parquet", pa.Table.from_pylist(histograms, HISTOGRAM_SCHEMA))
        rows = pa.Table.from_pylist(self._rows, SCHEMA).replace_schema_metadata(heard)
        _write(self.folder / f"epoch_{epoch:03d}.parquet", rows)
        self._rows, self._quarter = [], 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows, "quarter": self._quarter, "bits": self._bits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows, self._quarter = list(state_dict["rows"]), state_dict["quarter"]
        self._bits = state_dict["bits"]

    def _measure(self, module: ASRLightningModule) -> list[dict[str, Any]]:
        """Returns rows of `SCHEMA`, in the model's order."""
        weight_masks = module.masks.weight_masks()
        bits = {name: packed_bits(weight_mask) for name, weight_mask in weight_masks.items()}
        rows = measure(module.model, weight_masks, module.masks.sizes_before_compaction())
        for row in rows:
            name, before = row["layer"], self._bits
            row |= {"step": module.position.steps + 1, "progress": module.progress, "phase": module.masks.phase}
            row["masked"] = name in weight_masks
            row["changed"] = None if before is None else changed_share(before.get(name), bits.get(name), row["size"])
        self._bits = bits
        return rows


def _quarter(module: ASRLightningModule) -> int:
    """Returns how many quarters of the epoch's speech are processed, this update's included."""
    kept_seconds = module.pruner.kept.seconds
    return int(MEASUREMENTS_PER_EPOCH * module.position.epoch_seconds / kept_seconds + 1e-6)  # sums are rounded


@torch.no_grad()
def measure(
    model: nn.Module, weight_masks: Mapping[str, Tensor], sizes_before: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Returns density and norms of all maskable layers, in the model's order.

    The gradient is that of the tensor which the optimiser trains. Under a soft mask it is that of the effective weight
    times the mask, entry by entry.

    Args:
        model: A model after a backward pass.
        weight_masks: The masks by the names of their weights, bool, (O, I, K...) each; True = keep.
        sizes_before: The sizes of weights that a compaction has made smaller, by name. Their density is the share of
            them that is left.
    """
    rows = []
    for name, layer in maskable_layers(model).items():
        gradient, size = _gradient(layer), weight_of(layer).numel()
        size_before = (sizes_before or {}).get(name, size)
        weight_mask = weight_masks.get(name) if size_before == size else None  # all that is left is kept
        kept = gradient if gradient is None or weight_mask is None else gradient * weight_mask
        row = {
            "layer": name,
            "size": size_before,
            "density": size / size_before if weight_mask is None else int(weight_mask.sum()) / weight_mask.numel(),
            "grad_norm": _norm(gradient),
            "grad_norm_kept": _norm(kept),
            "weight_norm": _norm(weight_of(layer)),
        }
        rows.append(row)
    return rows


def _gradient(layer: nn.Module) -> Tensor | None:
    """Returns the gradient of the parameter that the optimiser trains, of which a masked weight is computed."""
    trained = trained_weight(layer)
    return None if trained is None else trained.grad


def _norm(values: Tensor | None) -> float | None:
    return None if values is None else torch.linalg.vector_norm(values.float()).item()


@torch.no_grad()
def weight_histograms(model: nn.Module) -> list[dict[str, Any]]:
    """Returns histograms of the weights with which the model computes, in its order; zeros are counted apart."""
    rows = []
    for name, layer in maskable_layers(model).items():
        weights = weight_of(layer).detach().float().flatten().cpu().numpy()
        others = weights[np.isfinite(weights) & (weights != 0.0)]
        limit = float(np.abs(others).max(initial=0.0))
        counts = np.histogram(others, NUM_BINS, (-limit, limit))[0]
        rows.append({"layer": name, "zeros": int((weights == 0.0).sum()), "limit": limit, "counts": counts.tolist()})
    return rows


def packed_bits(weight_mask: Tensor) -> Tensor:
    """Returns the bits of a mask as uint8, eight in each, on the CPU, (ceil(size / 8),)."""
    return torch.from_numpy(np.packbits(weight_mask.cpu().numpy()))


def changed_share(before: Tensor | None, now: Tensor | None, size: int) -> float:
    """Returns the share of bits that differ between two masks of `packed_bits`; None stands for a mask that keeps all.

    Example:
        >>> changed_share(None, packed_bits(torch.tensor([True, False, True, True])), size=4)
        0.25
    """
    if before is None and now is None:
        return 0.0
    ones = packed_bits(torch.ones(size, dtype=torch.bool))
    different = (ones if before is None else before) ^ (ones if now is None else now)
    return int(np.unpackbits(different.numpy()).sum(dtype=np.int64)) / size


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
