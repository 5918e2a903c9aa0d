"""The runs of a sweep: all combinations of overrides with several values, composed and checked.

The grammar is that of Hydra's multirun: `pruning=random,easy2hard`, `seed=range(0,3)`, `masks=glob(*)`.
"""

import itertools
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from asrsparse.config import CONF_DIR, compose_config
from asrsparse.scoring.decodings import decodings
from asrsparse.scoring.score import is_scored, score_settings
from asrsparse.training.run_dir import differences

STAGES = ("train", "decode", "score")
"""The commands of a run, in their order."""

ONE_VALUE = ("recipe", "recipe_name", "corpus", "data_dir", "decode", "systems", "exp_dir", "run_dir", "name", "sweep")
"""Groups, and first parts of keys, that must have one value in a sweep, since its table compares all runs."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep, which trains one combination of values.

    Attributes:
        name: The name of its folder.
        group: The name that it shares with the runs that differ from it in their seed alone.
        overrides: The overrides that each of its stages is called with.
        config: The configuration that is composed from them.
    """

    name: str
    group: str
    overrides: tuple[str, ...]
    config: DictConfig

    @property
    def folder(self) -> Path:
        """The folder that it trains in."""
        return Path(self.config.run_dir)

    @property
    def log(self) -> Path:
        """The file with all that its stages print."""
        return self.folder / "sweep.log"

    def commands(self) -> list[list[str]]:
        """Returns the commands of its stages, each as a list of words."""
        return [[sys.executable, "-m", "asrsparse", stage, *self.overrides] for stage in STAGES]

    def is_finished(self) -> bool:
        """Returns whether it is trained, and all its test sets are decoded and scored as the configuration says."""
        if not all((self.folder / name).is_file() for name in ("train.json", "model.safetensors")):
            return False
        settings = score_settings(self.config)
        return all(is_scored(decoding.folder, *settings) for decoding in decodings(self.config))


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, and what they have in common.

    Attributes:
        config: The configuration without the values that differ between runs.
        runs: One run for each combination of these values.
    """

    config: DictConfig
    runs: list[SweepRun]


def split(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Splits overrides into those with one value, unchanged, and the values of the others by their key.

    Example:
        >>> split(["recipe=grid", "pruning=random,easy2hard", "seed=range(0,3)"])
        (['recipe=grid'], {'pruning': ['random', 'easy2hard'], 'seed': ['0', '1', '2']})

    Raises:
        ValueError: If Hydra cannot read one, a key or a value is given twice, or an override is an interval.
    """
    overrides = _parse(words)
    if twice := _repeated(override.key_or_group for override in overrides):
        raise ValueError(f"Contradictory: got {twice} more than once, allowed is once, with all values: key=a,b.")
    fixed = [word for word, override in zip(words, overrides, strict=True) if not override.is_sweep_override()]
    swept = {override.get_key_element(): _values(override) for override in overrides if override.is_sweep_override()}
    return fixed, swept


