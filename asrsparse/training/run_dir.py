"""The folder of a run belongs to one configuration and one set of training utterances, which are checked here."""

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
"""Keys that may differ when a run is resumed: they say where files lie, what happens after training, how tables name
the run, or repeat other keys."""


def differences(run_dir: Path, config: Any) -> list[str]:
    """Returns the differences of a configuration from the `config.yaml` of a folder.

    Args:
        run_dir: The folder of a run; one without `config.yaml` has no differences.
        config: The composed configuration.

    Returns:
        A text `KEY: VALUE there, VALUE now` for each different value.
    """
    if not (run_dir / "config.yaml").is_file():
        return []
    found, wanted = _of_the_run(read_config(run_dir)), _of_the_run(config)
    different = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    return [f"{key}: {found.get(key)} there, {wanted.get(key)} now" for key in different]


def claim_utterances(run_dir: Path, cuts: CutIndex) -> None:
    """Records the training utterances of a new run in `data.json`, or checks that a resumed run has the same ones.

    Raises:
        ValueError: See `check_utterances`.
    """
    if (run_dir / "data.json").is_file():
        check_utterances(run_dir, cuts)
    else:
        write_json(run_dir / "data.json", _summary(cuts))


def check_utterances(run_dir: Path, cuts: CutIndex) -> None:
    """Checks that a run has these training utterances, if it has recorded them.

    Raises:
        ValueError: If the run has other utterances.
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
    """Returns the values that define a run, by dotted key, with interpolations resolved."""
    known = OmegaConf.merge(config, {"vocab_size": None})  # else the tokenizer says
    values = flatten(OmegaConf.create(OmegaConf.to_container(known, resolve=True))).items()
    return {key: value for key, value in values if not {key, key.split(".")[0]} & set(_NOT_PART_OF_A_RUN)}
