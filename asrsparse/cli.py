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
    from rich.table import Table

    from asrsparse.report_rows import Report

logger = logging.getLogger("asrsparse.cli")  # named: as __main__ it would stand outside the package's loggers

EPILOG = """\
commands:
  prepare   corpus folder -> manifests -> cuts and tokenizer, in data/<corpus>
  train     cuts -> a trained, averaged model, in exp/<recipe>/<system>; run again, it goes on where it stopped
  decode    model -> hypotheses of the test sets
  score     hypotheses -> WER, CER and token rate with intervals, sclite's files, the worst utterances in worst.txt
  report    the scores of all systems of a recipe -> RESULTS.md, results.json and a table
  score     hypotheses -> WER and CER with intervals, sclite's files
  report    the scores of all systems of a recipe -> RESULTS.md, results.{json,csv,tex}, report.html and a table
  report EXP ... [baseline=RUN] [method=NAME]
            the same for all finished runs of folders, of any modality and on all their test sets; the others are
            compared with the first, or with RUN
  report pruning EXP ... [utterance=ID]
            what runs, or all runs of recipes, kept and knew -> pruning.html in their folder, a page of plots
  report noise EXP ...
            word error rates of runs side by side, over the ratios of signal to babble at which they were decoded
            (decode.snrs) -> NOISE.md and noise.json in their folder, and a table
  report masks EXP ...
            what masks, weights and gradients of runs did, their densities, FLOPs and WER -> a table, masks.html and
            masks.json in their folder; dense runs beside masked ones
  config    print the composed configuration
  transcribe RUN_DIR FILE ... [method=joint] [json=true [times=true] [nbest=N]] [max_seconds=30] [data_dir=DIR]
            what is said in audio or video files, by a finished model: a line of text for each, or of JSON
  compare DIR DIR ... [margin=POINTS | relative_margin=PERCENT] [json=FILE]
            decodings, or all decodings of runs, against the first: paired bootstrap, matched pairs, and whether they
            are worse by less than a margin of WER (0.5 points unless you say) -> a table
  breakdown DIR ... [json=FILE]
            the WER of decodings, or of all decodings of runs, by speaker, duration and ratio of signal to noise
            -> a table
  export KIND RUN_DIR OUTPUT_DIR [key=value ...]
            a finished model -> a new folder for other programs. Kinds: espnet (ESPnet's Speech2Text opens it),
            huggingface (weights, model card, tokenizer; push=OWNER/NAME uploads it; language=en license=apache-2.0
            stand on the card), onnx (waveform -> CTC log probabilities). data_dir=DIR: where the corpus lies now

Words after the command are Hydra overrides: GROUP=CHOICE or KEY=VALUE. The groups:
  recipe    mini, grid, lrs2, lrs3, librispeech, librispeech_100, kaldi: corpus, model and length of training together
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
  decode (ctc_greedy joint), score (score.normaliser=none, lower_no_punctuation or whisper_english)

examples:
  asrsparse prepare recipe=grid corpus.corpus_dir=/data/grid
  asrsparse train recipe=grid system=easy2hard
  asrsparse train recipe=grid pruning=random pruning.keep_ratio=0.5 name=random-50
  torchrun --nproc-per-node 2 -m asrsparse train recipe=grid system=full-dense
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
        if parsed.command == "report" and not all("=" in word for word in parsed.overrides):
            _report_runs(parsed.overrides)
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
    from asrsparse.config import build
    from asrsparse.normalisers import load_normaliser
    from asrsparse.score import is_scored, score
    from asrsparse.tokenizer import load_tokenizer

    cuts_dir = Path(config.data_dir) / "cuts"
    tokenizer = load_tokenizer(cuts_dir) if (cuts_dir / "tokens.txt").is_file() else None
    if tokenizer is None:
        logger.info("No tokenizer in %s: no token rate.", cuts_dir)
    settings = (build(config.score.bootstrap), load_normaliser(config.score.normaliser), tokenizer)
    for folder in (decoding.folder for decoding in decodings(config)):
        if is_scored(folder, *settings):
            logger.info("%s is already scored.", folder)
        else:
            score(folder, *settings)


def _report(config: "DictConfig", command: str) -> None:
    from asrsparse.report import report

    systems = [f"{system}{config.modality.suffix}" for system in config.systems]
    _print_report(report(Path(config.exp_dir), systems, method=config.decode.method, splits=list(config.decode.splits)))


def _report_runs(words: Sequence[str]) -> None:
    from asrsparse.report import report_runs

    options = dict(word.split("=", 1) for word in words if "=" in word)
    if set(options) - {"baseline", "method"}:
        raise ValueError(f"report: got {' '.join(words)}, allowed beside folders are baseline=RUN and method=NAME.")
    _print_report(report_runs([Path(word) for word in words if "=" not in word], **options))


def _print_report(report: "Report") -> None:
    from rich.console import Console

    from asrsparse.report_tables import to_tables

    Console().print(*to_tables(report))


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


def _compare(words: Sequence[str]) -> None:
    from asrsparse.comparison import DEFAULT_MARGIN, Margin, compare_folders, to_json, to_table

    folders, options = _folders_and_options("compare", words, ("margin", "relative_margin", "json"))
    if {"margin", "relative_margin"} <= options.keys():
        raise ValueError("compare: got margin and relative_margin, allowed is one of them.")
    margin = DEFAULT_MARGIN
    for key in options.keys() & {"margin", "relative_margin"}:
        margin = Margin(_percent(key, options[key]), relative=key == "relative_margin")
    compared = compare_folders(folders, margin)
    _show([to_table(one) for one in compared], to_json(compared), options.get("json"))


def _breakdown(words: Sequence[str]) -> None:
    from asrsparse.breakdown import break_down, to_json, to_table

    folders, options = _folders_and_options("breakdown", words, ("json",))
    made = break_down(folders)
    _show([to_table(one) for one in made], to_json(made), options.get("json"))


def _folders_and_options(
    command: str, words: Sequence[str], allowed: Sequence[str]
) -> tuple[list[Path], dict[str, str]]:
    """Parts the words after a plain command. A folder may have a `=` in its name, as those of sweeps do."""
    options = dict(word.split("=", 1) for word in words if word.partition("=")[0] in allowed and "=" in word)
    folders = [Path(word) for word in words if word.partition("=")[0] not in allowed or "=" not in word]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        choices = ", ".join(f"{key}=..." for key in allowed)
        raise ValueError(f"{command}: got {missing[0]}, allowed are folders that exist, and {choices}")
    return folders, options


def _percent(key: str, text: str) -> float:
    try:
        return float(text) / 100
    except ValueError:
        raise ValueError(f"compare {key}: got {text!r}, allowed is a number in per cent, such as 0.5.") from None


def _show(tables: Sequence["Table"], values: object, path: str | None) -> None:
    """Prints tables, and writes what they hold as JSON where that is asked for."""
    from rich.console import Console

    from asrsparse.files import write_json

    for table in tables:
        Console().print(table)
    if path is not None:
        write_json(Path(path), values)
        sys.stdout.write(f"{path}\n")


PLAIN: dict[str, Callable[[Sequence[str]], None]] = {
    "compare": _compare,
    "breakdown": _breakdown,
}
"""Commands that take folders or files, and no configuration."""

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


def _transcribe(words: Sequence[str]) -> None:
    from asrsparse.transcribe import transcribe

    sys.exit(transcribe(words))


PLAIN: dict[str, Callable[[Sequence[str]], None]] = {
    "transcribe": _transcribe,
}
"""Commands that take folders and files, and no Hydra overrides."""
def _export(words: Sequence[str]) -> None:
    from asrsparse.export.kinds import KINDS, export

    places = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if len(places) != 3:
        raise ValueError(
            f"export: got {' '.join(words) or 'nothing'}, allowed are a kind ({', '.join(KINDS)}), the folder of a "
            "run, a new folder, and options as key=value: asrsparse export espnet exp/mini/full-dense exported."
        )
    export(places[0], Path(places[1]), Path(places[2]), options)
    sys.stdout.write(f"{places[2]}\n")


PLAIN: dict[str, Callable[[Sequence[str]], None]] = {"export": _export}
"""Commands that take folders and options of their own, and no configuration."""
