#!/usr/bin/env python3
"""What each kind of unit costs: the time of a training step that goes with hidden units, heads and channels.

    python benchmarks/unit_kinds.py [--models tiny base] [--density 0.5] [--batch 8] [--seconds 15] [--rounds 5]

For each kind a copy of the encoder loses a share of the units of that kind alone, chosen at random, and is compacted.
The encoders go forward and backward through random features in turns, in one process, in training mode, without losses
and optimiser; a first turn does not count. *Saved* is the share of the dense encoder's time that is gone, by the median
of the turns; *per parameter* divides it by the share of the parameters that is gone: above 1, a kind's parameters cost
more time than the mean. Seconds are those that this process had of the processor, on all its threads, which is fair if
other programs use the machine.

Prints a table and one line of JSON.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from asrsparse.config import compose_config
from asrsparse.environment import environment
from asrsparse.masks.compact import compact
from asrsparse.masks.structured import (
    AttentionHeads,
    ConvolutionChannels,
    FeedForwardUnits,
    SubsamplingChannels,
    UnitKind,
    find_units,
)
from asrsparse.models.builders import build_model
from asrsparse.rates import FEATURES_PER_SECOND

KINDS: dict[str, tuple[type[UnitKind], ...]] = {
    "feed-forward": (FeedForwardUnits,),
    "heads": (AttentionHeads,),
    "channels": (ConvolutionChannels,),
    "subsampling": (SubsamplingChannels,),
    "all": (FeedForwardUnits, AttentionHeads, ConvolutionChannels, SubsamplingChannels),
}


def smaller(encoder: nn.Module, kinds: tuple[type[UnitKind], ...], density: float) -> nn.Module:
    """Returns a copy that keeps a share of the units of some kinds, in each module."""
    encoder, generator = copy.deepcopy(encoder), torch.Generator().manual_seed(0)
    for units in find_units(encoder):
        if isinstance(units.kind, kinds):
            num_units, columns = units.kind.num_units(units.module), units.kind.columns_per_unit(units.module)
            kept = torch.randperm(num_units, generator=generator) < round(density * num_units)
            units.kind.gate(units.module).weight.data[:, ~kept.repeat_interleave(columns)] = 0.0
    compact(encoder)
    return encoder


def step(encoder: nn.Module, inputs: tuple[Tensor, Tensor]) -> float:
    """Returns the seconds of the processor that a pass forward and backward takes."""
    encoder.train().zero_grad()
    start = time.process_time()
    encoder(*inputs)[0].square().mean().backward()
    return time.process_time() - start


def num_parameters(encoder: nn.Module) -> int:
    """Returns the number of its parameters."""
    return sum(parameter.numel() for parameter in encoder.parameters())


def measure(model: str, options: argparse.Namespace) -> list[dict[str, float | str]]:
    """Measures the encoders of a model in turns; returns a record for each kind."""
    torch.manual_seed(0)
    dense = build_model(compose_config([f"model={model}"]), vocab_size=100).encoder
    encoders = {"none": dense, **{kind: smaller(dense, kinds, options.density) for kind, kinds in KINDS.items()}}
    num_rows = int(options.seconds * FEATURES_PER_SECOND)
    inputs = (torch.randn(options.batch, num_rows, 80), torch.full((options.batch,), num_rows))
    turns: dict[str, list[float]] = {kind: [] for kind in encoders}
    for _ in track(range(1 + options.rounds), description=model):
        for kind, encoder in encoders.items():
            turns[kind].append(step(encoder, inputs))
    seconds = {kind: statistics.median(times[1:]) for kind, times in turns.items()}
    before = num_parameters(dense)
    return [
        {
            "model": model,
            "kind": kind,
            "seconds": seconds[kind],
            "seconds_dense": seconds["none"],
            "saved": 1 - seconds[kind] / seconds["none"],
            "parameters_gone": 1 - num_parameters(encoders[kind]) / before,
        }
        for kind in KINDS
    ]


def show(options: argparse.Namespace, records: list[dict[str, float | str]]) -> None:
    """Prints the table and the line of JSON."""
    title = f"{options.density:g} of the units stay; forward and backward, {options.batch} x {options.seconds:g} s"
    table = Table("model", "kind", "CPU seconds", "dense", "saved", "parameters gone", "per parameter", title=title)
    for record in records:
        saved, gone = float(record["saved"]), float(record["parameters_gone"])
        seconds = (f"{record['seconds']:.3f}", f"{record['seconds_dense']:.3f}")
        table.add_row(
            str(record["model"]), str(record["kind"]), *seconds, f"{saved:.1%}", f"{gone:.1%}", f"{saved / gone:.2f}"
        )
    Console().print(table)
    record = {"benchmark": "unit_kinds", **vars(options), "rows": records, "environment": environment()}
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="What each kind of unit costs in a training step.")
    parser.add_argument("--models", nargs="+", default=["tiny", "base"], help="models of the configuration")
    parser.add_argument("--density", type=float, default=0.5, help="share of the units of a kind that stay")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of an utterance")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each encoder that count")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show(options, [record for model in options.models for record in measure(model, options)])


if __name__ == "__main__":
    main()
