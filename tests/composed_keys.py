"""The keys and choices of the configuration, and the words of messages that name them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest

from asrsparse.config import CONF_DIR, compose_config, flatten
from asrsparse.masks import SparseMasks

FILE_TYPES = {
    "safetensors",
    "json",
    "jsonl",
    "yaml",
    "py",
    "parquet",
    "html",
    "txt",
    "md",
    "log",
    "ckpt",
    "sh",
    "pth",
    "onnx",
}
HOLE = "\0"
"""Stands for a value that an f-string puts in."""


@cache
def choices() -> dict[str, set[str]]:
    """The choices of each group of the configuration: `decode` has `ctc_greedy` and `joint`."""
    found = {}
    for folder in [path for path in CONF_DIR.rglob("*") if path.is_dir()]:
        if names := {path.stem for path in folder.glob("[!_]*.yaml")}:
            found[folder.relative_to(CONF_DIR).as_posix()] = names
    return found


@cache
def composed_keys() -> frozenset[str]:
    """All dotted keys that some choice of some group gives, and those of the nodes that hold them."""
    keys: set[str] = set()
    for overrides in compositions():
        keys |= set(flatten(compose_config(overrides)))
    return frozenset(keys | {key[:end] for key in keys for end in range(len(key)) if key[end] == "."})


def compositions() -> list[list[str]]:
    """Overrides in which every choice stands once; as few as can be, since composing takes a third of a second.

    A recipe and a system choose of other groups themselves, so each is composed without other choices.
    """
    groups = {group: sorted(names) for group, names in choices().items() if "/" not in group}
    alone = [[f"{group}={name}"] for group in ("recipe", "system") for name in groups.pop(group)]
    together = [
        [f"{group}={name}" for group, name in zip(groups, chosen, strict=True) if name]
        for chosen in zip_longest(*groups.values())
    ]
    return [*together, *alone]


def text_of(node: ast.AST) -> str | None:
    """The text of a string constant or an f-string, whose values become holes; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    return None


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the text of the strings inside a node: f-strings as a whole, docstrings left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        text = text_of(child)
        if text is not None:
            yield child.lineno, text
        if not isinstance(child, (ast.Constant, ast.JoinedStr)):
            yield from texts(child)


WORD = re.compile(rf"(?<![\w.\[/+{HOLE}-])([a-z_]\w*(?:\.[a-z_]\w*)+)(=?)(?![\w.]*[/(])")


def unknown_keys(text: str) -> list[str]:
    """The dotted words of a text that look like keys of the configuration and are none.

    Such a word begins with a key of the top level, or an equals sign follows it. File names and methods of
    `SparseMasks` look alike and are none: `model.safetensors`, `masks.step`.
    """
    groups = {key.split(".")[0] for key in composed_keys()}
    found = []
    for word, assigned in WORD.findall(text):
        first, *rest = word.split(".")
        looks_like_a_key = assigned or (first in groups and rest[-1] not in FILE_TYPES)
        is_method = first == "masks" and len(rest) == 1 and hasattr(SparseMasks, rest[0])
        if looks_like_a_key and not is_method and word not in composed_keys():
            found.append(word)
    return found


def unknown_choices(text: str) -> list[str]:
    """The `group=choice` of a text whose choice does not exist."""
    found = re.findall(r"(?<![\w.])([a-z_]+(?:/[a-z_]+)?)=([a-z][\w-]*)", text)
    return [f"{group}={choice}" for group, choice in found if choice not in choices().get(group, {choice})]


def extras_in(text: str) -> list[str]:
    """The names of extras that a text asks for, as in `asrsparse[export]`."""
    return re.findall(r"asrsparse\[(\w+)\]", text)
