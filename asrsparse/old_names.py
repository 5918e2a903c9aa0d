"""Names that runs of older versions have in their `config.yaml`, and people in their scripts; and today's names.

All readers of saved configurations, and the reader of overrides, pass through here; nothing else knows an old name.
"""

import logging
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

logger = logging.getLogger(__name__)

TARGETS = {
    "asrsparse.checkpoints.BestEpochs": "asrsparse.training.checkpoints.BestEpochs",
    "asrsparse.checkpoints.LastEpochs": "asrsparse.training.checkpoints.LastEpochs",
    "asrsparse.cuts.prepare_cuts": "asrsparse.data.cuts.prepare_cuts",
    "asrsparse.decode.GreedyCTC": "asrsparse.decoding.decoders.GreedyCTC",
    "asrsparse.decode.JointBeamSearch": "asrsparse.decoding.decoders.JointBeamSearch",
    "asrsparse.launchers.Local": "asrsparse.sweeps.launchers.Local",
    "asrsparse.launchers.Submitit": "asrsparse.sweeps.launchers.Submitit",
    "asrsparse.noise.NoNoise": "asrsparse.data.noise.NoNoise",
    "asrsparse.noise.training_babble": "asrsparse.data.noise.training_babble",
    "asrsparse.pruning.AllTime": "asrsparse.pruning.KeepAllTime",
    "asrsparse.score.Bootstrap": "asrsparse.scoring.bootstrap.Bootstrap",
}
"""What a `_target_` was called -> what it is called."""

KEYS: dict[str, str] = {
    "masks.method.pull": "masks.method.weight_decay",
    "masks.method.rebirth_warmup": "masks.method.regrowth_warmup",
}
"""Dotted keys of the configuration: what they were called -> what they are called."""

VALUES = {"corpus.video": {"films": "faces", "mouths": "mouth_regions"}}
"""Dotted key of today -> the old names of its values -> their new names."""

DROPPED = {"corpus.cuts.tokenizer": "corpus.cuts.vocab_size decides it: null gives characters, a number SentencePiece"}
"""Dotted keys that no longer exist -> what replaces them."""


def with_todays_names(config: DictConfig) -> DictConfig:
    """A saved configuration as this version would have written it.

    Args:
        config: As it was saved; it stays as it is.

    Example:
        >>> saved = OmegaConf.create({"decoder": {"_target_": "asrsparse.decode.GreedyCTC"}})
        >>> with_todays_names(saved).decoder._target_
        'asrsparse.decoding.decoders.GreedyCTC'
    """
    todays = OmegaConf.create(_with_todays_targets(OmegaConf.to_container(config)))
    assert isinstance(todays, DictConfig)
    for old, new in KEYS.items():
        parent, _, key = old.rpartition(".")
        node = OmegaConf.select(todays, parent) if parent else todays
        if isinstance(node, DictConfig) and key in node:
            value = node._get_node(key)  # an interpolation stays one
            del node[key]
            OmegaConf.update(todays, new, value)
    for key, new_names in VALUES.items():
        value = OmegaConf.select(todays, key, throw_on_resolution_failure=False)
        if isinstance(value, str) and value in new_names:
            OmegaConf.update(todays, key, new_names[value])
    delete_dropped_keys(todays)
    return todays


def delete_dropped_keys(config: DictConfig, warn: bool = False) -> None:
    """Deletes keys that no longer exist from a configuration, in place.

    Args:
        config: A saved configuration, or a composed one, which may contain YAML files of the user.
        warn: Whether to log a warning for each of them.
    """
    for dropped, reason in DROPPED.items():
        parent, _, key = dropped.rpartition(".")
        node = OmegaConf.select(config, parent)
        if isinstance(node, DictConfig) and key in node:
            if warn:
                logger.warning("%s is not needed, and the next release will refuse it: %s.", dropped, reason)
            del node[key]


def _with_todays_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: TARGETS.get(value, value) if key == "_target_" else _with_todays_targets(value)
            for key, value in node.items()
        }
    return [_with_todays_targets(child) for child in node] if isinstance(node, list) else node


def overrides_with_todays_names(overrides: Iterable[str]) -> list[str]:
    """Overrides whose keys, values and targets are today's, without dropped keys; a warning names each old one.

    Example:
        >>> overrides_with_todays_names(["trainer.average._target_=asrsparse.checkpoints.BestEpochs"])
        ['trainer.average._target_=asrsparse.training.checkpoints.BestEpochs']
    """
    return [_override_with_todays_names(override) for override in overrides if not _is_dropped(override)]


def _is_dropped(override: str) -> bool:
    key = override.partition("=")[0].lstrip("+~")
    if key in DROPPED:
        logger.warning("%s is not needed, and the next release will refuse it: %s.", override, DROPPED[key])
    return key in DROPPED


def _override_with_todays_names(override: str) -> str:
    written, equals, value = override.partition("=")
    old_key = written.lstrip("+~")
    key = KEYS.get(old_key, old_key)
    new_value = VALUES.get(key, {}).get(value, TARGETS.get(value, value))
    todays = f"{written.removesuffix(old_key)}{key}{equals}{new_value}"
    if todays != override:
        logger.warning("%s is an old name, which the next release will not know. Write %s.", override, todays)
    return todays
