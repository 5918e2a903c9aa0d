"""The report of a recipe, or of some runs: RESULTS.md, results.{json,csv,tex} and report.html.

`selection` and `rows` gather its numbers; `tables`, `exports` and `report_html` write its files.
"""

from collections.abc import Sequence
from pathlib import Path

from asrsparse.files import write_json, write_text
from asrsparse.reports.exports import to_csv, to_json, to_latex
from asrsparse.reports.report_html import write_html
from asrsparse.reports.rows import Report, gather
from asrsparse.reports.run_selection import Selection, select_runs, select_systems
from asrsparse.reports.tables import to_markdown


def report(exp_dir: Path, systems: Sequence[str], *, method: str, splits: Sequence[str] = ("test",)) -> Report:
    """Gathers the systems of a recipe and writes the report into its folder.

    Args:
        exp_dir: The folder of the recipe's runs, `exp/<recipe>`.
        systems: The names of the systems' folders in it; the others are compared with the first.
        method: The method of decoding, as in `decode_<split>_<method>`.
        splits: The names of the test sets, in the order of the report.

    Raises:
        ValueError: If a stage has not finished for a system (the message names it), its files do not belong together,
            or the systems were not scored alike on the same utterances.
    """
    return _write(select_systems(exp_dir, systems, method, splits))


def report_runs(folders: Sequence[Path], baseline: str | None = None, method: str | None = None) -> Report:
    """Gathers all finished runs of some folders and writes the report into the folder that holds all of them.

    Args:
        folders: The folders of runs, or of recipes.
        baseline: The name of the run that the others are compared with; by default the first one.
        method: The method of decoding; by default all methods.

    Raises:
        ValueError: As for `select_runs` and `report`.
    """
    return _write(select_runs(folders, baseline, method))


def _write(selection: Selection) -> Report:
    gathered, folder = gather(selection), selection.folder
    write_text(folder / "RESULTS.md", to_markdown(gathered))
    write_json(folder / "results.json", to_json(gathered))
    write_text(folder / "results.csv", to_csv(gathered))
    write_text(folder / "results.tex", to_latex(gathered))
    write_html(folder / "report.html", gathered, selection.runs)
    return gathered
