"""`asrsparse COMMAND [key=value ...]`: parses and forwards. Imports what a command needs only when it runs."""

import argparse
import difflib
import logging
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from asrsparse import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger("asrsparse.cli")  # named: as __main__ it would stand outside the package's loggers

EPILOG = """\
commands:
  prepare   corpus folder -> manifests -> cuts and tokenizer, in data/<corpus>
  train     cuts -> a trained, averaged model, in exp/<recipe>/<system>; run again, it goes on where it stopped
  decode    model -> hypotheses of the test sets
  score     hypotheses -> WER and CER with intervals, sclite's files
  report    the scores of all systems of a recipe -> RESULTS.md, results.json and a table
  report pruning EXP ... [utterance=ID]
            what runs, or all runs of recipes, kept and knew -> pruning.html in their folder, a page of plots
  report noise EXP ...
            word error rates of runs side by side, over the ratios of signal to babble at which they were decoded
            (decode.snrs) -> NOISE.md and noise.json in their folder, and a table
  report masks EXP ...
            what masks, weights and gradients of runs did, their densities, FLOPs and WER -> a table, masks.html and
            masks.json in their folder; dense runs beside masked ones
  config    print the composed configuration
  sweep     all combinations of overrides with several values (seed=0,1), each trained, decoded and scored; run again,
            it goes on where it stopped -> exp/<recipe>-sweep/SWEEP.md and a table, means over seeds

Words after the command are Hydra overrides: GROUP=CHOICE or KEY=VALUE. The groups:
  recipe    mini, grid, lrs2, lrs3: corpus, model and length of training together
  system    full-dense, easy2hard, masks, easy2hard-masks: pruning and masks together
  pruning   none, random, easy, hard, easy2hard, window, middle, infobatch, epsilon_greedy, ucb, coverage, longest,
            shortest: which utterances an epoch hears
  segments  none, energy, blank, random: which of an utterance's time a step hears
  noise     none, babble: what is mixed into the audio of training
  masks     dense, learned, continuous_sparsification, random, snip, magnitude, gmp, set, rigl, mest, granet, sr_ste,
            decaying, structured: which weights are zero, and when
  modality  audio, video, audiovisual: what the model reads; a name of a system gets it behind it (full-dense-video)
  stream    stream/audio=waveform: ResNet-1D in the place of log-mel features
  corpus, model (tiny small base large), optim (adamw sparse_adamw adamw_avsr), trainer (default one_gpu),
  decode (ctc_greedy joint), sweep (local slurm: where runs of a sweep run; sweep.jobs of them at the same time)

examples:
  asrsparse prepare recipe=grid corpus.corpus_dir=/data/grid
  asrsparse train recipe=grid system=easy2hard
  asrsparse train recipe=grid pruning=random pruning.keep_ratio=0.5 name=random-50
  torchrun --nproc-per-node 2 -m asrsparse train recipe=grid system=full-dense
  asrsparse sweep recipe=grid pruning=random,easy2hard pruning.keep_ratio=0.5,0.7 seed=0,1 sweep.jobs=2
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; a mistake of the user ends in one message and exit status 2, not in a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = _parser().parse_args(arguments)
    known = [*COMMANDS, *PLAIN]
    if parsed.command not in known:
        close = difflib.get_close_matches(parsed.command, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        _fail(f"Unknown command: got {parsed.command!r}, allowed are {', '.join(known)}.{hint}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("asrsparse").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        if parsed.command == "report" and parsed.overrides and parsed.overrides[0] in PAGES:
            PAGES[parsed.overrides[0]](parsed.overrides[1:])
            return
        if parsed.command in PLAIN:
            PLAIN[parsed.command](parsed.overrides)
            return
        from asrsparse.config import compose_config

        COMMANDS[parsed.command](compose_config(parsed.overrides), shlex.join(["asrsparse", *arguments]))
    except (ValueError, OSError) as error:
        if os.environ.get("ASRSPARSE_TRACEBACK"):
            raise
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"asrsparse: {_which_rank()}error: {message}\n")
    sys.exit(2)


def _which_rank() -> str:
    """Which of several processes speaks; nothing where there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ""
    return f"rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} on {platform.node()}: "


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asrsparse",
        description="Train speech recognisers on less data and with fewer weights.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides")
    return parser


