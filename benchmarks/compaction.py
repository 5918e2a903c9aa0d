#!/usr/bin/env python3
"""Seconds that an encoder takes: dense, with units zeroed, and compacted, by precision.

    python benchmarks/compaction.py [--model base] [--density 0.5] [--batch 8] [--seconds 15] [--rounds 5] [--train]

The encoder is that of a configuration. `zeros` has random units of each kind zeroed at their gates (hidden units,
heads, channels of the blocks and of the subsampling), `compacted` is the same model without them: both compute the
same. Random features go through them in turns, in one process, after one turn that does not count. What the subsampling
takes of a forward pass is measured apart too. bf16 is under autocast, as in training, and measured where the processor
computes in it. `--train` measures forward and backward passes too, with dropout.

Seconds are those of a clock, medians over the turns. CPU seconds are those that this process had of the processor, on
all its threads: the fair figure if other programs use the machine, and no measure of a GPU.

On a GPU (`--device cuda`), `2:4` has the two smallest of every four inputs of each linear layer zeroed, whatever the
density, and torch's semi-structured tensors for weights: forward passes in bf16 only.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from asrsparse.config import compose_config
from asrsparse.environment import environment
from asrsparse.masks.compact import Compaction, compact
from asrsparse.masks.semi_structured import to_semi_structured
from asrsparse.masks.structured import find_units
from asrsparse.models.builders import build_model
from asrsparse.rates import FEATURES_PER_SECOND
from asrsparse.training.fit import resolve_precision

Key = tuple[str, str, str]
"""Task, precision and system."""


class Times(NamedTuple):
    """The seconds that a turn took."""

    clock: float
    cpu: float


def build_encoder(model: str) -> nn.Module:
    """Returns the encoder of a configuration, as training calls it."""
    torch.manual_seed(0)
    return build_model(compose_config([f"model={model}"]), vocab_size=100).encoder


def with_zeros(encoder: nn.Module, density: float) -> nn.Module:
    """Returns a copy that keeps a share of the units of each module; the gate columns of the others are zero."""
    encoder = copy.deepcopy(encoder)
    generator = torch.Generator().manual_seed(0)
    for units in find_units(encoder):
        num_units, num_columns = units.kind.num_units(units.module), units.kind.columns_per_unit(units.module)
        kept = torch.randperm(num_units, generator=generator) < round(density * num_units)
        units.kind.gate(units.module).weight.data[:, ~kept.repeat_interleave(num_columns)] = 0.0
    return encoder


def with_two_of_four(encoder: nn.Module) -> nn.Module:
    """Returns a copy whose linear layers are in bf16 and 2:4, for a GPU that skips the zeros."""
    encoder = copy.deepcopy(encoder)
    for layer in encoder.modules():
        if isinstance(layer, nn.Linear) and layer.in_features % 4 == 0:
            groups = layer.to(torch.bfloat16).weight.data.view(-1, 4)
            groups.scatter_(1, groups.abs().argsort(dim=1)[:, :2], 0.0)
    to_semi_structured(encoder)
    return encoder


def forward(encoder: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
    """Runs the encoder as decoding does."""
    encoder.eval()
    with torch.inference_mode():
        encoded: Tensor = encoder(*inputs)[0]
    return encoded


def subsample(encoder: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
    """Runs the part of `forward` before the blocks."""
    encoder.eval()
    with torch.inference_mode():
        encoder.get_submodule("embed")(inputs[0], None)


def step(encoder: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
    """Runs the encoder forward and backward, as training does, without losses and optimiser."""
    encoder.train().zero_grad()
    encoder(*inputs)[0].float().square().mean().backward()


def precisions(device: str) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """Returns the precisions in which the device can compute, by name: each opens a context."""
    native = resolve_precision("auto", "cpu" if device == "cpu" else "gpu") == "bf16-mixed"
    contexts = {"float32": lambda: torch.autocast(device, enabled=False)}
    return contexts | ({"bf16": lambda: torch.autocast(device, torch.bfloat16)} if native else {})


def is_measured(task: str, precision: str, system: str) -> bool:
    """Returns whether a system is measured: 2:4 weights are in bf16, not trained, and not in the convolutions."""
    return system != "2:4" or (task, precision) == ("forward", "bf16")


def times_of(action: Callable[[], object], device: str) -> Times:
    """Returns how long an action takes, with all that it started on a GPU."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    clock, cpu = time.perf_counter(), time.process_time()
    action()
    wait()
    return Times(time.perf_counter() - clock, time.process_time() - cpu)


