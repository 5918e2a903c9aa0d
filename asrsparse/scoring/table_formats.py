"""How rates and tables are written, in the terminal and in Markdown."""

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table


def format_rate(rate: float, low: float, high: float, digits: int = 2) -> str:
    """Writes a rate with its interval, in per cent.

    Args:
        rate: The rate, as a fraction.
        low: The lower end of its interval.
        high: The upper end.
        digits: The number of digits behind the point.

    Example:
        >>> format_rate(0.12345, 0.1102, 0.137)
        '12.35 [11.02, 13.70]'
    """
    return f"{100 * rate:.{digits}f} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def format_difference(difference: float, low: float, high: float) -> str:
    """Writes a difference of two rates with its interval, in points of per cent and with signs.

    Example:
        >>> format_difference(-0.08, -0.11, 0.02)
        '-8.00 [-11.00, +2.00]'
    """
    return f"{100 * difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], num_text_columns: int = 1) -> str:
    r"""Writes a table in Markdown.

    Args:
        titles: The titles of the columns.
        rows: The cells of each row.
        num_text_columns: The number of first columns that hold text; the others hold numbers and are aligned right.

    Example:
        >>> print(markdown_table(["system", "WER %"], [["a|b", "12.00"]]))
        | system | WER % |
        | --- | ---: |
        | a\|b | 12.00 |
    """
    rule = ["---" if number < num_text_columns else "---:" for number in range(len(titles))]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (titles, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def terminal_table(
    title: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str | None = None,
    rules_below: Collection[int] = (),
    show_lines: bool = False,
    wrap: bool = False,
) -> Table:
    """Makes a table for the terminal that is as narrow as its cells allow.

    Args:
        title: The title above the table.
        titles: The titles of the columns; the first one holds text, the others numbers.
        rows: The cells of each row, as plain text: brackets are no markup.
        caption: The text below the table.
        rules_below: The numbers of the rows below which a rule is drawn.
        show_lines: Whether a rule is drawn below every row.
        wrap: Whether cells of numbers may be wrapped at spaces.
    """
    table = Table(
        title=escape(title),
        caption=None if caption is None else escape(caption),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_lines=show_lines,
    )
    for number, column in enumerate(titles):
        no_wrap = number > 0 and not wrap
        table.add_column(escape(column), justify="right" if number else "left", no_wrap=no_wrap, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*map(escape, row), end_section=number in rules_below)
    return table
