#!/usr/bin/env python3
"""Seconds per epoch of training: ESPnet2's own trainer and `asrsparse train`, side by side on one machine.

    python benchmarks/train_step.py --cuts data/grid/cuts [--rounds 3] [--epochs 3] [--num-utterances 752]

Every round runs each system in a process of its own, in turns, on the same utterances, the same number of them in a
batch, and the same number of threads. The model is the same: conformer 4 x 144, CTC on characters,
SpecAugment, AdamW, clipped gradients. Both read audio from disk, in the training process. Validation is not measured;
the checkpoints at the end of an epoch are measured for asrsparse only.

Prints a table and one line of JSON. Run it alone on the machine.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.environment import environment
from asrsparse.files import read_json

ESPNET_CONFIG = """\
encoder: conformer
encoder_conf: {output_size: 144, attention_heads: 4, linear_units: 576, num_blocks: 4, input_layer: conv2d,
  macaron_style: true, use_cnn_module: true, cnn_module_kernel: 15, rel_pos_type: latest,
  pos_enc_layer_type: rel_pos, selfattention_layer_type: rel_selfattn, activation_type: swish,
  dropout_rate: 0.1, positional_dropout_rate: 0.1, attention_dropout_rate: 0.0}
model_conf: {ctc_weight: 1.0, report_cer: false, report_wer: false}
optim: adamw
optim_conf: {lr: 0.002}
grad_clip: 5.0
specaug: specaug
specaug_conf: {apply_time_warp: false, apply_freq_mask: true, freq_mask_width_range: [0, 20], num_freq_mask: 2,
  apply_time_mask: true, time_mask_width_range: [0, 25], num_time_mask: 2}
normalize: utterance_mvn
frontend_conf: {n_fft: 512, win_length: 400, hop_length: 160, fs: 16000, n_mels: 80}
"""

# ESPnet's command imports text-to-speech and state-space packages that this model never calls, and not every
# environment has them: empty modules stand in for those that are missing.
ESPNET_STAND_INS = """\
import importlib, importlib.machinery, sys, types
names = ["einops", "g2p_en", "jaconv", "jamo", "tacotron_cleaner", "tacotron_cleaner.cleaners"]
for name in [*names, "ci_sdr", "fast_bss_eval"]:
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name].__getattr__ = lambda attribute: None
"""
ESPNET_TRAIN = f"{ESPNET_STAND_INS}from espnet2.bin.asr_train import main\nmain()\n"


@dataclass(frozen=True)
class Job:
    """The data and settings of all runs.

    Attributes:
        folder: The folder of the runs and their data.
        cuts: The training and validation cuts by split.
        batch_size: The number of utterances in a batch.
        epochs: The number of epochs of a run.
        threads: The number of threads of a run.
    """

    folder: Path
    cuts: dict[str, list[Cut]]
    batch_size: int
    epochs: int
    threads: int

    def run(self, command: list[str], cwd: Path) -> str:
        """Runs a command with the threads of the job; returns its output.

        Raises:
            ValueError: If the command fails; the message has the end of its output.
        """
        variables = {"OMP_NUM_THREADS": str(self.threads), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | variables)
        printed = done.stdout + done.stderr
        if done.returncode != 0:
            raise ValueError(f"A run failed with exit status {done.returncode}:\n{printed[-3000:]}")
        return printed


def train_espnet(job: Job, name: str) -> float:
    """Trains with ESPnet2's trainer; returns its own mean of seconds per epoch."""
    command = [sys.executable, "-c", ESPNET_TRAIN, "--config", "config.yaml", "--token_list", "cuts/tokens.txt"]
    command += ["--token_type", "char", "--use_preprocessor", "true", "--ngpu", "0", "--seed", "0"]
    command += ["--batch_type", "unsorted", "--batch_size", str(job.batch_size), "--max_epoch", str(job.epochs)]
    command += ["--num_workers", "0", "--num_att_plot", "0", "--use_matplotlib", "false", "--output_dir", name]
    for split, flag in (("train", "train"), ("dev", "valid")):
        data = f"--{flag}_data_path_and_name_and_type"
        command += [data, f"{split}/wav.scp,speech,sound", data, f"{split}/text,text,text"]
        command += [f"--{flag}_shape_file", f"{split}/speech_shape"]
    log = job.run(command, cwd=job.folder)
    times = re.findall(r"epoch results: \[train\].*?, time=(.*?), total_count", log)
    if len(times) != job.epochs:
        raise ValueError(f"ESPnet's log names {len(times)} epochs, expected {job.epochs}:\n{log[-3000:]}")
    return statistics.fmean(seconds_of(time) for time in times)


