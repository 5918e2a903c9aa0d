#!/usr/bin/env python3
"""Measures the seconds of scoring a test set, and of comparing two systems on it, by the size of the test set.

    python benchmarks/scoring.py [--sizes 2620 5559 20000] [--resamples 10000] [--rounds 3]

The first sizes are LibriSpeech's test-clean (2,620 utterances, about 52,576 words) and both of its test sets together.
The texts are random, of 8,000 words; 5 % of the words are wrong. All is timed from files to files, as for a user:
`score` (read the trn files, align words, characters and tokens, intervals, write), with Whisper's normaliser, the same
over speakers, and `compare` (paired bootstrap, matched pairs and non-inferiority of two systems). Medians over the
rounds, in one process on one thread; seconds of the clock, and of the processor, which other work does not lengthen.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.environment import environment
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.comparison import compare_folders
from asrsparse.scoring.normalisers import NONE, load_normaliser
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS_EACH = 20  # 52,576 / 2,620
SPEAKERS = 40


def make_decoding(folder: Path, size: int, seed: int) -> Path:
    """Writes `size` utterances with errors; the references do not depend on the seed."""
    texts, errors = random.Random(0), random.Random(seed)
    vocabulary = ["".join(texts.choices(LETTERS, k=texts.randint(2, 7))) for _ in range(8000)]
    utterances = []
    for number in range(size):
        reference = texts.choices(vocabulary, k=texts.randint(1, 2 * WORDS_EACH - 1))
        wrong = [
            errors.choice(["", vocabulary[number % 8000], f"{word} a"]) if errors.random() < 0.05 else word
            for word in reference
        ]
        utterances.append(
            Utterance(f"{number:06d}", f"s{number % SPEAKERS}", " ".join(reference), " ".join(wrong), 0.4 * len(wrong))
        )
    write_decoded(folder, utterances)
    return folder


def ways(folders: list[Path], resamples: int) -> dict[str, Callable[[], object]]:
    """Returns the functions that are timed, by name, in their order: `compare` needs two systems scored alike."""
    tokenizer = CharTokenizer.train([LETTERS])
    plain, whisper = Bootstrap(resamples), load_normaliser("whisper_english")
    return {
        "whisper_english": lambda: score(folders[0], plain, whisper, tokenizer),
        "over speakers": lambda: score(folders[0], Bootstrap(resamples, unit="speaker"), NONE, tokenizer),
        "second system": lambda: score(folders[1], plain, NONE, tokenizer),
        "score": lambda: score(folders[0], plain, NONE, tokenizer),
        "compare": lambda: compare_folders(folders),
    }


def measure(size: int, resamples: int, rounds: int) -> dict[str, float]:
    """Returns the medians of the seconds for one size."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [make_decoding(Path(folder) / name, size, seed) for seed, name in enumerate(("one", "two"), start=1)]
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, run in ways(folders, resamples).items():
                clock, processor = time.perf_counter(), time.process_time()
                run()
                seconds.setdefault(name, []).append(time.perf_counter() - clock)
                seconds.setdefault(f"{name}, cpu", []).append(time.process_time() - processor)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"utterances": size, **medians}


def show(rows: list[dict[str, float]], resamples: int) -> None:
    """Prints the table and the line of JSON."""
    names = ("score", "over speakers", "whisper_english", "compare")
    title = f"seconds of the clock (of the processor), {resamples} resamples"
    table = Table("utterances", *names, title=title)
    for row in rows:
        table.add_row(f"{row['utterances']:,.0f}", *(f"{row[name]:.2f} ({row[f'{name}, cpu']:.2f})" for name in names))
    Console().print(table)
    rounded = [{name: round(value, 3) for name, value in row.items()} for row in rows]
    result = {"benchmark": "scoring", "resamples": resamples, "rows": rounded, "environment": environment()}
    sys.stdout.write(json.dumps(result) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Seconds of scoring and comparing.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2620, 5559, 20000], help="utterances in the test set")
    parser.add_argument("--resamples", type=int, default=10_000, help="draws of the bootstrap")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    options = parser.parse_args()
    rows = [measure(size, options.resamples, options.rounds) for size in track(options.sizes, description="Scoring")]
    show(rows, options.resamples)


if __name__ == "__main__":
    main()
