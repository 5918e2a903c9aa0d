"""The files of the log of masks, which a training writes and `asrsparse report masks` reads.

    masks/epoch_NNN.parquet      a row for each layer and measurement, see `SCHEMA`
    masks/histogram_NNN.parquet  a row for each layer, after the epoch, see `HISTOGRAM_SCHEMA`
    masks/flops.json             FLOPs of the training on a second of speech, and the number of parameters

Each epoch's files hold what was measured in it, also if the run was resumed within the epoch.
"""

import pyarrow as pa

LOG = "masks/epoch_*.parquet"
"""The measurements of a run, within its folder."""

HISTOGRAMS = "masks/histogram_*.parquet"
"""The histograms of a run, within its folder."""

FLOPS = "flops.json"
"""The name of the file of FLOPs, within the folder `masks`."""

NUM_BINS = 64
"""The number of bins of a histogram."""

SCHEMA = pa.schema(
    {
        "step": pa.int64(),  # the update before which it was measured, from 1
        "progress": pa.float64(),
        "phase": pa.string(),  # of the masks
        "layer": pa.string(),  # the weight's name in the plain model's state dict
        "size": pa.int64(),  # the number of its weights, before a compaction
        "masked": pa.bool_(),  # whether it has, or had, a mask
        "density": pa.float64(),  # the share that the mask keeps, or that a compaction left; 1 without either
        "changed": pa.float64(),  # the share of bits that differ from the last measurement; null at the first
        "grad_norm": pa.float64(),  # of what the optimiser trains, before clipping; null without a gradient
        "grad_norm_kept": pa.float64(),  # of those entries alone that the mask keeps
        "weight_norm": pa.float64(),  # of the weights that the model computes with
    }
)


HISTOGRAM_SCHEMA = pa.schema(
    {
        "phase": pa.string(),
        "layer": pa.string(),
        "zeros": pa.int64(),  # weights that are exactly zero; the bins have the others
        "limit": pa.float64(),  # the bins part [-limit, limit] evenly
        "counts": pa.list_(pa.int64(), NUM_BINS),
    }
)
