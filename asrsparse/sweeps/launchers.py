"""Where the runs of a sweep are executed: on this machine or by SLURM. Both take `Work` and give a kind of future."""

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
    """Commands that are run one after another until one fails, with all that they print in one file.

    The file is locked meanwhile, and the lock is the commands' too: if they outlive whoever started them, nobody else
    starts the same ones beside them.

    Args:
        commands: Each as a list of words; no shell reads them.
        log: Where what they print is added.
    """

    def __init__(self, commands: Sequence[Sequence[str]], log: Path) -> None:
        self.commands = commands
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __call__(self, gpu: int | None = None) -> None:
        """Runs the commands; on one GPU if its number is given, else on what the environment allows.

        Raises:
            RuntimeError: If a command fails or is stopped, or another process is at the same work.
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
        # A session of its own: Ctrl-C reaches it by `stop`, once, and not from the terminal too.
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        while self._process.poll() is None:  # and not `wait`, which holds a lock that a signal's `stop` would wait for
            time.sleep(0.1)
        if self._process.returncode:
            raise RuntimeError("stopped" if self._stopped else f"ended with status {self._process.returncode}")

    def stop(self) -> None:
        """Asks the command that runs to end, which leaves a checkpoint, and starts no other."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def checkpoint(self, *arguments: Any) -> Any:
        """Called by submitit before a job that is out of time, or is preempted, goes back into the queue."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        if self._process is not None:
            self._process.wait(timeout=60)
        return DelayedSubmission(Work(self.commands, self.log), *arguments)


def _lock(log: TextIO) -> None:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError("another process is at work on it") from None
    except OSError:  # a file system without locks
        return


class Started(Protocol):
    """Work under way: a `concurrent.futures.Future`, or a job of submitit."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def exception(self) -> BaseException | None:
        """Why it failed, if it did."""


class Launcher(Protocol):
    """Starts work.

    Attributes:
        poll_seconds: How often it is worth asking whether something is done.
    """

    poll_seconds: float

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Starts all of them, or queues them."""

    def stop(self) -> None:
        """Ends what runs, in a way that it can go on from, and what waits."""


class Local:
    """Runs some at a time on this machine.

    Args:
        jobs: How many.
        gpus: Numbers of GPUs, of which each run gets one for itself; None leaves all to all.

    Raises:
        ValueError: If nothing could run, or there are more jobs than GPUs.
    """

    poll_seconds = 0.5

    def __init__(self, jobs: int = 1, gpus: Sequence[int] | None = None) -> None:
        if jobs < 1:
            raise ValueError(f"sweep.jobs: got {jobs}, allowed is at least 1.")
        if gpus is not None and len(gpus) < jobs:
            raise ValueError(f"sweep.launcher.gpus: got {len(gpus)} for sweep.jobs={jobs}; allowed is one for each.")
        self._pool = ThreadPoolExecutor(jobs)
        self._gpus: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for gpu in [None] * jobs if gpus is None else gpus:
            self._gpus.put(gpu)
        self._works: list[Work] = []

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Queues them; the first ones start at once."""
        self._works += works
        return [self._pool.submit(self._on_a_gpu, work) for work in works]

    def _on_a_gpu(self, work: Work) -> None:
        gpu = self._gpus.get()
        try:
            work(gpu)
        finally:
            self._gpus.put(gpu)

    def stop(self) -> None:
        """Returns when all have ended."""
        for work in self._works:
            work.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Submitit:
    """Hands work to SLURM by way of submitit.

    A job that is preempted or runs out of time goes back into the queue, and on where it stopped. submitit pickles what
    it hands over into `log_dir`, and its jobs read that: let nobody else write there.

    Args:
        log_dir: For submitit's files and logs.
        cluster: `slurm`, or submitit's `local`: processes of this machine, all at once.
        jobs: How many at a time.
        **parameters: As for `submitit.AutoExecutor.update_parameters`; None leaves one at SLURM's default.

    Raises:
        ValueError: If submitit is not installed, there is no such cluster, or it refuses a parameter.
    """

    poll_seconds = 5.0

    def __init__(self, log_dir: Path, cluster: str = "slurm", jobs: int = 16, **parameters: Any) -> None:
        try:
            import submitit

            self._executor = submitit.AutoExecutor(log_dir, cluster=cluster, slurm_max_num_timeout=100)
            self._executor.update_parameters(name="asrsparse", slurm_array_parallelism=jobs, **parameters)
        except ImportError:
            raise ValueError("sweep=slurm needs the package submitit: pip install 'asrsparse[slurm]'.") from None
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"sweep.launcher: submitit says: {error}") from None
        self._jobs: list[Any] = []

    def start(self, works: Sequence[Work]) -> Sequence[Started]:
        """Submits them as one array job."""
        with self._executor.batch():
            self._jobs = [self._executor.submit(work) for work in works]
        return self._jobs

    def stop(self) -> None:
        """Takes the jobs out of the queue; those that run get SIGTERM and write a checkpoint."""
        for job in self._jobs:
            if not job.done():
                job.cancel()
