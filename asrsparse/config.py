"""Composing the configuration: Hydra groups in `asrsparse/conf`, chosen and overridden on the command line."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asrsparse.old_names import delete_dropped_keys, overrides_with_todays_names, with_todays_names

CONF_DIR = Path(__file__).parent / "conf"


def compose_config(overrides: Sequence[str], conf_dir: Path = CONF_DIR) -> DictConfig:
    """Composes the configuration of a command.

    Args:
        overrides: Hydra overrides: `recipe=grid`, `pruning.keep_ratio=0.5`.
        conf_dir: The folder of `config.yaml` and the groups.

    Raises:
        ValueError: If an override names no known group, choice or key; it says which is nearest.
    """
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"Got {override!r}, allowed are overrides as key=value. See `asrsparse --help`.")
    overrides = overrides_with_todays_names(overrides)
    try:
        with initialize_config_dir(str(conf_dir.resolve()), version_base="1.3"):
            config = compose("config", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explain(error, overrides, conf_dir)) from None
    OmegaConf.set_struct(config, False)
    delete_dropped_keys(config, warn=True)
    return config


def _explain(error: Exception, overrides: Sequence[str], conf_dir: Path) -> str:
    """What is wrong with the overrides, with the nearest known name."""
    folders = [path for path in conf_dir.iterdir() if path.is_dir()]
    groups = {folder.name: sorted(f.stem for f in folder.glob("[!_]*.yaml")) for folder in folders}
    groups = {group: choices for group, choices in groups.items() if choices}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in groups and value not in groups[key]:
            return f"Unknown {key}: got {value!r}, allowed are {', '.join(groups[key])}.{_nearest(value, groups[key])}"
    known = _known_keys(conf_dir)
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if not override.startswith("+") and key not in known and not (conf_dir / key).is_dir():
            return f"Unknown option: got {key!r}.{_nearest(key, known)} `asrsparse config` prints all of them."
    first_line = re.sub(r"\s+", " ", str(error)).strip()
    return f"The configuration cannot be composed from {' '.join(overrides)!r}: {first_line}"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _known_keys(conf_dir: Path) -> list[str]:
    """All dotted keys of the configuration, whichever choices of the groups hold them."""
    keys = set()
    for path in conf_dir.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        header = re.match(r"# @package (\S+)", text)
        package = header[1] if header else "_global_" if path.parent == conf_dir else path.parent.name
        prefix = "" if package == "_global_" else f"{package}."
        keys |= {prefix + key for key in flatten(OmegaConf.create(text))}
    inner = {key[:end] for key in keys for end in range(len(key)) if key[end] == "."}
    return sorted(key for key in keys | inner if not key.startswith("defaults"))


def read_config(run_dir: Path) -> DictConfig:
    """The configuration that a run was trained with, under today's names; empty where there is none.

    Raises:
        ValueError: If the file is damaged.
    """
    path = run_dir / "config.yaml"
    try:
        saved = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML ({error}). Train the run again, or move its folder away.") from None
    if not isinstance(saved, DictConfig):
        raise ValueError(f"{path} is not a run's configuration. Name a run's folder.")
    return with_todays_names(saved)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a configuration by dotted key, interpolations unresolved.

    Example:
        >>> flatten(OmegaConf.create({"optim": {"lr": 1.0, "betas": [0.9, 0.98]}}))
        {'optim.lr': 1.0, 'optim.betas': [0.9, 0.98]}
    """
    flat: dict[str, Any] = {}
    values: Any = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def build(config: DictConfig | None, **arguments: Any) -> Any:
    """Calls the `_target_` of a configuration node with its values; strings under keys that end in `_dir` become paths.

    A node that is null makes nothing: None.

    Raises:
        ValueError: What the target itself raised, without Hydra's wrapping; likewise for `OSError`.
    """
    if config is None:
        return None
    folders = {str(k): Path(v) for k, v in config.items() if str(k).endswith("_dir") and isinstance(v, str)}
    try:
        return instantiate(config, _convert_="all", **{**folders, **arguments})
    except InstantiationException as error:
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise error.__cause__ from None
        raise
