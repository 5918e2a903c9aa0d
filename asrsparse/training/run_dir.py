"""Whose a run's folder is: one configuration's, but for what may differ between two sittings, and one corpus's."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asrsparse.config import flatten, read_config
from asrsparse.data.cut_index import CutIndex
from asrsparse.files import read_json, write_json

_NOT_PART_OF_A_RUN = (
    *(
        "corpus",
        "decode",
        "recipe_name",
        "systems",
        "exp_dir",
        "run_dir",
        "hydra",
        "vocab_size",
        "modality",
        "score",
        "sweep",
        "by_modality",
    ),
    "masks.regime",
    "segments.pruner.seed",
)
"""Keys that may differ between two sittings of a run: they say where things lie, what happens after training, what
tables call it, or what other keys say too."""


def differences(run_dir: Path, config: Any) -> list[str]:
    """What of a configuration is other than in the `config.yaml` of a folder, as `KEY: VALUE there, VALUE now`.

    A folder without one belongs to nobody yet: no differences.
    """
    if not (run_dir / "config.yaml").is_file():
        return []
    found, wanted = _of_the_run(read_config(run_dir)), _of_the_run(config)
    different = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    return [f"{key}: {found.get(key)} there, {wanted.get(key)} now" for key in different]


def claim_utterances(run_dir: Path, cuts: CutIndex) -> None:
    """Records in `data.json` which utterances a run begins with, or checks that it goes on with the same.

    Raises:
        ValueError: As for `check_utterances`.
    """
    if (run_dir / "data.json").is_file():
        check_utterances(run_dir, cuts)
    else:
        write_json(run_dir / "data.json", _summary(cuts))


def check_utterances(run_dir: Path, cuts: CutIndex) -> None:
    """Checks that a run was begun with these utterances, as far as it is known.

    Raises:
        ValueError: If they are others.
    """
    path, now = run_dir / "data.json", _summary(cuts)
    if path.is_file() and (begun := read_json(path)) != now:
        raise ValueError(
            f"{run_dir} was begun with {_in_words(begun)} of training, {cuts.path} holds others, {_in_words(now)}. "
            "Give this run another name (name=NAME), or delete the folder to train it anew."
        )


def _summary(cuts: CutIndex) -> dict[str, Any]:
    return {"utterances": len(cuts), "hours": float(cuts.durations.sum()) / 3600, "fingerprint": cuts.fingerprint}


def _in_words(utterances: dict[str, Any]) -> str:
    return f"{utterances['utterances']} utterances ({utterances['hours']:.2f} h)"


def _of_the_run(config: Any) -> dict[str, Any]:
    """The values that make a run what it is, by dotted key; however they came about."""
    known = OmegaConf.merge(config, {"vocab_size": None})  # else the tokenizer says
    values = flatten(OmegaConf.create(OmegaConf.to_container(known, resolve=True))).items()
    return {key: value for key, value in values if not {key, key.split(".")[0]} & set(_NOT_PART_OF_A_RUN)}
