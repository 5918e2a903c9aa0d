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
from asrsparse.sweeps.combinations import SweepRun, combine
from asrsparse.sweeps.launchers import Launcher, Started, Work
from asrsparse.sweeps.table import tabulate


def sweep(words: Sequence[str]) -> dict[str, str]:
    """Trains, decodes and scores all combinations that are not finished, and reports on all that are then.

    Args:
        words: Hydra overrides.

    Returns:
        The reason why a run failed, by the name of the run; empty if no run failed.

    Raises:
        ValueError: As for `combine`, or if the runs cannot be started at all.
        KeyboardInterrupt: If the sweep was stopped by Ctrl-C, SIGTERM or SIGHUP. All runs have ended then, and the same
            sweep resumes them.
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
    tabulate(Path(exp_dir), combined.runs, failures)
    return failures


def _write(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def execute(runs: Sequence[SweepRun], launcher: Launcher) -> dict[str, str]:
    """Runs all stages of all runs, and shows the progress. A run that fails does not stop the others.

    Args:
        runs: The runs.
        launcher: What starts them.

    Returns:
        The reason why a run failed, by the name of the run.
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
    """Yields each name when its work has ended, and the error if it failed."""
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