def _prepare(config: "DictConfig", command: str) -> None:
    from asrsparse.config import build

    if config.corpus.get("corpus_dir", "") is None:
        raise ValueError(
            f"corpus.corpus_dir: the {config.corpus.name} corpus is not made here. Name its folder: "
            "corpus.corpus_dir=DIR (run.sh: --corpus-dir DIR)."
        )
    build(config.corpus.prepare)
    build(config.corpus.cuts)


def _train(config: "DictConfig", command: str) -> None:
    from asrsparse.callbacks import Interrupted
    from asrsparse.train import train

    try:
        train(config, command)
    except Interrupted as stopped:
        sys.stderr.write(f"asrsparse: {stopped} Run the same command again to go on.\n")
        sys.exit(130)
    except RuntimeError as error:
        if "closed by peer" not in str(error) and "Connection reset" not in str(error):
            raise
        _fail(
            "another rank has ended, so this one cannot go on. The message of that rank says why. The last checkpoint "
            "is whole: run the same command again to go on."
        )


def _decode(config: "DictConfig", command: str) -> None:
    from asrsparse.decode import decode

    decode(config, command)


def _score(config: "DictConfig", command: str) -> None:
    from asrsparse.conditions import decodings
    from asrsparse.score import score

    for decoding in decodings(config):
        if decoding.is_scored:
            logger.info("%s is already scored.", decoding.folder)
        else:
            score(decoding.folder)


def _report(config: "DictConfig", command: str) -> None:
    from rich.console import Console

    from asrsparse.report import report, to_table

    systems = [f"{system}{config.modality.suffix}" for system in config.systems]
    made = report(Path(config.exp_dir), systems, method=config.decode.method, split=config.decode.splits[0])
    Console().print(to_table(made))


def _report_pruning(words: Sequence[str]) -> None:
    from asrsparse.pruning_report import report_pruning

    folders = [Path(word) for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = sorted(set(options) - {"utterance"})
    if unknown or not folders:
        got = " ".join(words) or "nothing"
        raise ValueError(f"report pruning: got {got}, allowed are folders of runs, and utterance=ID.")
    sys.stdout.write(f"{report_pruning(folders, options.get('utterance'))}\n")


def _report_masks(words: Sequence[str]) -> None:
    from rich.console import Console

    from asrsparse.mask_report import report_masks, to_table

    if not words or any("=" in word for word in words):
        raise ValueError(f"report masks: got {' '.join(words) or 'nothing'}, allowed are folders of runs.")
    page, rows = report_masks([Path(word) for word in words])
    Console().print(to_table(rows))
    sys.stdout.write(f"{page}\n")


def _report_noise(words: Sequence[str]) -> None:
    from rich.console import Console

    from asrsparse.noise_report import report_noise, to_table

    folders = [Path(word) for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if not folders or set(options) - {"method", "split"}:
        got = " ".join(words) or "nothing"
        raise ValueError(f"report noise: got {got}, allowed are folders of runs, method=NAME and split=NAME.")
    path, snrs, rows = report_noise(folders, **options)
    Console().print(to_table(snrs, rows))
    sys.stdout.write(f"{path}\n")


PAGES: dict[str, Callable[[Sequence[str]], None]] = {
    "pruning": _report_pruning,
    "masks": _report_masks,
    "noise": _report_noise,
}
"""What `report` shows of runs on a page, where the first word after it names one."""


def _config(config: "DictConfig", command: str) -> None:
    from omegaconf import OmegaConf

    sys.stdout.write(OmegaConf.to_yaml(config))


COMMANDS: dict[str, Callable[["DictConfig", str], None]] = {
    "prepare": _prepare,
    "train": _train,
    "decode": _decode,
    "score": _score,
    "report": _report,
    "config": _config,
}


def _sweep(words: Sequence[str]) -> None:
    from asrsparse.sweep import sweep

    try:
        failures = sweep(words)
    except KeyboardInterrupt:
        sys.stderr.write("asrsparse: the sweep is stopped. Run the same command again to go on.\n")
        sys.exit(130)
    if failures:
        sys.exit(1)


PLAIN: dict[str, Callable[[Sequence[str]], None]] = {"sweep": _sweep}
"""Commands whose words do not compose one configuration."""