def measure(
    encoders: dict[str, nn.Module], inputs: tuple[Tensor, Tensor], options: argparse.Namespace
) -> dict[Key, list[Times]]:
    """Measures all encoders in turns."""
    contexts = precisions(options.device)
    tasks = {"forward": forward, "subsampling": subsample, **({"forward, backward": step} if options.train else {})}
    keys = [(task, precision, system) for task in tasks for precision in contexts for system in encoders]
    turns: dict[Key, list[Times]] = {key: [] for key in keys if is_measured(*key)}
    for _ in track(range(1 + options.rounds), description="computing"):
        for (task, precision, system), times in turns.items():
            with contexts[precision]():
                times.append(times_of(lambda: tasks[task](encoders[system], inputs), options.device))  # noqa: B023
    return {key: times[1:] for key, times in turns.items()}


def largest_difference(one: nn.Module, other: nn.Module, inputs: tuple[Tensor, Tensor]) -> float:
    """Returns the largest difference between the outputs of two encoders, in float32."""
    return (forward(one, inputs) - forward(other, inputs)).abs().max().item()


def speedup(dense: Times, other: Times) -> Times:
    """Returns how many times as fast the other one is."""
    return Times(dense.clock / other.clock, dense.cpu / other.cpu)


def show(options: argparse.Namespace, compaction: Compaction, difference: float, turns: dict[Key, list[Times]]) -> None:
    """Prints the table and the line of JSON."""
    medians = {key: Times(*map(statistics.median, zip(*times, strict=True))) for key, times in turns.items()}
    faster = {key: speedup(medians[key[0], key[1], "dense"], median) for key, median in medians.items()}
    before, after = compaction.parameters_before / 1e6, compaction.parameters_after / 1e6
    title = (
        f"{options.model}: {before:.1f} M parameters, {after:.1f} M compacted; {options.batch} x {options.seconds} s"
    )
    columns = ("task", "precision", "system", "seconds", "times as fast", "CPU seconds", "from", "to", "times as fast")
    table = Table(*columns, title=title)
    for key, times in turns.items():
        clock, cpu = medians[key]
        of_cpu = [f"{number:.3f}" for number in (cpu, min(turn.cpu for turn in times), max(turn.cpu for turn in times))]
        table.add_row(*key, f"{clock:.3f}", f"{faster[key].clock:.2f}", *of_cpu, f"{faster[key].cpu:.2f}")
    Console().print(table)
    record = {
        "benchmark": "compaction",
        **vars(options),
        "parameters": compaction.parameters_before,
        "parameters_compacted": compaction.parameters_after,
        "largest_difference": difference,
        "seconds_of_turns": {", ".join(key): [round(turn.clock, 5) for turn in times] for key, times in turns.items()},
        "cpu_seconds_of_turns": {
            ", ".join(key): [round(turn.cpu, 5) for turn in times] for key, times in turns.items()
        },
        "times_as_fast": {", ".join(key): round(value.clock, 4) for key, value in faster.items()},
        "times_as_fast_by_cpu": {", ".join(key): round(value.cpu, 4) for key, value in faster.items()},
        "environment": environment(),
    }
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Seconds of an encoder: dense, with zeros, compacted.")
    parser.add_argument("--model", default="base", help="a model of the configuration")
    parser.add_argument("--density", type=float, default=0.5, help="share of the units that stay")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of an utterance")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each encoder that count")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the CPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    parser.add_argument("--train", action="store_true", help="measure backward passes too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dense = build_encoder(options.model).to(options.device)
    zeros = with_zeros(dense, options.density)
    encoders = {"dense": dense, "zeros": zeros, "compacted": copy.deepcopy(zeros)}
    compaction = compact(encoders["compacted"])
    if options.device == "cuda":
        encoders["2:4"] = with_two_of_four(dense)
    num_rows = int(options.seconds * FEATURES_PER_SECOND)
    features = torch.randn(options.batch, num_rows, 80, device=options.device)
    inputs = (features, torch.full((options.batch,), num_rows, device=options.device))
    difference = largest_difference(zeros, encoders["compacted"], (features[:1], inputs[1][:1]))
    show(options, compaction, difference, measure(encoders, inputs, options))


if __name__ == "__main__":
    main()
