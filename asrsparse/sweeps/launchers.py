"""Launchers of a sweep's runs, on this machine or by SLURM. Both take `Work` and return a kind of future."""

import fcntl
import os
import queue
import shlex
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TextIO


class Work:
    """Commands that are run one after another until one fails. All that they print is added to one file.

    The file is locked meanwhile, and the commands inherit the lock: if they outlive the process that started them, no
    other process can start the same commands beside them.

    Args:
        commands: The commands, each as a list of words; no shell reads them.
        log: The path of the file.
    """

    def __init__(self, commands: Sequence[Sequence[str]], log: Path) -> None:
        self.commands = commands
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __call__(self, gpu: int | None = None) -> None:
        """Runs the commands.

        Args:
            gpu: The number of the only GPU that they may use; None allows all that the environment allows.

        Raises:
            RuntimeError: If a command fails or is stopped, or another process runs the same commands.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ if gpu is None else os.environ | {"CUDA_VISIBLE_DEVICES": str(gpu)}
        with self.log.open("a", encoding="utf-8") as log:
            _lock(log)
            for command in self.commands:
                self._run(command, log, dict(environment))

    def _run(self, command: Sequence[str], log: TextIO, environment: dict[str, str]) -> None:
        if self._stopped:
            raise RuntimeError("stopped")
        log.write(f"+ {shlex.join(command)}\n")
        log.flush()
        # In a session of its own, so that Ctrl-C reaches it once, by `stop`, and not from the terminal too.
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        while self._process.poll() is None:  # and not `wait`, which holds a lock that a signal's `stop` would wait for
            time.sleep(0.1)
        if self._process.returncode:
            raise RuntimeError("stopped" if self._stopped else f"ended with status {self._process.returncode}")

    def stop(self) -> None:
        """Asks the running command to end, which writes a checkpoint, and starts no other command."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def checkpoint(self, *arguments: Any) -> Any:
        """Stops the command and returns the job that resumes it.

        submitit calls this before a job that is out of time, or is preempted, is queued again.
        """
        from submitit.helpers import DelayedSubmission

        self.stop()
        if self._process is not None:
            self._process.wait(timeout=60)
        return DelayedSubmission(Work(self.commands, self.log), *arguments)


def _lock(log: TextIO) -> None:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError("another process runs the same commands") from None
    except OSError:  # a file system without locks
        return


class Started(Protocol):
    """Work that was started: a `concurrent.futures.Future`, or a job of submitit."""

    def done(self) -> bool:
        """Returns whether it has ended, with or without an error."""

    def exception(self) -> BaseException | None:
        """Returns the error that it failed with, or None."""


class Launcher(Protocol):
    """Starts the works of a sweep, and stops them.

    Attributes:
        poll_seconds: The seconds between two checks whether work has ended.
    """

    poll_seconds: float

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Starts or queues all works."""

    def stop(self) -> None:
        """Stops running works, which can be resumed, and takes the others out of the queue."""


class Local:
    """Runs works on this machine.

    Args:
        jobs: The number of works that run at the same time.
        gpus: The numbers of GPUs, one of which each run has for itself; None lets every run use all GPUs.

    Raises:
        ValueError: If no work could run, or there are fewer GPUs than jobs.
    """

    poll_seconds = 0.5

    def __init__(self, jobs: int, gpus: Sequence[int] | None) -> None:
        if jobs < 1:
            raise ValueError(f"jobs: got {jobs}, allowed are 1 and more.")
        if gpus is not None and len(gpus) < jobs:
            raise ValueError(f"gpus: got {len(gpus)} of them for jobs={jobs}, allowed is one for each job.")
        self._pool = ThreadPoolExecutor(jobs)
        self._gpus: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for gpu in [None] * jobs if gpus is None else gpus:
            self._gpus.put(gpu)
        self._works: list[Work] = []

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Queues all works; the first ones start at once."""
        self._works += works
        return [self._pool.submit(self._on_a_gpu, work) for work in works]

    def _on_a_gpu(self, work: Work) -> None:
        gpu = self._gpus.get()
        try:
            work(gpu)
        finally:
            self._gpus.put(gpu)

    def stop(self) -> None:
        """Stops all works, and returns when they have ended."""
        for work in self._works:
            work.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Submitit:
    """Submits works to SLURM with the package submitit.

    A job that is preempted or runs out of time is queued again, and resumes where it stopped. submitit writes pickles
    into `log_dir`, which its jobs read: let nobody else write there.

    Args:
        log_dir: The folder of submitit's files and logs, on a file system that all nodes share.
        cluster: `"slurm"`, or `"local"` for processes of this machine, all at the same time.
        jobs: The number of works that run at the same time.
        **parameters: Those of `submitit.AutoExecutor.update_parameters`; None leaves SLURM's default.

    Raises:
        ValueError: If submitit is not installed, there is no such cluster, or it refuses a parameter.
    """

    poll_seconds = 5.0

    def __init__(self, log_dir: Path, cluster: str, jobs: int, **parameters: Any) -> None:
        try:
            import submitit

            self._executor = submitit.AutoExecutor(log_dir, cluster=cluster, slurm_max_num_timeout=100)
            self._executor.update_parameters(name="asrsparse", slurm_array_parallelism=jobs, **parameters)
        except ImportError:
            raise ValueError("sweep=slurm needs the package submitit. Run: pip install 'asrsparse[recipes]'.") from None
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"sweep.launcher: submitit refuses it: {error}") from None
        self._jobs: list[Any] = []

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Submits all works as one array job."""
        with self._executor.batch():
            self._jobs = [self._executor.submit(work) for work in works]
        return self._jobs

    def stop(self) -> None:
        """Cancels all jobs; those that run get SIGTERM and write a checkpoint."""
        for job in self._jobs:
            if not job.done():
                job.cancel()
