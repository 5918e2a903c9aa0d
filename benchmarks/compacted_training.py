#!/usr/bin/env python3
"""Steps per second of a training with structured masks: dense, while masks are learned, and after its compaction.

    python benchmarks/compacted_training.py [--models tiny small base] [--density 0.5] [--batch 8] [--seconds 4]
        [--rounds 5] [--threads 2]

Takes whole training steps (forward, backward, clipping, AdamW, masks) of a recogniser on noise, in turns, in one
process: of the dense model, of one whose masks are learned, of one whose masks have left as zeros, and of one that was
compacted then, all from `masks=structured`. Ratios are those of medians to the dense steps that were taken beside them,
by the clock and by the processor's own time, which other programs on the machine disturb less. Prints a table and one
line of JSON.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from mask_overhead import VOCABULARY, WARM_UP, make_batch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.config import build, compose_config
from asrsparse.environment import environment
from asrsparse.masks import SparseMasks
from asrsparse.masks.compact import num_parameters
from asrsparse.models.builders import build_model
from asrsparse.training.fit import resolve_precision

STRUCTURED = ["masks=structured", "masks.method.until=0.5"]
SYSTEMS = {
    "dense": ["masks=dense"],
    "learned": STRUCTURED,
    "zeros": [*STRUCTURED, "masks.compact=false"],
    "compacted": STRUCTURED,
}
"""The overrides of each row; the last two have left the phase in which masks are learned."""


def make(options: argparse.Namespace, model_name: str, system: str) -> tuple[Callable[[], None], int]:
    """Returns what takes a training step, and the number of parameters in it."""
    torch.manual_seed(0)
    density = [] if system == "dense" else [f"masks.method.target_density={options.density}"]
    config = compose_config([f"model={model_name}", *SYSTEMS[system], *density])
    model = build_model(config, VOCABULARY).train()
    masks = SparseMasks.attach(model, build(config.masks.method))
    optimizer = torch.optim.AdamW(masks.param_groups(lr=1e-4, weight_decay=1e-2), betas=(0.9, 0.98))
    batch = make_batch(options.batch, options.seconds)
    precision = resolve_precision(options.precision, "cpu")

    def step(progress: float = 0.25) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = model(batch).total.mean() + masks.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        masks.step(progress, optimizer)

    if system in ("zeros", "compacted"):
        step(0.25)
        step(0.5)
    return lambda: step(0.25 if system == "learned" else 0.75), num_parameters(model)


def measure(options: argparse.Namespace, model_name: str) -> dict[str, dict[str, object]]:
    """Returns the seconds of each step of each system, taken in turns, and its parameters."""
    made = {system: make(options, model_name, system) for system in SYSTEMS}
    clock: dict[str, list[float]] = {system: [] for system in made}
    processor: dict[str, list[float]] = {system: [] for system in made}
    for number in track(range(WARM_UP + options.rounds), description=model_name):
        for system, (step, _) in made.items():
            started, used = time.perf_counter(), time.process_time()
            step()
            if number >= WARM_UP:
                clock[system].append(time.perf_counter() - started)
                processor[system].append(time.process_time() - used)
    return {
        system: {"parameters": parameters, "clock": clock[system], "processor": processor[system]}
        for system, (_, parameters) in made.items()
    }


def times_as_fast(found: dict[str, dict[str, object]], system: str, by: str) -> float:
    """Returns how many times as fast as the dense model a system takes its steps."""
    return _median(found["dense"][by]) / _median(found[system][by])


def show(options: argparse.Namespace, found: dict[str, dict[str, dict[str, object]]]) -> None:
    """Prints the table and the line of JSON."""
    title = f"density {options.density}, {options.batch} x {options.seconds:g} s, {options.threads} threads"
    columns = ("model", "masks", "M parameters", "steps a second", "times as fast", "by the processor's time")
    table = Table(*columns, title=title)
    for model, systems in found.items():
        for system, values in systems.items():
            speeds = [f"{times_as_fast(systems, system, by):.2f}" for by in ("clock", "processor")]
            size = f"{int(str(values['parameters'])) / 1e6:.2f}"
            table.add_row(model, system, size, f"{1.0 / _median(values['clock']):.2f}", *speeds)
    Console().print(table)
    ratios = {
        model: {system: {by: times_as_fast(of, system, by) for by in ("clock", "processor")} for system in of}
        for model, of in found.items()
    }
    record = {
        "benchmark": "compacted_training",
        "options": vars(options),
        "measured": found,
        "times_as_fast": ratios,
        "environment": environment(),
    }
    sys.stdout.write(json.dumps(record) + "\n")


def _median(values: object) -> float:
    assert isinstance(values, Sequence)
    return statistics.median(values)


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Steps per second before and after a compaction.")
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "base"], help="choices of the group model")
    parser.add_argument("--density", type=float, default=0.5, help="share of the units that stay")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a batch")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of an utterance")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each that are counted")
    parser.add_argument("--threads", type=int, default=2, help="threads of the process")
    parser.add_argument("--precision", default="auto", help="as trainer.precision: auto, 32-true or bf16-mixed")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show(options, {model: measure(options, model) for model in options.models})


if __name__ == "__main__":
    main()
