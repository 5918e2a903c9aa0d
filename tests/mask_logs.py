"""Logs of masks, written by hand: a model of two layers whose numbers can be computed by hand."""

import pyarrow as pa
import pyarrow.parquet as pq

from asrsparse.files import write_json, write_text
from asrsparse.training.mask_log_files import HISTOGRAM_SCHEMA, NUM_BINS, SCHEMA

SIZES = {"block.linear.weight": 300, "out.weight": 100}
PARAMETERS = 500
FLOPS = {"parameters": PARAMETERS, "dense": 100.0, "layers": {"block.linear.weight": 60.0, "out.weight": 30.0}}
HOURS = 2.0
SPARSE = [("learning", 1.0), ("learning", 0.6), ("sparse", 0.5), ("sparse", 0.5)]
DENSE = [("dense", None)] * 4


def write_run(run_dir, measured, regime="dense"):
    """Writes what two epochs leave behind, of four measurements at each quarter of the training.

    Args:
        run_dir: The folder.
        measured: Phase and density of the first layer at each measurement; None where nothing is masked.
        regime: Of the masks.
    """
    (run_dir / "masks").mkdir(parents=True)
    write_text(run_dir / "config.yaml", f"seed: 3\nmasks:\n  name: some\n  regime: {regime}\n")
    write_json(run_dir / "masks" / "flops.json", FLOPS | {"rest": 10.0})
    rows = [_row(number, name, *measured[number]) for number in range(4) for name in SIZES]
    for epoch in range(2):
        table = pa.Table.from_pylist(rows[4 * epoch : 4 * epoch + 4], SCHEMA)
        heard = {"hours_heard": repr(HOURS * (epoch + 1) / 2)}
        pq.write_table(table.replace_schema_metadata(heard), run_dir / "masks" / f"epoch_{epoch:03d}.parquet")
        bars = [_bars(name, measured[2 * epoch + 1][0]) for name in SIZES]
        path = run_dir / "masks" / f"histogram_{epoch:03d}.parquet"
        pq.write_table(pa.Table.from_pylist(bars, HISTOGRAM_SCHEMA), path)


def _row(number, name, phase, density):
    masked = density is not None and name == "block.linear.weight"
    norms = {"grad_norm": 0.1 * (1 + number), "grad_norm_kept": 0.1, "weight_norm": 3.0}
    return {
        **{"step": 10 * number + 1, "progress": (number + 1) / 4, "phase": phase, "layer": name, "size": SIZES[name]},
        **{"masked": masked, "density": density if masked else 1.0, "changed": 0.1 if number else None},
        **norms,
    }


def _bars(name, phase):
    zeros = SIZES[name] // 2 if phase == "sparse" else 0
    counts = [0] * (NUM_BINS - 1) + [SIZES[name] - zeros]
    return {"phase": phase, "layer": name, "zeros": zeros, "limit": 0.5, "counts": counts}
