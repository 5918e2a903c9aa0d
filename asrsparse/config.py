"""Composing the configuration: Hydra groups in `asrsparse/conf`, chosen and overridden on the command line.

Defaults of the two subjects' classes stand in their constructors alone. `with_constructor_defaults` writes them into a
composed or saved configuration, so that it is complete, and so that each of them can be overridden by its key.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asrsparse.old_names import delete_dropped_keys, overrides_with_todays_names, with_todays_names

CONF_DIR = Path(__file__).parent / "conf"

_SUBJECTS = ("asrsparse.pruning", "asrsparse.masks")
_HYDRAS_ERRORS = (HydraException, OmegaConfBaseException)


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
        return with_constructor_defaults(_compose(overrides, conf_dir))
    except _HYDRAS_ERRORS:
        pass  # perhaps since a key stands in no file, but is an argument of a constructor
    try:
        return with_constructor_defaults(_compose(_with_constructor_keys(overrides, conf_dir), conf_dir))
    except _HYDRAS_ERRORS as error:
        raise ValueError(_explain(error, overrides, conf_dir)) from None


def _compose(overrides: Sequence[str], conf_dir: Path) -> DictConfig:
    with initialize_config_dir(str(conf_dir.resolve()), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    OmegaConf.set_struct(config, False)
    delete_dropped_keys(config, warn=True)
    return config


def _with_constructor_keys(overrides: Sequence[str], conf_dir: Path) -> list[str]:
    """The overrides, with `++` before keys that stand in no file, but are arguments of the constructors chosen."""
    groups = _groups(conf_dir)
    composed = _compose([override for override in overrides if _key(override) in groups], conf_dir)
    arguments = flatten(with_constructor_defaults(composed)).keys() - flatten(composed).keys()
    return [f"++{override}" if override.partition("=")[0] in arguments else override for override in overrides]


def with_constructor_defaults(config: DictConfig) -> DictConfig:
    """A configuration with the defaults of the constructors of `asrsparse.pruning` and `asrsparse.masks` that it names.

    Only plain values are written: numbers, texts, booleans, null, and sequences of texts. A `_target_` of
    another package is not looked at, so that a configuration from elsewhere imports nothing here.

    Args:
        config: It stays as it is.

    Example:
        >>> config = OmegaConf.create({"policy": {"_target_": "asrsparse.pruning.EpsilonGreedy", "keep_ratio": 0.5}})
        >>> with_constructor_defaults(config).policy.epsilon
        0.2
    """
    filled = OmegaConf.create(_with_defaults(OmegaConf.to_container(config)))
    assert isinstance(filled, DictConfig)
    return filled


def _with_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_defaults(child) for child in node]
    if not isinstance(node, dict):
        return node
    children = {key: _with_defaults(child) for key, child in node.items()}
    return children | {key: value for key, value in _defaults_of(node.get("_target_")).items() if key not in children}


def _defaults_of(target: Any) -> dict[str, Any]:
    """The plain defaults of a constructor that one of the two subjects' packages exports."""
    package, _, name = str(target).rpartition(".")
    if package not in _SUBJECTS:
        return {}
    constructor = getattr(importlib.import_module(package), name, None)
    parameters = inspect.signature(constructor).parameters if inspect.isclass(constructor) else {}
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in defaults.items()
        if value is None
        or isinstance(value, bool | int | float | str)
        or (isinstance(value, tuple) and all(isinstance(each, str) for each in value))
    }


def _explain(error: Exception, overrides: Sequence[str], conf_dir: Path) -> str:
    """What is wrong with the overrides, with the nearest known name."""
    groups = {group: choices for group, choices in _groups(conf_dir).items() if choices}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in groups and value not in groups[key]:
            return f"Unknown {key}: got {value!r}, allowed are {', '.join(groups[key])}.{_nearest(value, groups[key])}"
    known = _known_keys(conf_dir)
    for override in overrides:
        key = _key(override)
        if not override.startswith("+") and key not in known and key not in groups:
            return f"Unknown option: got {key!r}.{_nearest(key, known)} `asrsparse config` prints all of them."
    first_line = re.sub(r"\s+", " ", str(error)).strip()
    return f"The configuration cannot be composed from {' '.join(overrides)!r}: {first_line}"


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _groups(conf_dir: Path) -> dict[str, list[str]]:
    """The choices of each group, `stream/audio` among the groups."""
    folders = [path for path in conf_dir.rglob("*") if path.is_dir()]
    return {
        folder.relative_to(conf_dir).as_posix(): sorted(file.stem for file in folder.glob("[!_]*.yaml"))
        for folder in folders
    }


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _known_keys(conf_dir: Path) -> list[str]:
    """All dotted keys of the configuration, whichever choices of the groups hold them, constructors' defaults too."""
    keys = set()
    for path in conf_dir.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        header = re.match(r"# @package (\S+)", text)
        package = header[1] if header else "_global_" if path.parent == conf_dir else path.parent.name
        prefix = "" if package == "_global_" else f"{package}."
        node = OmegaConf.create(yaml.safe_load(text))
        assert isinstance(node, DictConfig)
        keys |= {prefix + key for key in flatten(with_constructor_defaults(node))}
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
    return with_constructor_defaults(with_todays_names(saved))


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
        ValueError: What the target itself raised, without Hydra's wrapping. Where its message begins with an argument
            (`max_age: got 0, ...`), the key that sets this argument takes its place (`pruning.plan.max_age: got ...`).
        OSError: What the target itself raised.
    """
    if config is None:
        return None
    folders = {str(k): Path(v) for k, v in config.items() if str(k).endswith("_dir") and isinstance(v, str)}
    try:
        return instantiate(config, _convert_="all", **{**folders, **arguments})
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise ValueError(_with_key(str(error.__cause__), str(error), config, set(arguments))) from None
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


def _with_key(message: str, wrapped: str, config: DictConfig, given: set[str]) -> str:
    """A constructor's message, with the key of the configuration in the place of the argument that it begins with.

    Args:
        message: Of the constructor.
        wrapped: Hydra's message around it, which ends with the key of the node.
        config: What was built.
        given: Arguments that come from code, and have no key.
    """
    argument, node_key = re.match(r"(\w+)(?=(?: and \w+)?: )", message), re.search(r"full_key: (\S+)$", wrapped)
    if argument is None or node_key is None or argument[0] in given:
        return message
    node = OmegaConf.select(config._get_root(), node_key[1])
    if not isinstance(node, DictConfig) or argument[0] not in node:
        return message
    written = node._get_node(argument[0])
    pointed = re.fullmatch(r"\$\{(\w[\w.]*)\}", str(written._value() if isinstance(written, Node) else written))
    return f"{pointed[1] if pointed else f'{node_key[1]}.{argument[0]}'}{message.removeprefix(argument[0])}"
