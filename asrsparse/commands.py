"""What each command does: reads its words, calls what does the work, prints. Imports what it needs only when it runs.

Most commands take Hydra overrides, of which one configuration is composed (`_composed`); the others take folders, files
and options of their own.
"""

import logging
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.table import Table

    from asrsparse.reports.rows import Report

logger = logging.getLogger(__name__)

Command = Callable[[Sequence[str]], None]


def _composed(name: str, stage: "Callable[[DictConfig, str], None]") -> Command:
    """A command of Hydra overrides; the stage gets the configuration and the command line, for the record."""

    def run(words: Sequence[str]) -> None:
        from asrsparse.config import compose_config

        stage(compose_config(words), shlex.join(["asrsparse", name, *words]))

    return run


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
    from asrsparse.training.callbacks import Interrupted
    from asrsparse.training.train import train

    try:
        train(config, command)
    except Interrupted as stopped:
        sys.stderr.write(f"asrsparse: {stopped} Run the same command again to go on.\n")
        sys.exit(130)
    except RuntimeError as error:
        if "closed by peer" not in str(error) and "Connection reset" not in str(error):
            raise
        raise ValueError(
            "another rank has ended, so this one cannot go on. The message of that rank says why. The last checkpoint "
            "is whole: run the same command again to go on."
        ) from error


def _decode(config: "DictConfig", command: str) -> None:
    from asrsparse.decoding.decode import decode

    decode(config, command)


def _score(config: "DictConfig", command: str) -> None:
    from asrsparse.scoring.decodings import decodings
    from asrsparse.scoring.score import is_scored, score, score_settings

    settings = score_settings(config)
    if settings[-1] is None:
        logger.info("No tokenizer in %s/cuts: no token rate.", config.data_dir)
    for folder in (decoding.folder for decoding in decodings(config)):
        if is_scored(folder, *settings):
            logger.info("%s is already scored.", folder)
        else:
            score(folder, *settings)


def _report(words: Sequence[str]) -> None:
    """Reports the systems of a configuration, all runs of folders, or one side of them on a page."""
    if words and words[0] in PAGES:
        PAGES[words[0]](words[1:])
    elif all("=" in word and not Path(word).is_dir() for word in words):
        _composed("report", _report_systems)(words)
    else:
        _report_runs(words)


def _report_systems(config: "DictConfig", command: str) -> None:
    from asrsparse.reports.report import report

    systems = [f"{system}{config.modality.suffix}" for system in config.systems]
    _print_report(report(Path(config.exp_dir), systems, method=config.decode.method, splits=list(config.decode.splits)))


def _report_runs(words: Sequence[str]) -> None:
    from asrsparse.reports.report import report_runs

    folders, options = _folders_and_options("report", words, ("baseline", "method"))
    _print_report(report_runs(folders, **options))


def _print_report(report: "Report") -> None:
    from rich.console import Console

    from asrsparse.reports.tables import to_tables

    Console().print(*to_tables(report))


def _report_pruning(words: Sequence[str]) -> None:
    from rich.console import Console

    from asrsparse.reports.mislabelled import to_table
    from asrsparse.reports.pruning_report import report_pruning

    folders, options = _folders_and_options("report pruning", words, ("utterance", "reference"))
    reference = Path(options["reference"]) if "reference" in options else None
    page, suspects = report_pruning(folders, options.get("utterance"), reference)
    Console().print(*(to_table(of_run) for of_run in suspects if of_run.utterances))
    sys.stdout.write(f"{page}\n")


def _report_masks(words: Sequence[str]) -> None:
    from rich.console import Console

    from asrsparse.reports.mask_report import report_masks, to_table

    folders, _ = _folders_and_options("report masks", words)
    page, rows = report_masks(folders)
    Console().print(to_table(rows))
    sys.stdout.write(f"{page}\n")


def _report_noise(words: Sequence[str]) -> None:
    from rich.console import Console

    from asrsparse.reports.noise_report import report_noise, to_table

    folders, options = _folders_and_options("report noise", words, ("method", "split"))
    path, conditions, rows = report_noise(folders, **options)
    Console().print(to_table(conditions, rows))
    sys.stdout.write(f"{path}\n")


PAGES: dict[str, Command] = {
    "pruning": _report_pruning,
    "masks": _report_masks,
    "noise": _report_noise,
}
"""What `report` shows of runs on a page, where the first word after it names one."""


def _compare(words: Sequence[str]) -> None:
    from asrsparse.scoring.comparison import DEFAULT_MARGIN, Margin, compare_folders, to_json, to_table

    folders, options = _folders_and_options("compare", words, ("margin", "relative_margin", "json"))
    if {"margin", "relative_margin"} <= options.keys():
        raise ValueError("compare: got margin and relative_margin, allowed is one of them.")
    margin = DEFAULT_MARGIN
    for key in options.keys() & {"margin", "relative_margin"}:
        margin = Margin(_percent(key, options[key]), relative=key == "relative_margin")
    compared = compare_folders(folders, margin)
    _show([to_table(one) for one in compared], to_json(compared), options.get("json"))


def _breakdown(words: Sequence[str]) -> None:
    from asrsparse.scoring.breakdown import break_down, to_json, to_table

    folders, options = _folders_and_options("breakdown", words, ("json",))
    made = break_down(folders)
    _show([to_table(one) for one in made], to_json(made), options.get("json"))


def _folders_and_options(
    command: str, words: Sequence[str], allowed: Sequence[str] = ()
) -> tuple[list[Path], dict[str, str]]:
    """Parts the words after a plain command. A folder may have a `=` in its name, as those of sweeps do."""
    options = dict(word.split("=", 1) for word in words if word.partition("=")[0] in allowed and "=" in word)
    folders = [Path(word) for word in words if word.partition("=")[0] not in allowed or "=" not in word]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        got = missing[0] if missing else "no folder"
        choices = ", ".join(["folders that exist", *(f"{key}=VALUE" for key in allowed)])
        raise ValueError(f"{command}: got {got}, allowed are {choices}.")
    return folders, options


def _percent(key: str, text: str) -> float:
    try:
        share = float(text) / 100
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ValueError(f"compare {key}: got {text!r}, allowed is a number in per cent, 0 or more, such as 0.5.")
    return share


def _show(tables: Sequence["Table"], values: object, path: str | None) -> None:
    """Prints tables, and writes what they hold as JSON where that is asked for."""
    from rich.console import Console

    from asrsparse.files import write_json

    for table in tables:
        Console().print(table)
    if path is not None:
        write_json(Path(path), values)
        sys.stdout.write(f"{path}\n")


def _transcribe(words: Sequence[str]) -> None:
    from asrsparse.decoding.transcribe import transcribe

    sys.exit(transcribe(words))


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


def _sweep(words: Sequence[str]) -> None:
    from asrsparse.sweeps.sweep import sweep

    try:
        failures = sweep(words)
    except KeyboardInterrupt:
        sys.stderr.write("asrsparse: the sweep is stopped. Run the same command again to go on.\n")
        sys.exit(130)
    if failures:
        sys.exit(1)


def _config(config: "DictConfig", command: str) -> None:
    from omegaconf import OmegaConf

    sys.stdout.write(OmegaConf.to_yaml(config))


COMMANDS: dict[str, Command] = {
    "prepare": _composed("prepare", _prepare),
    "train": _composed("train", _train),
    "decode": _composed("decode", _decode),
    "score": _composed("score", _score),
    "report": _report,
    "compare": _compare,
    "breakdown": _breakdown,
    "sweep": _sweep,
    "transcribe": _transcribe,
    "export": _export,
    "config": _composed("config", _config),
}
