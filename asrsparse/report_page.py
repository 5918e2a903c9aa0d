"""What the pages of reports share: which runs they show, how they draw, how they are written."""

import base64
import html
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrsparse.files import write_text


def find_runs(folder: Path, log: str) -> list[Path]:
    """The folder itself if it is that of a run with such a log, else the runs in it.

    Args:
        folder: Of a run, or of a recipe.
        log: A pattern of the log's files in the folder of a run: `"pruning/epoch_*.parquet"`.

    Raises:
        ValueError: If there is none.
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
    """Reads some columns of a log.

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
    """The folder of the run, or the one that holds all of them."""
    return Path(os.path.commonpath([run_dir.resolve() for run_dir in run_dirs]))


def figure(title: str, draw: Callable[..., None], panels: int = 1, height: float = 3.2) -> str:
    """A heading and a picture, as HTML that needs no other file.

    Args:
        title: The heading.
        draw: Is given the axes of all panels, one argument for each.
        panels: How many stand beside one another.
        height: In inches, of a width of 8.
    """
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        drawn = Figure(figsize=(8, height), layout="constrained")
        axes = drawn.subplots(1, panels, squeeze=False)[0]
        draw(*axes)
        if axes[0].get_xlabel() == "epoch":
            axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        picture = io.BytesIO()
        drawn.savefig(picture, format="png", dpi=110)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return f'<h3>{html.escape(title)}</h3><img alt="{html.escape(title)}" src="data:image/png;base64,{encoded}">'


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Writes pieces of HTML as one page."""
    write_text(path, _PAGE.format(title=html.escape(title), body="\n".join(sections)))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; color: #222 }}
img {{ max-width: 100% }} table {{ border-collapse: collapse }} td, th {{ padding: .1em .8em; text-align: left }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
