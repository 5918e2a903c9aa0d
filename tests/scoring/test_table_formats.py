"""Tables in the terminal and in Markdown hold every cell as it is."""

import io

from rich.console import Console

from asrsparse.scoring.table_formats import format_difference, format_rate, markdown_table, terminal_table


def show(table, width=80):
    output = io.StringIO()
    Console(file=output, width=width).print(table)
    return output.getvalue()


def test_rates_are_in_per_cent_with_as_many_digits_as_asked_for():
    assert format_rate(0.5, 0.25, 1.0) == "50.00 [25.00, 100.00]"
    assert format_rate(0.5, 0.25, 1.0, digits=1) == "50.0 [25.0, 100.0]"
    assert format_difference(0.5, -0.25, 1.0) == "+50.00 [-25.00, +100.00]"


def test_every_line_in_markdown_has_as_many_cells():
    text = markdown_table(["a", "b", "c|d"], [["1", "|", "3"], ["", "x", "y"]], num_text_columns=2)
    assert text.splitlines() == [
        r"| a | b | c\|d |",
        "| --- | --- | ---: |",
        r"| 1 | \| | 3 |",
        "|  | x | y |",
    ]


def test_text_in_the_terminal_is_no_markup_and_numbers_are_whole():
    rows = [["[bold]name[/bold]", "12.00\n[6.00, 18.00]"], ["a name that is longer than its column " * 2, "1"]]
    text = show(terminal_table("[red]title", ["[i]run", "WER %\n[95 %]"], rows, caption="[b]caption"), width=40)
    for shown in ("[red]title", "[i]run", "[95 %]", "[bold]name[/bold]", "[6.00, 18.00]", "[b]caption"):
        assert shown in text
    assert "…" not in text


def test_rules_are_drawn_below_the_rows_asked_for():
    rows = [["a", "1"], ["b", "2"], ["c", "3"]]
    rules = [
        line.strip(" ─") == "" for line in show(terminal_table("t", ["x", "y"], rows, rules_below=[1])).splitlines()
    ]
    plain = [line.strip(" ─") == "" for line in show(terminal_table("t", ["x", "y"], rows)).splitlines()]
    assert sum(rules) == sum(plain) + 1
