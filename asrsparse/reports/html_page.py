"""What the pages of reports share: figures, tables, and the frame of the page."""

import base64
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrsparse.files import write_text

RowT = TypeVar("RowT")
"""The type of the rows of a table."""


def figure(title: str, draw: Callable[..., None], panels: int = 1, height: float = 3.2) -> str:
    """Returns a heading and a picture, as HTML that needs no other file.

    Args:
        title: The heading.
        draw: The function that draws; it is called with the axes of all panels, one argument for each.
        panels: The number of panels beside one another.
        height: The height in inches; the width is 8 inches.
    """
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        drawn = Figure(figsize=(8, height), layout="constrained")
        axes = drawn.subplots(1, panels, squeeze=False)[0]
        draw(*axes)
        for one in axes:
            if one.get_xlabel() == "epoch":
                one.xaxis.set_major_locator(MaxNLocator(integer=True))
        picture = io.BytesIO()
        drawn.savefig(picture, format="png", dpi=110)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return f'<h3>{html.escape(title)}</h3><img alt="{html.escape(title)}" src="data:image/png;base64,{encoded}">'


def name_lines(axes: Axes, note: str = "") -> None:
    """Puts the names of the lines beside the panel, where they hide nothing of it, and a note above it."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    axes.set_title(note, loc="left", fontsize=8)


def html_table(columns: Mapping[str, Callable[[RowT], str]], rows: Sequence[RowT]) -> str:
    """Returns a table as HTML; one that is too wide for the page can be scrolled.

    Args:
        columns: What each column shows of a row, by the title of the column.
        rows: The rows of the table.
    """
    cells = {title: [column(row) for row in rows] for title, column in columns.items()}
    aligned = {title: _alignment(shown) for title, shown in cells.items()}
    head = "".join(f"<th{aligned[title]}>{html.escape(title)}</th>" for title in cells)
    lines = ("".join(f"<td{aligned[t]}>{html.escape(cells[t][row])}</td>" for t in cells) for row in range(len(rows)))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _alignment(cells: Sequence[str]) -> str:
    return ' class="number"' if any(re.match(r"[+-]?\d", cell) for cell in cells) else ""


def inline(text: str) -> str:
    """Turns a line of Markdown into HTML, as far as reports use Markdown.

    Example:
        >>> inline("**Mind** that a < b: `run.sh`")
        '<strong>Mind</strong> that a &lt; b: <code>run.sh</code>'
    """
    text = re.sub(r"`(.*?)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*(.*?)\*\*", r"<strong>\1</strong>", text)


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Writes pieces of HTML as one page.

    Args:
        path: The path of the page.
        title: The title and first heading, as plain text.
        sections: The pieces of HTML.
    """
    write_text(path, _PAGE.format(title=html.escape(title), body="\n".join(sections)))


# The policy forbids scripts, and anything from another file or a network, in case the name of a run holds HTML.
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em; color: #222 }}
img {{ max-width: 100% }} .wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-size: .85em }}
td, th {{ padding: .2em .7em; text-align: left; border-bottom: 1px solid #ddd }} th {{ vertical-align: bottom }}
.number {{ text-align: right }} td.number, td:first-child {{ white-space: nowrap }}
td:not(.number) {{ min-width: 9em }}
.warning {{ background: #fff3cd; padding: .5em 1em }} summary {{ cursor: pointer }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: .5em }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
