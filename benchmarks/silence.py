#!/usr/bin/env python3
"""How much silence the ways to prune time drop, and how much speech is lost with it; nothing is trained.

    python benchmarks/silence.py [--data-dir data/grid] [--split dev] [--utterances 100] [--snr 5]

Chooses the chunks of utterances that are clean, under babble, and faded by 12 dB towards their end. *Speech* are the
words of the alignment in the cuts. Where these have none, it is *certain* speech: 10 ms frames louder, in clean audio,
than the middle in dB between the levels that 10 % and 95 % of the frames do not exceed; speech that is softer is not
counted then. Prints a table and one line of JSON: the share of time that is dropped, of speech that is lost, and of the
rest that is kept.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lhotse.cut import Cut
from rich.console import Console
from rich.table import Table
from torch import Tensor

from asrsparse.data.cuts import read_cuts
from asrsparse.data.noise import noise_of_test
from asrsparse.models.frontends import LogMelFrontend
from asrsparse.pruning import KaldiVadChunks, SegmentPruner, SpeechChunks
from asrsparse.rates import FEATURES_PER_SECOND, SAMPLING_RATE

SAMPLES = SAMPLING_RATE // FEATURES_PER_SECOND
ROWS: dict[str, tuple[SegmentPruner, str]] = {
    "energy 0.7, 0.2 s": (SegmentPruner(0.7, 0.2), "feature"),
    "energy 0.5, 0.2 s": (SegmentPruner(0.5, 0.2), "feature"),
    "speech, 0.04 s": (SegmentPruner(0.3, 0.04, SpeechChunks()), "feature"),
    "speech, 0.12 s": (SegmentPruner(0.3, 0.12, SpeechChunks()), "feature"),
    "speech, 0.2 s": (SegmentPruner(0.3, 0.2, SpeechChunks()), "feature"),
    "speech, level 0.3, 0.12 s": (SegmentPruner(0.3, 0.12, SpeechChunks(level=0.3)), "feature"),
    "speech, level 0.5, 0.12 s": (SegmentPruner(0.3, 0.12, SpeechChunks(level=0.5)), "feature"),
    "speech by the waveform, 0.12 s": (SegmentPruner(0.3, 0.12, SpeechChunks()), "waveform"),
    "kaldi_vad, 0.12 s": (SegmentPruner(0.3, 0.12, KaldiVadChunks()), "waveform"),
}
"""The choices that are compared, and by what they choose."""

Utterance = tuple[dict[str, Tensor], Tensor]
"""Waveforms (1, T) by condition, and True for the frames of 10 ms with speech (F,)."""


def speech_of(cut: Cut, audio: Tensor) -> Tensor:
    """Returns True for the frames of 10 ms with speech (F,), by the alignment or by loudness."""
    num_frames = audio.size(1) // SAMPLES
    words = (cut.supervisions[0].alignment or {}).get("word")
    if not words:
        levels = audio[0, : num_frames * SAMPLES].view(num_frames, SAMPLES).square().mean(dim=1).clamp(min=1e-10).log()
        floor, peak = levels.quantile(torch.tensor([0.1, 0.95]))
        return levels > (floor + peak) / 2
    speech = torch.zeros(num_frames, dtype=torch.bool)
    for word in words:
        speech[round(FEATURES_PER_SECOND * word.start) : round(FEATURES_PER_SECOND * word.end)] = True
    return speech


def read(data_dir: Path, split: str, num: int, snr_db: float) -> list[Utterance]:
    """Reads utterances that are spread over a split."""
    cuts = list(read_cuts(data_dir / "cuts", split))
    noise = noise_of_test("babble", data_dir / "cuts", snr_db)
    utterances = []
    for cut in cuts[:: max(1, len(cuts) // num)][:num]:
        audio = torch.from_numpy(cut.load_audio())
        babble = audio.clone()
        noise.add_to(babble, torch.tensor([audio.size(1)]), [cut.id])
        fade = 10 ** (torch.linspace(0, -12, audio.size(1)) / 20)
        utterances.append(({"clean": audio, "babble": babble, "fade": audio * fade}, speech_of(cut, audio)))
    return utterances


def measure(utterances: Sequence[Utterance], pruner: SegmentPruner, by: str, condition: str) -> dict[str, float]:
    """Measures, over all utterances, the shares in % that are dropped, lost and kept."""
    frontend, counts = LogMelFrontend(), torch.zeros(4)
    for waveforms, speech in utterances:
        values, lens = waveforms[condition], torch.tensor([waveforms[condition].size(1)])
        if by == "feature":
            values, lens = frontend(values, lens)
        kept = pruner.choose(values, lens, FEATURES_PER_SECOND if by == "feature" else SAMPLING_RATE)[0]
        frames = kept.repeat_interleave(round(pruner.chunk_seconds * FEATURES_PER_SECOND))[: len(speech)]
        counts += torch.tensor([(~frames).sum(), (speech & ~frames).sum(), (~speech & frames).sum(), speech.sum()])
    dropped, lost, idle, spoken = (100 * counts).tolist()
    total = sum(len(speech) for _, speech in utterances)
    rest = total - spoken / 100
    return {"dropped": dropped / total, "speech_lost": 100 * lost / spoken, "silence_kept": idle / rest}


def show(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Prints the table and the line of JSON."""
    conditions = list(next(iter(found.values())))
    table = Table("% of time dropped / speech lost / silence kept", *conditions)
    for row, by_condition in found.items():
        table.add_row(row, *(" / ".join(f"{value:.1f}" for value in of.values()) for of in by_condition.values()))
    Console(width=120).print(table)
    sys.stdout.write(json.dumps({"benchmark": "silence", "rows": found}) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="How much silence is dropped, and how much speech with it.")
    parser.add_argument("--data-dir", type=Path, default=Path("data/grid"), help="of a prepared corpus")
    parser.add_argument("--split", default="dev", help="whose utterances are looked at")
    parser.add_argument("--utterances", type=int, default=100, help="how many of them")
    parser.add_argument("--snr", type=float, default=5.0, help="of the babble, in dB")
    options = parser.parse_args()
    utterances = read(options.data_dir, options.split, options.utterances, options.snr)
    conditions = list(utterances[0][0])
    with torch.no_grad():
        found = {
            row: {condition: measure(utterances, pruner, by, condition) for condition in conditions}
            for row, (pruner, by) in ROWS.items()
        }
    show(found)


if __name__ == "__main__":
    main()