def _parse(words: Sequence[str]) -> list[Override]:
    for word in words:
        if "=" not in word:
            raise ValueError(f"Got {word!r}, allowed are overrides as key=value. See `asrsparse --help`.")
    try:
        with initialize_config_dir(str(CONF_DIR.resolve()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()  # knows the choices of a glob
            return OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    except HydraException as error:
        raise ValueError(f"Hydra cannot read {' '.join(words)!r}: {str(error).splitlines()[0]}") from None


def _repeated(values: Iterable[str]) -> str:
    return ", ".join(value for value, times in Counter(values).items() if times > 1)


def _values(override: Override) -> list[str]:
    """The values of an override, each as it would stand alone in a command."""
    key = override.key_or_group
    if re.split("[./]", key)[0] in ONE_VALUE:
        raise ValueError(f"{key}: got several values, allowed is one, since a table compares what is decoded alike.")
    if not override.is_discrete_sweep():
        raise ValueError(f"{key}: got an interval, allowed are lists of values: {key}=a,b or {key}=range(0,10,2).")
    values = [value for value in override.sweep_string_iterator() if not value.startswith("_")]  # parts of choices
    if not values or (twice := _repeated(values)):
        raise ValueError(f"{key}: got {f'{twice} more than once' if values else 'no value'}, allowed are others.")
    return values


def names(swept: dict[str, list[str]]) -> list[str]:
    """Returns a name for each combination, in the order of `itertools.product`; no two are the same.

    Example:
        >>> names({"pruning": ["random", "easy2hard"], "pruning.keep_ratio": ["0.5"], "seed": ["0", "1"]})[1:3]
        ['random-keep_ratio0.5-seed1', 'easy2hard-keep_ratio0.5-seed0']
    """
    labels = [[_label(key, value, swept) for value in values] for key, values in swept.items()]
    taken: list[str] = []
    for parts in itertools.product(*labels):
        name = "-".join(parts)
        free = (name if number == 1 else f"{name}+{number}" for number in itertools.count(1))
        taken.append(next(candidate for candidate in free if candidate not in taken))
    return taken


def _label(key: str, value: str, swept: dict[str, list[str]]) -> str:
    """The part of a name for one value: a choice of a group alone, another value behind the last part of its key."""
    bare, short = key.lstrip("+"), key.split(".")[-1].lstrip("+")
    is_group = (CONF_DIR / bare).is_dir()
    known = short if sum(other.split(".")[-1] == short for other in swept) == 1 else bare
    label = re.sub(r"[^A-Za-z0-9.+_-]+", "_", value if is_group else known + value)[:60]
    return label.lstrip(".") or "_"  # a folder is neither hidden nor `..`


def combine(words: Sequence[str]) -> Sweep:
    """Composes and checks all runs of a sweep.

    Args:
        words: Hydra overrides; those with several values are combined.

    Raises:
        ValueError: If there is nothing to combine, or more than `sweep.most_runs`; if one name is given for many runs,
            a combination cannot be composed, or a folder holds another run.
    """
    fixed, swept = split(words)
    number = math.prod(map(len, swept.values()))
    if number < 2:
        raise ValueError(f"Nothing to sweep: got {' '.join(words) or 'no word'}, allowed is a list: seed=0,1,2.")
    if any(word.startswith("name=") for word in fixed):
        raise ValueError(f"name: got one name for {number} runs, allowed is none: each is named after what differs.")
    config = compose_config(fixed)
    if number > config.sweep.most_runs:
        raise ValueError(
            f"Got {number} combinations, allowed are {config.sweep.most_runs}. To allow it: sweep.most_runs={number}."
        )
    shared = [word for word in fixed if not re.match(r"[+~]*sweep\b", word)]
    if not any(word.startswith("exp_dir=") for word in fixed):
        config.exp_dir = f"exp/{config.recipe_name}-sweep"
        shared.append(f"exp_dir={config.exp_dir}")
    named = track(_named(swept, config.name), "composing", number, transient=True, console=Console(stderr=True))
    return Sweep(config, [_run(name, group, [*shared, *parts]) for name, group, parts in named])


def _named(swept: dict[str, list[str]], system: str) -> Iterator[tuple[str, str, list[str]]]:
    """Name, group and overrides of each combination."""
    others = {key: values for key, values in swept.items() if key != "seed"}
    groups = dict(zip(itertools.product(*others.values()), names(others), strict=True))
    for name, values in zip(names(swept), itertools.product(*swept.values()), strict=True):
        chosen = dict(zip(swept, values, strict=True))
        group = groups[tuple(chosen[key] for key in others)] or system
        yield name, group, [f"{key}={value}" for key, value in chosen.items()]


def _run(name: str, group: str, overrides: list[str]) -> SweepRun:
    overrides = [*overrides, f"name={name}"]
    run = SweepRun(name, group, tuple(overrides), compose_config(overrides))
    if different := differences(run.folder, run.config):
        raise ValueError(
            f"{run.folder} holds a run with another configuration ({'; '.join(different[:5])}). Give this sweep a "
            "folder of its own: exp_dir=DIR."
        )
    return run
