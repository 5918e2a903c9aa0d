#!/usr/bin/env python3
"""Measures in how many frames a face is found, and how fast mouth regions are cropped, on one core.

    python benchmarks/mouth_regions.py FOLDER [--videos 100] [--sheet mouth_regions.png]

It takes evenly spaced videos of a folder (`*.mpg`, `*.mp4`, `*.mkv`, `*.avi`, `*.mov`, at any depth), crops the mouth
regions and writes them as a preparation does, in this process on one thread. `times real time` is the duration of the
video divided by the CPU time, which does not depend on other programs; the ratio to the elapsed time is shown, too.

It prints a table and one line of JSON, and draws a contact sheet on request.
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
from asrsparse.video.mouth_regions import crop_mouth_region

SUFFIXES = {".mpg", ".mp4", ".mkv", ".avi", ".mov"}


def find_videos(folder: Path, number: int) -> list[Path]:
    """Returns evenly spaced videos of all those in a folder and its subfolders."""
    videos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not videos:
        raise SystemExit(f"{folder} holds no video; expected are files that end in {', '.join(sorted(SUFFIXES))}.")
    places = np.linspace(0, len(videos) - 1, min(number, len(videos))).round().astype(int)
    return [videos[place] for place in places]


def measure(videos: list[Path], sheet: Path | None) -> dict[str, Any]:
    """Crops the mouth regions of all videos and returns the figures; draws a contact sheet to `sheet`, if given."""
    frames = searched = found = 0
    left_out: Counter[str] = Counter()
    written: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        processor, clock = time.process_time(), time.perf_counter()
        for number, path in enumerate(track(videos, description="Cropping")):
            try:
                region = crop_mouth_region(path)
            except ValueError as error:
                left_out[str(error).split(":")[0]] += 1
                continue
            written[path.stem] = Path(folder) / f"{number}.mp4"
            write_video(written[path.stem], region.frames)
            frames, searched = frames + len(region.frames), searched + region.num_searched
            found += region.num_found
        processor, clock = time.process_time() - processor, time.perf_counter() - clock
        if sheet is not None:
            write_contact_sheet(sheet, written)
    seconds = frames / FRAMES_PER_SECOND
    return {
        "videos": len(videos),
        "left_out": dict(left_out),
        "hours": round(seconds / 3600, 4),
        "frames_searched": searched,
        "face_found": round(found / max(1, searched), 5),
        "times_real_time": round(seconds / processor, 1),
        "times_real_time_elapsed": round(seconds / clock, 1),
    }


def main() -> None:
    """Reads the options, measures, and prints the figures."""
    parser = argparse.ArgumentParser(description="Measures faces found and speed on a folder of videos.")
    parser.add_argument("folder", type=Path, help="the folder of videos")
    parser.add_argument("--videos", type=int, default=100, help="the number of videos to use")
    parser.add_argument("--sheet", type=Path, help="the .png file of a contact sheet to draw")
    options = parser.parse_args()
    row = measure(find_videos(options.folder, options.videos), options.sheet)
    table = Table("what", "value", title="mouth regions")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
    sys.stdout.write(json.dumps({"benchmark": "mouth_regions", **row, "environment": environment()}) + "\n")


if __name__ == "__main__":
    main()
