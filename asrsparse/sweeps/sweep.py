"""`asrsparse sweep`: all combinations of some overrides, each trained, decoded and scored in a folder of its own."""

import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from asrsparse.config import build
from asrsparse.sweeps.combinations import Run, combine
from asrsparse.sweeps.launchers import Launcher, Started, Work


def sweep(words: Sequence[str]) -> dict[str, str]:
    """Trains, decodes and scores all combinations that are not finished, and reports on all that are then.

    Args:
        words: Hydra overrides.

    Returns:
        Why a run failed, by its name; empty if none did.

    Raises:
        ValueError: As for `combine`, or if the runs cannot be started at all.
        KeyboardInterrupt: If it was stopped by Ctrl-C, SIGTERM or SIGHUP; what ran has ended, and goes on next time.
    """
    combined = combine(words)
    if combined.config.sweep.dry_run:
        _write(shlex.join(["asrsparse", *command[3:]]) for run in combined.runs for command in run.commands())
        return {}
    left = [run for run in combined.runs if not run.is_finished()]
    jobs, exp_dir = combined.config.sweep.jobs, combined.config.exp_dir
    done = len(combined.runs) - len(left)
    _write([f"{len(combined.runs)} runs in {exp_dir}: {done} finished, {len(left)} to do, {jobs} at a time."])
    failures = execute(left, build(combined.config.sweep.launcher)) if left else {}
    from asrsparse.sweeps.table import tabulate  # not before: it takes a while to load

    tabulate(Path(exp_dir), combined.runs, failures)
    return failures


def _write(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def execute(runs: Sequence[Run], launcher: Launcher) -> dict[str, str]:
    """Runs all stages of all runs, and shows how far it is.

    Returns:
        Why a run failed, by its name. One that fails stops no other.
    """
    failures = {}
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, _stopping(launcher):
        started = launcher.start([Work(run.commands(), run.log) for run in runs])
        waiting = dict(zip((run.name for run in runs), started, strict=True))
        for name, error in progress.track(_ended(waiting, launcher.poll_seconds), total=len(runs)):
            if error is not None:
                failures[name] = str(error).partition("\n")[0]
            progress.console.print(f"{name}: {failures.get(name, 'done')}", markup=False, highlight=False)
    return failures


def _ended(waiting: dict[str, Started], poll_seconds: float) -> Iterator[tuple[str, BaseException | None]]:
    """Each name when its work has ended, and why it failed."""
    while waiting:
        for name in [name for name, work in waiting.items() if work.done()]:
            yield name, waiting.pop(name).exception()
        time.sleep(poll_seconds if waiting else 0)


@contextmanager
def _stopping(launcher: Launcher) -> Iterator[None]:
    """Stops the launcher when this process is asked to end."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("Stopping: runs write their checkpoints.\n")
        launcher.stop()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
