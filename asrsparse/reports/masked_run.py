"""The log of masks of a run.

    masks/epoch_NNN.parquet      a row for each layer and measurement, see `SCHEMA`
    masks/histogram_NNN.parquet  a row for each layer, after the epoch, see `HISTOGRAM_SCHEMA`
    masks/flops.json             FLOPs of the training on a second of speech, and the number of parameters

The files of an epoch hold all that was measured in it, also where the run was stopped and resumed in between.

Shape legend: S measurements, M layers whose weight may have a mask.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asrsparse.files import read_json
from asrsparse.reports.run_logs import read_log
from asrsparse.training.flops import Flops
from asrsparse.training.mask_log_files import FLOPS, HISTOGRAM_SCHEMA, HISTOGRAMS, LOG, SCHEMA

MEASURED = ("density", "changed", "grad_norm", "grad_norm_kept", "weight_norm")
"""The columns of the log with a number for each layer."""

SOFT_PHASES = ("learning", "following", "shrinking")
"""The phases that compute with all weights, or with the gradients of all, whatever the density of the masks is."""


@dataclass(frozen=True)
class MaskedRun:
    """The contents of the log of a run.

    Attributes:
        name: The name of the run's folder.
        steps: The number of the update at each measurement (S,).
        progress: The share of the training that was done by then (S,).
        phases: The phase of the masks at each measurement, S names.
        layers: The names of the M weights.
        sizes: The number of elements of each weight (M,).
        masked: Which weights have, or had, a mask (M,).
        values: The measured values (S, M) by column of the log; NaN where they are unknown.
        histograms: For each epoch, the columns of the histograms after it.
        flops: The FLOPs of the training on a second of speech.
        parameters: The number of parameters of the model, masked or not.
        hours_heard: The hours of speech that were processed until the end of the last epoch.
    """

    name: str
    steps: NDArray[np.int64]
    progress: NDArray[np.float64]
    phases: list[str]
    layers: list[str]
    sizes: NDArray[np.int64]
    masked: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]
    histograms: list[dict[str, list[Any]]]
    flops: Flops
    parameters: int
    hours_heard: float

    @property
    def density(self) -> NDArray[np.float64]:
        """The share of each weight that its mask keeps (S, M)."""
        return self.values["density"]

    @property
    def overall_density(self) -> NDArray[np.float64]:
        """The share of all parameters that no mask removes (S,)."""
        return 1.0 - (1.0 - self.density) @ self.sizes / self.parameters

    def over_masked(self, column: str) -> NDArray[np.float64]:
        """Returns the mean of a share over all elements of the masked weights (S,); NaN if nothing is masked."""
        if not self.masked.any():
            return np.full(len(self.steps), np.nan)
        return np.asarray(np.average(self.values[column], axis=1, weights=self.sizes * self.masked))

    def time_average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the mean of (S, ...) over the training; a measurement counts for the speech since the one before."""
        return np.asarray(np.average(values, axis=0, weights=np.diff(self.progress, prepend=0.0).clip(min=0.0)))

    @property
    def flops_dense(self) -> float:
        """The FLOPs of the training so far if nothing had been masked."""
        return 3600 * self.hours_heard * self.flops.dense

    @property
    def flops_effective(self) -> float:
        """The FLOPs of the training so far if zeros of binary masks cost nothing. Simulated: they do cost."""
        soft = np.isin(self.phases, SOFT_PHASES)
        mean = self.time_average(np.where(soft[:, None], 1.0, self.density))
        return 3600 * self.hours_heard * self.flops.effective(dict(zip(self.layers, mean.tolist(), strict=True)))


def read_masked_run(run_dir: Path) -> MaskedRun:
    """Reads the log of a run.

    Raises:
        ValueError: If a file is missing or damaged, or epochs are of different models.
    """
    tables = [read_log(path, SCHEMA.names) for path in sorted(run_dir.glob(LOG))]
    columns = _columns(pa.concat_tables(tables), run_dir)
    flops = _read_flops(run_dir / "masks" / FLOPS)
    return MaskedRun(
        name=run_dir.name,
        steps=columns["step"][:, 0],
        progress=columns["progress"][:, 0],
        phases=columns["phase"][:, 0].tolist(),
        layers=columns["layer"][0].tolist(),
        sizes=columns["size"][0],
        masked=np.asarray(columns["masked"].any(axis=0)),
        values={name: columns[name] for name in MEASURED},
        histograms=[read_log(path, HISTOGRAM_SCHEMA.names).to_pydict() for path in sorted(run_dir.glob(HISTOGRAMS))],
        flops=Flops(flops["layers"], flops["rest"]),
        parameters=flops["parameters"],
        hours_heard=float(tables[-1].schema.metadata[b"hours_heard"]),
    )


def _columns(table: pa.Table, run_dir: Path) -> dict[str, NDArray[Any]]:
    """All columns as (S, M)."""
    steps, layers = table["step"].to_numpy(), table["layer"].to_numpy()
    num_layers = int((steps == steps[0]).sum())
    num_measured = len(steps) // num_layers
    if not np.array_equal(layers, np.tile(layers[:num_layers], num_measured)):
        raise ValueError(f"{run_dir}/masks/ holds epochs of different models. Train the run again.")
    return {name: table[name].to_numpy().reshape(num_measured, num_layers) for name in table.column_names}


def _read_flops(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"No {path}, which `asrsparse train` writes on the first batch. Train the run again.")
    return read_json(path)
