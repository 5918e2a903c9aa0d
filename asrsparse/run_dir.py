"""Whose a run's folder is: one configuration's, but for what may differ between two sittings."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asrsparse.config import flatten

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
    ),
    "masks.regime",
)
"""Keys that may differ between two sittings of a run: they say where things lie, what happens after training, what
tables call it, or what other keys say too."""


def differences(run_dir: Path, config: Any) -> list[str]:
    """What of a configuration is other than in the `config.yaml` of a folder, as `KEY: VALUE there, VALUE now`.

    A folder without one belongs to nobody yet: no differences.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        return []
    found, wanted = _of_the_run(OmegaConf.load(path)), _of_the_run(config)
    different = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    return [f"{key}: {found.get(key)} there, {wanted.get(key)} now" for key in different]


def _of_the_run(config: Any) -> dict[str, Any]:
    """The values that make a run what it is, by dotted key; however they came about."""
    known = OmegaConf.merge(config, {"vocab_size": None})  # else the tokenizer says
    values = flatten(OmegaConf.create(OmegaConf.to_container(known, resolve=True))).items()
    return {key: value for key, value in values if not {key, key.split(".")[0]} & set(_NOT_PART_OF_A_RUN)}
