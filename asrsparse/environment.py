"""The environment of a run: versions, the state of the code, the processor; never the machine's name or folders."""

import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import asrsparse

_PACKAGES = ("lhotse", "espnet", "lightning")


def environment() -> dict[str, str]:
    """Returns the environment of this process, which `train` records and RESULTS.md shows.

    Example:
        >>> environment()["asrsparse"] == asrsparse.__version__
        True
    """
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: _version(package) for package in _PACKAGES},
        "asrsparse": asrsparse.__version__,
        **_code_state(Path(asrsparse.__file__).parent),
        "cpu": _cpu_name(),
        "threads": str(torch.get_num_threads()),
        "gpu": _gpu_names(),
        "os": _os_name(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _code_state(package_dir: Path) -> dict[str, str]:
    """Commit, its date, and whether the package differs from it; new files count, since they may be imported."""
    # An installed package may lie in a .venv inside somebody else's repository, whose commit would say nothing.
    if _git(package_dir, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {"git hash": "not a git checkout", "commit date": "unknown", "working tree": "unknown"}
    changed = _git(package_dir, "status", "--porcelain", "--", ".")
    return {
        "git hash": _git(package_dir, "rev-parse", "HEAD") or "none yet",
        "commit date": _git(package_dir, "log", "-1", "--format=%cI") or "none yet",
        "working tree": "changed since that commit" if changed else "as committed",
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints; None if it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    """The model's name where Linux tells it, else the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu_names() -> str:
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not Linux
        name = f"{platform.system()} {platform.release()}"
    return f"{name}, {platform.machine()}"


def portable_command(command: str) -> str:
    """Returns a command without the folders of this machine, for a file that others read.

    Paths inside the current folder become relative. Of programs the name is kept, and of other paths the last part.

    Example:
        >>> portable_command("/opt/env/bin/asrsparse prepare corpus.dir=/data/grid pruning.keep_ratio=0.7")
        'asrsparse prepare corpus.dir=/path/to/grid pruning.keep_ratio=0.7'
    """
    here = Path.cwd()

    def shorten(match: re.Match[str]) -> str:
        path = Path(match[0])
        if path.parent.name == "bin":
            return path.name
        return str(path.relative_to(here)) if path.is_relative_to(here) else f"/path/to/{path.name}"

    # A slash after a word, a dot, `~`, `}` or `:` is inside a relative path, a fraction, a variable or an address.
    return re.sub(r"(?<![\w.~}:/*-])/[^\s'\"=,;]+", shorten, command)
