"""Finding runs by the logs that their trainings wrote, and reading these logs."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def find_runs(folder: Path, log: str) -> list[Path]:
    """Returns the folder itself if it is that of a run with such a log, else all runs in it that have one.

    Args:
        folder: The folder of a run, or of a recipe.
        log: The pattern of the log's files in the folder of a run: `"pruning/epoch_*.parquet"`.

    Raises:
        ValueError: If there is no such run.
    """
    candidates = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    found = [path for path in candidates if any(path.glob(log))]
    if not found:
        raise ValueError(
            f"No {log} in {folder} or the folders in it. Name the folder of a run (exp/mini/easy2hard) or of a recipe "
            "(exp/mini) of which an epoch is trained. Runs of older versions lack some logs: train them again."
        )
    return found


def read_log(path: Path, columns: Sequence[str]) -> pa.Table:
    """Reads some columns of one file of a log.

    Args:
        path: The Parquet file.
        columns: The names of the columns.

    Raises:
        ValueError: If the file is damaged, or lacks one of them.
    """
    try:
        missing = set(columns) - set(pq.read_schema(path).names)
        if missing:
            raise ValueError(
                f"{path} has no column {sorted(missing)[0]}: an older version wrote it. Train the run again."
            )
        return pq.read_table(path, columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no file that `asrsparse train` wrote ({error}). Train the run again.") from None


def common_folder(run_dirs: Sequence[Path]) -> Path:
    """Returns the folder of the run, or the one that holds all runs; of a link, the folder that holds the link."""
    return Path(os.path.commonpath([os.path.abspath(run_dir) for run_dir in run_dirs]))
