#!/usr/bin/env python3
"""Milliseconds per video frame of learned front-ends, forward and backward.

    python benchmarks/visual_frontends.py [--rounds 5] [--frames 75] [--device cpu]

Trains each front-end on noise, one batch a round, in turns, in float32 and in bf16: `SmallVisualFrontend`,
`Conv3dResNet18`, and `ResNet1d` on the waveform that goes with the frames. Medians of the rounds, without the first.
The last column is what an epoch of one GRID talker takes of 34 (754 utterances of 75 frames), without the encoder.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.environment import environment
from asrsparse.models.frontends import Frontend
from asrsparse.models.visual import Conv3dResNet18, SmallVisualFrontend
from asrsparse.models.waveform import ResNet1d
from asrsparse.rates import SAMPLES_PER_FRAME

FRONTENDS: dict[str, tuple[Callable[[], Any], int]] = {  # and utterances in a batch on a CPU
    "SmallVisualFrontend": (lambda: SmallVisualFrontend(output_size=128, width=16, flip=0.5), 8),
    "Conv3dResNet18": (lambda: Conv3dResNet18(output_size=512, flip=0.5), 1),
    "ResNet1d": (lambda: ResNet1d(output_size=512), 2),
}
PRECISIONS = {"float32": False, "bf16": True}
GRID_FRAMES = 754 * 75


def make_input(frontend: Frontend, num_utterances: int, num_frames: int, device: torch.device) -> tuple[Any, Any]:
    """Noise of so many video frames, and its lengths."""
    if frontend.reads == "video":
        video = torch.randint(0, 256, (num_utterances, num_frames, 96, 96), dtype=torch.uint8, device=device)
        return video, torch.full((num_utterances,), num_frames, device=device)
    samples = num_frames * SAMPLES_PER_FRAME
    return torch.randn(num_utterances, samples, device=device), torch.full((num_utterances,), samples, device=device)


def step_seconds(frontend: Any, values: torch.Tensor, lens: torch.Tensor, bf16: bool) -> float:
    """Seconds of a forward and a backward pass."""
    synchronise = torch.cuda.synchronize if values.is_cuda else lambda: None
    frontend.zero_grad()
    synchronise()
    began = time.perf_counter()
    with torch.autocast(values.device.type, torch.bfloat16, enabled=bf16):
        rows, _ = frontend(values, lens)
    rows.float().square().mean().backward()
    synchronise()
    return time.perf_counter() - began


def measure(rounds: int, num_frames: int, device: torch.device, batches: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    rows = []
    for name, (build, num_utterances) in track(FRONTENDS.items(), description="front-ends"):
        torch.manual_seed(0)
        frontend = build().to(device).train()
        values, lens = make_input(frontend, batches * num_utterances, num_frames, device)
        for precision, bf16 in PRECISIONS.items():
            seconds = [step_seconds(frontend, values, lens, bf16) for _ in range(rounds + 1)][1:]
            each = [1000 * s / (len(values) * num_frames) for s in seconds]
            weights = sum(p.numel() for p in frontend.parameters())
            median = statistics.median(each)
            rows.append(
                {"frontend": name, "parameters": weights, "precision": precision, "ms_per_frame": round(median, 4)}
                | {"from": round(min(each), 4), "to": round(max(each), 4)}
            )
    return rows


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Milliseconds per video frame of learned front-ends.")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each, after a first one")
    parser.add_argument("--frames", type=int, default=75, help="video frames of an utterance")
    parser.add_argument("--batches", type=int, default=1, help="how many times larger batches are (a GPU wants 8)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(options.rounds, options.frames, torch.device(options.device), options.batches)
    where = f"{options.device}, {options.threads} threads" if options.device == "cpu" else options.device
    table = Table("front-end", "M weights", "precision", "ms per frame", "from", "to", "s per GRID talker", title=where)
    for row in rows:
        times = [f"{row[key]:.3f}" for key in ("ms_per_frame", "from", "to")]
        epoch = f"{row['ms_per_frame'] * GRID_FRAMES / 1000:.0f}"
        table.add_row(row["frontend"], f"{row['parameters'] / 1e6:.2f}", row["precision"], *times, epoch)
    Console().print(table)
    record = {"benchmark": "visual_frontends", "device": options.device, "frames": options.frames, "rows": rows}
    sys.stdout.write(json.dumps(record | {"environment": environment() | {"threads": str(options.threads)}}) + "\n")


if __name__ == "__main__":
    main()
