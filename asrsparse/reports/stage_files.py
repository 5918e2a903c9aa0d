"""The JSON files that stages leave for a report."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrsparse.files import read_json

_WRITTEN = {  # the keys without which there is no row, by the stage that writes them
    "train": ("command", "hours_heard", "train_seconds", "density", "parameters"),
    "decode": ("command", "audio_hours", "seconds"),
    "score": (
        *("wer", "ci_low", "ci_high", "cer", "cer_ci_low", "cer_ci_high", "words", "utterances"),
        *("insertions", "deletions", "substitutions", "sentence_error_rate", "bootstrap", "normaliser"),
    ),
}


def read_stage(path: Path, stage: str, further: Sequence[str] = ()) -> dict[str, Any]:
    """Reads the JSON file that a stage leaves: `"train"`, `"decode"` or `"score"`.

    Args:
        path: The file.
        stage: Its name.
        further: Keys that must be there, too.

    Raises:
        ValueError: If it is missing, or lacks what a report shows.
    """
    if not path.is_file():
        raise ValueError(f"No {path}: the stage `{stage}` has not finished. {remedy(path.parent, stage)}")
    values: dict[str, Any] = read_json(path)
    missing = [key for key in (*_WRITTEN[stage], *further) if key not in values]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. Another version wrote it? {remedy(path.parent, stage)}")
    return values


def remedy(folder: Path, stage: str) -> str:
    """The command that makes a stage's files again.

    Args:
        folder: Of a run, or of one of its decodings.
        stage: Its name.
    """
    system_dir = folder.parent if folder.name.startswith("decode_") else folder
    system = re.sub("-(video|audiovisual)$", r" modality=\1", system_dir.name)
    return f"Run `asrsparse {stage} recipe={system_dir.parent.name} system={system}`."
