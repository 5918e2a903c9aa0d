"""The runs and decodings that a report shows: those that a recipe lists, or all finished ones in some folders."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from asrsparse.config import read_config
from asrsparse.reports.run_logs import common_folder
from asrsparse.scoring.decodings import decoding_name
from asrsparse.scoring.stage_files import read_stage

logger = logging.getLogger(__name__)

Test = tuple[str, str]
"""A test set and the method of decoding it, as in `decode_<split>_<method>`."""

MODALITY_ORDER = ("audio", "video", "audiovisual")
"""The order of runs in a report, by the name of their modality."""


@dataclass(frozen=True)
class Selection:
    """The runs and decodings that a report reads.

    Attributes:
        folder: The folder that the report is written to.
        runs: The folder of each run, by its name in the tables; the others are compared with the first.
        tests: The names of the runs that have a row, by test set and method, in the order of the report.
        left_out: The names of runs without a row, each with the reason.
    """

    folder: Path
    runs: dict[str, Path]
    tests: dict[Test, list[str]]
    left_out: list[str]


def select_systems(exp_dir: Path, systems: Sequence[str], method: str, splits: Sequence[str]) -> Selection:
    """Selects systems of a recipe, all of which must have decoded all splits.

    Args:
        exp_dir: The folder of the recipe's runs.
        systems: The names of the systems' folders in it.
        method: The method of decoding.
        splits: The names of the test sets.

    Raises:
        ValueError: If there is no system, or one is named twice.
    """
    if not systems:
        raise ValueError(f"No systems to report for {exp_dir}: name at least one folder in it.")
    runs = {name: exp_dir / name for name in systems}
    _check_once(exp_dir / name for name in systems)
    return Selection(exp_dir, runs, {(split, method): list(systems) for split in splits}, [])


def select_runs(folders: Sequence[Path], baseline: str | None = None, method: str | None = None) -> Selection:
    """Selects all finished runs of some folders, and all clean test sets that they decoded.

    A run whose own folder is given must be finished; unfinished runs in the folder of a recipe are left out. Decodings
    in noise are left out too: `report noise` shows them.

    Args:
        folders: The folders of runs, or of recipes. Runs are in this order, those of a recipe in that of its `systems`.
        baseline: The name of the run that the others are compared with; by default the first one.
        method: The method of decoding; by default all methods.

    Raises:
        ValueError: If there is no finished run, one is named twice, or none has the name `baseline`.
    """
    found = {folder: _runs_in(folder) for folder in folders}
    _check_once(run for runs in found.values() for run in runs)
    root = common_folder(folders)
    reasons = {run: _unfinished(run, method) for runs in found.values() for run in runs}
    for folder in folders:
        if reasons.get(folder):
            raise ValueError(f"{folder} cannot be reported: {reasons[folder]}.")
    runs = {_name(run, root): run for run, reason in reasons.items() if not reason}
    left_out = [f"{_name(run, root)}: {reason}" for run, reason in reasons.items() if reason]
    if not runs:
        raise ValueError(f"No finished run in {', '.join(map(str, folders))}: {'; '.join(left_out)}.")
    runs = _with_first(runs, baseline)
    for reason in left_out:
        logger.warning("Left out: %s.", reason)
    return Selection(root, runs, _tests(runs, method), left_out)


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself if it is that of a run, else the runs in it."""
    if _is_run(folder):
        return [folder]
    runs = [path for path in folder.glob("*") if path.is_dir() and _is_run(path)]
    if not runs:
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise ValueError(
            f"report: {folder} {what}. Allowed are folders of runs (exp/mini/easy2hard) and of recipes (exp/mini), in "
            "which `asrsparse train` has left config.yaml."
        )
    return sorted(runs, key=_place)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.yaml", "train.json"))


def _place(run: Path) -> tuple[int, int, str]:
    """Sorts by modality, then as the recipe lists its systems, then by name."""
    config, modality = read_config(run), modality_of(run)
    suffix = OmegaConf.select(config, "modality.suffix", default="")
    listed = [f"{name}{suffix}" for name in OmegaConf.select(config, "systems", default=[])]
    number = listed.index(run.name) if run.name in listed else len(listed)
    return MODALITY_ORDER.index(modality) if modality in MODALITY_ORDER else len(MODALITY_ORDER), number, run.name


def _check_once(runs: Iterable[Path]) -> None:
    seen: set[Path] = set()
    for run in runs:
        if run.resolve() in seen:
            raise ValueError(
                f"report: got {run} twice, allowed is once. Name each run once: the folder of a recipe includes all of "
                "its runs. To compare with another run than the first, give baseline=NAME."
            )
        seen.add(run.resolve())


def _unfinished(run: Path, method: str | None) -> str | None:
    """Why a run cannot be in the report, or None."""
    if not (run / "train.json").is_file():
        return "its training has not finished"
    decoded = _decoded(run, method)
    if not decoded:
        return "it has not been decoded" + (f" with {method}" if method else "")
    return None if any(decoded.values()) else "it is decoded, but not scored (run `asrsparse score`)"


def _decoded(run: Path, method: str | None) -> dict[Test, bool]:
    """The clean decodings of a run, and whether each is scored."""
    found = {}
    for path in sorted(run.glob("decode_*/decode.json")):
        values = read_stage(path, "decode", ("split", "method"))
        if path.parent.name == decoding_name(values["split"], values["method"]) and method in (None, values["method"]):
            found[values["split"], values["method"]] = (path.parent / "score.json").is_file()
    return found


def _name(run: Path, root: Path) -> str:
    """The path from the folder of the report: the folder's name, unless the runs lie in several recipes."""
    relative = Path(os.path.relpath(run, root)).as_posix()
    return root.name if relative == "." else relative


def _with_first(runs: dict[str, Path], baseline: str | None) -> dict[str, Path]:
    if baseline is None:
        return runs
    if baseline not in runs:
        raise ValueError(f"report: baseline got {baseline}, allowed are the finished runs: {', '.join(runs)}.")
    return {baseline: runs[baseline], **runs}


def _tests(runs: dict[str, Path], method: str | None) -> dict[Test, list[str]]:
    """Test sets in the order of `decode.splits`, those that no recipe lists (any more) after them."""
    scored = {name: [test for test, done in _decoded(run, method).items() if done] for name, run in runs.items()}
    listed = list(dict.fromkeys(split for run in runs.values() for split in _splits(run)))
    tests = sorted({test for tests in scored.values() for test in tests})
    tests.sort(key=lambda test: listed.index(test[0]) if test[0] in listed else len(listed))
    return {test: [name for name in runs if test in scored[name]] for test in tests}


def _splits(run: Path) -> list[str]:
    return list(OmegaConf.select(read_config(run), "decode.splits", default=[]))


def modality_of(run: Path) -> str:
    """Returns the name of a run's modality; runs of versions that recorded none are of audio."""
    return str(OmegaConf.select(read_config(run), "modality.name", default="audio"))