def seconds_of(timespan: str) -> float:
    """Reads ESPnet's way of writing times.

    Example:
        >>> seconds_of("1 minute and 2.5 seconds")
        62.5
    """
    units = {"hour": 3600.0, "minute": 60.0, "second": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (hour|minute|second)", timespan))


def train_ours(job: Job, name: str, precision: str) -> float:
    """Trains with `asrsparse train`; returns the mean of seconds per epoch."""
    longest = max(cut.duration for cut in job.cuts["train"])
    command = [sys.executable, "-m", "asrsparse", "train", "recipe=grid", "system=full-dense", "model=tiny"]
    command += [f"data_dir={job.folder}", f"exp_dir={job.folder}", f"name={name}"]
    command += ["model.decoder=null", "model.ctc_weight=1.0", "trainer.accelerator=cpu", "trainer.num_workers=0"]
    command += ["model.specaug.freq_mask_width_range=[0,20]", "model.specaug.time_mask_width_range=[0,25]"]
    command += [
        f"trainer.num_threads={job.threads}",
        f"trainer.num_epochs={job.epochs}",
        f"trainer.precision={precision}",
        "trainer.num_buckets=1",
    ]
    command += [f"trainer.batch_seconds={1.01 * job.batch_size * longest}", "trainer.save_every_steps=1000000"]
    job.run(command, cwd=Path(__file__).resolve().parents[1])
    record = read_json(job.folder / name / "train.json")
    steps = -(-len(job.cuts["train"]) // job.batch_size) * job.epochs
    if record["steps"] != steps:
        raise ValueError(f"Ours took {record['steps']} steps, ESPnet {steps}: utterances of too different lengths.")
    return float(record["train_seconds"]) / job.epochs


SYSTEMS: dict[str, Callable[[Job, str], float]] = {
    "ESPnet2, float32": train_espnet,
    "asrsparse, 32-true": lambda job, name: train_ours(job, name, "32-true"),
    "asrsparse, auto": lambda job, name: train_ours(job, name, "auto"),
}


def write_data(cuts_dir: Path, job: Job) -> None:
    """Writes the cuts for ours, and wav.scp, text and shapes of the same utterances for ESPnet."""
    load_tokenizer(cuts_dir).save(job.folder / "cuts")
    for split, cuts in job.cuts.items():
        CutSet.from_cuts(cuts).to_file(cuts_path(job.folder / "cuts", split))
        folder = job.folder / split
        folder.mkdir()
        rows = [(cut.id, cut.recording.sources[0].source, cut.supervisions[0].text, cut.num_samples) for cut in cuts]
        (folder / "wav.scp").write_text("".join(f"{i} {path}\n" for i, path, _, _ in rows))
        (folder / "text").write_text("".join(f"{i} {text}\n" for i, _, text, _ in rows))
        (folder / "speech_shape").write_text("".join(f"{i} {samples}\n" for i, _, _, samples in rows))
    (job.folder / "config.yaml").write_text(ESPNET_CONFIG)


def whole_recordings(cuts_dir: Path, split: str, number: int | None) -> list[Cut]:
    """The first cuts of a split, with absolute paths.

    Raises:
        ValueError: If a cut is a part of its recording: ESPnet's files name whole ones.
    """
    cuts = []
    for cut in read_cuts(cuts_dir, split).subset(first=number) if number else read_cuts(cuts_dir, split):
        if cut.start != 0 or cut.num_samples != cut.recording.num_samples:
            raise ValueError(f"{cut.id} is a part of its recording; allowed are cuts of whole recordings.")
        cut.recording.sources[0].source = str(Path(cut.recording.sources[0].source).resolve())
        cuts.append(cut)
    return cuts


def measure(job: Job, rounds: int) -> dict[str, list[float]]:
    """Runs all systems in turns; returns seconds per epoch by system, one for each round."""
    seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    turns = [(number, system) for number in range(rounds) for system in SYSTEMS]
    for number, system in track(turns, description="training"):
        seconds[system].append(SYSTEMS[system](job, f"run{number}-{list(SYSTEMS).index(system)}"))
    return seconds


def show(job: Job, seconds: dict[str, list[float]]) -> None:
    """Prints the table and the line of JSON."""
    medians = {system: statistics.median(values) for system, values in seconds.items()}
    baseline = next(iter(medians.values()))
    hours = sum(cut.duration for cut in job.cuts["train"]) / 3600
    title = f"{len(job.cuts['train'])} utterances ({hours:.2f} h), batches of {job.batch_size}, {job.threads} threads"
    table = Table("system", "seconds per epoch", "from", "to", "of ESPnet2's", title=title)
    for system, values in seconds.items():
        numbers = [f"{number:.2f}" for number in (medians[system], min(values), max(values))]
        table.add_row(system, *numbers, f"{100 * medians[system] / baseline:.0f} %")
    Console().print(table)
    record = {
        "benchmark": "train_step",
        "utterances": len(job.cuts["train"]),
        "hours": round(hours, 4),
        "batch_size": job.batch_size,
        "epochs": job.epochs,
        "seconds_per_epoch": seconds,
        "ratio_to_espnet2": {system: round(median / baseline, 4) for system, median in medians.items()},
        "environment": environment() | {"threads": str(job.threads)},
    }
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="Seconds per epoch: ESPnet2's trainer and ours, side by side.")
    parser.add_argument("--cuts", type=Path, required=True, help="folder of prepared cuts: data/grid/cuts")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each system, in turns")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a run")
    parser.add_argument("--num-utterances", type=int, help="first N of train; all by default")
    parser.add_argument("--batch-size", type=int, default=16, help="utterances in a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cuts = {
            "train": whole_recordings(options.cuts, "train", options.num_utterances),
            "dev": whole_recordings(options.cuts, "dev", options.batch_size),
        }
        job = Job(Path(folder), cuts, options.batch_size, options.epochs, options.threads)
        write_data(options.cuts, job)
        show(job, measure(job, options.rounds))


if __name__ == "__main__":
    main()
