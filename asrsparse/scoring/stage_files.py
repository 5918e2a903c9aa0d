"""The JSON files that stages leave in the folder of a run, and the commands that make them again."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asrsparse.config import CONF_DIR, read_config
from asrsparse.files import read_json

_WRITTEN = {  # the keys that reports need, by the stage that writes them
    "train": ("command", "hours_heard", "train_seconds", "density", "parameters"),
    "decode": ("command", "audio_hours", "seconds"),
    "score": (
        *("wer", "ci_low", "ci_high", "cer", "cer_ci_low", "cer_ci_high", "words", "utterances"),
        *("insertions", "deletions", "substitutions", "sentence_error_rate", "bootstrap", "normaliser"),
    ),
}


def read_stage(path: Path, stage: str, further: Sequence[str] = ()) -> dict[str, Any]:
    """Reads the JSON file that a stage leaves.

    Args:
        path: The file.
        stage: The name of the stage: `"train"`, `"decode"` or `"score"`.
        further: Keys that the file must have besides those that every report shows.

    Raises:
        ValueError: If the file is missing or damaged, or lacks a key.
    """
    if not path.is_file():
        raise ValueError(f"No {path}: the stage `{stage}` has not finished. {remedy(path.parent, stage)}")
    values: dict[str, Any] = read_json(path)
    missing = [key for key in (*_WRITTEN[stage], *further) if key not in values]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. Another version wrote it? {remedy(path.parent, stage)}")
    return values


def remedy(folder: Path, stage: str) -> str:
    """Returns a sentence with the command that makes the files of a stage again.

    The command has the overrides of the recorded command of the run. Where none is recorded, it names the recipe and
    the system, or else the name of the run.

    Args:
        folder: The folder of a run, or of one of its decodings.
        stage: The name of the stage: `"train"`, `"decode"` or `"score"`.
    """
    run_dir = folder.parent if folder.name.startswith("decode_") else folder
    recorded = _recorded_overrides(folder / "decode.json", "decode") if stage == "score" else None
    if recorded is None:
        recorded = _recorded_overrides(run_dir / "train.json", "train")
    if recorded is not None:
        return f"Run `{shlex.join(['asrsparse', stage, *recorded])}`."
    recipe, name, modality = _named(run_dir)
    system = re.sub("-(video|audiovisual)$", "", name)
    command = ["asrsparse", stage, f"recipe={recipe}"]
    if (CONF_DIR / "system" / f"{system}.yaml").is_file():
        of_modality = [] if modality == "audio" else [f"modality={modality}"]
        return f"Run `{shlex.join([*command, f'system={system}', *of_modality])}`."
    return f"Run `{shlex.join([*command, f'name={name}'])}` with the other options of its training."


def _recorded_overrides(path: Path, stage: str) -> list[str] | None:
    """The overrides of the command that wrote a file; None if it recorded no command of that stage."""
    words = shlex.split(str(read_json(path).get("command", ""))) if path.is_file() else []
    return words[2:] if words[1:2] == [stage] else None


def _named(run_dir: Path) -> tuple[str, str, str]:
    """Recipe, name and modality of a run, from its configuration or else from the names of its folders."""
    config = read_config(run_dir)
    suffix = re.search("-(video|audiovisual)$", run_dir.name)
    return (
        str(OmegaConf.select(config, "recipe_name", default=run_dir.parent.name)),
        str(OmegaConf.select(config, "name", default=run_dir.name)),
        str(OmegaConf.select(config, "modality.name", default=suffix[1] if suffix else "audio")),
    )
