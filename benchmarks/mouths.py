#!/usr/bin/env python3
"""In how many pictures a face is found, and how fast mouths are cut out, on one core.

    python benchmarks/mouths.py FOLDER [--videos 100] [--sheet mouths.png]

Takes evenly spaced videos of a folder (`*.mpg`, `*.mp4`, `*.mkv`, `*.avi`, `*.mov`, at any depth), cuts out the mouths
and writes them as a preparation does, in this process on one thread. `times real time` is seconds of video over seconds
of the processor, which other programs do not change; by the clock is shown too.

Prints a table and one line of JSON; draws a contact sheet if asked to.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.environment import environment
from asrsparse.rates import FRAMES_PER_SECOND
from asrsparse.video.contact_sheet import write_contact_sheet
from asrsparse.video.io import write_video
from asrsparse.video.mouths import cut_mouths

SUFFIXES = {".mpg", ".mp4", ".mkv", ".avi", ".mov"}


def find_videos(folder: Path, number: int) -> list[Path]:
    """Evenly spaced ones of all videos in a folder."""
    videos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not videos:
        raise SystemExit(f"{folder} holds no video; looked for {', '.join(sorted(SUFFIXES))}.")
    places = np.linspace(0, len(videos) - 1, min(number, len(videos))).round().astype(int)
    return [videos[place] for place in places]


def measure(videos: list[Path], sheet: Path | None) -> dict[str, Any]:
    """Cuts out all mouths."""
    frames = looks = found = 0
    left_out: Counter[str] = Counter()
    written: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        processor, clock = time.process_time(), time.perf_counter()
        for number, path in enumerate(track(videos, description="Cutting")):
            try:
                mouths = cut_mouths(path)
            except ValueError as error:
                left_out[str(error).split(":")[0]] += 1
                continue
            written[path.stem] = Path(folder) / f"{number}.mp4"
            write_video(written[path.stem], mouths.frames)
            frames, looks, found = frames + len(mouths.frames), looks + mouths.num_looks, found + mouths.num_found
        processor, clock = time.process_time() - processor, time.perf_counter() - clock
        if sheet is not None:
            write_contact_sheet(sheet, written)
    seconds = frames / FRAMES_PER_SECOND
    return {
        "videos": len(videos),
        "left_out": dict(left_out),
        "hours": round(seconds / 3600, 4),
        "pictures_looked_at": looks,
        "face_found": round(found / max(1, looks), 5),
        "times_real_time": round(seconds / processor, 1),
        "times_real_time_by_the_clock": round(seconds / clock, 1),
    }


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Faces found and times real time, on a folder of videos.")
    parser.add_argument("folder", type=Path, help="of videos")
    parser.add_argument("--videos", type=int, default=100, help="how many of them")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet to this .png")
    options = parser.parse_args()
    row = measure(find_videos(options.folder, options.videos), options.sheet)
    table = Table("what", "value", title="mouths")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
    sys.stdout.write(json.dumps({"benchmark": "mouths", **row, "environment": environment()}) + "\n")


if __name__ == "__main__":
    main()
