"""Systems side by side on the same test set: `asrsparse compare`.

Three answers for each system against the first: the interval of the difference (paired bootstrap), whether the two
differ at all (matched pairs), and whether the second is worse by less than a stated margin (non-inferiority).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.markup import escape
from rich.table import Table

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, Comparison, compare, paired_draws
from asrsparse.scoring.decodings import decoded_folders
from asrsparse.scoring.matched_pairs import MatchedPairs, matched_pairs
from asrsparse.scoring.score import check_scored_alike, read_scored


@dataclass(frozen=True)
class Margin:
    """By how much a system may be worse than the first and still count as no worse.

    Half a point of WER unless one is stated, our decision: choose yours before you look at the results.

    Args:
        value: Errors per reference word, or a share of the first system's word error rate.
        relative: Which of the two.

    Raises:
        ValueError: If the value is negative or not finite.
    """

    value: float = 0.005
    relative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"Margin: got {100 * self.value:g}, allowed are 0 and more (per cent).")

    def allowed(self, wer: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much more a system may have than the first, whose word error rate is `wer` (R,)."""
        return self.value * wer if self.relative else np.full_like(wer, self.value)

    def __str__(self) -> str:
        return f"{100 * self.value:g} " + ("% of the first system's WER" if self.relative else "points of WER")


DEFAULT_MARGIN = Margin()


@dataclass(frozen=True)
class NonInferiority:
    """Whether a second system is no worse than the first by more than the margin.

    Attributes:
        excess_ci_high: The upper end of the 95 % interval of (difference - margin), by the paired bootstrap.
        shown: Whether that is below 0: a one-sided test at the level of 2.5 %. Not shown is not the same as worse.
    """

    excess_ci_high: float
    shown: bool


def non_inferiority(
    first: Sequence[Utterance],
    second: Sequence[Utterance],
    bootstrap: Bootstrap,
    margin: Margin = DEFAULT_MARGIN,
    names: tuple[str, str] = ("the first system", "the second system"),
) -> NonInferiority:
    """Tests a second system against a margin; a relative one is taken of the first system's rate in each resample.

    Raises:
        ValueError: As for `score.compare`.
    """
    drawn = paired_draws(first, second, bootstrap, names)
    rates = drawn[:, :2] / np.maximum(drawn[:, 2:], 1)
    high = float(np.quantile(rates[:, 1] - rates[:, 0] - margin.allowed(rates[:, 0]), 0.975))
    return NonInferiority(high, high < 0)


@dataclass(frozen=True)
class Row:
    """One system; the last three are None for the first. Rates are fractions."""

    name: str
    wer: float
    ci_low: float
    ci_high: float
    versus_first: Comparison | None
    matched_pairs: MatchedPairs | None
    non_inferiority: NonInferiority | None


@dataclass(frozen=True)
class Compared:
    """The systems on one test set, and what holds for all of them."""

    decoding: str
    words: int
    normaliser: dict[str, Any]
    bootstrap: Bootstrap
    margin: Margin
    rows: list[Row]


def compare_folders(folders: Sequence[Path], margin: Margin = DEFAULT_MARGIN) -> list[Compared]:
    """Compares systems with the first, on every test set that all of them have.

    Args:
        folders: Two and more: decodings (of one test set each), or runs with all of their decodings.
        margin: For non-inferiority.

    Raises:
        ValueError: If a folder holds no decoding, or they were not scored alike on the same utterances.
    """
    if len(folders) < 2:
        got = ", ".join(map(str, folders)) or "nothing"
        raise ValueError(f"compare: got {got}, allowed are two and more folders of decodings or of runs.")
    folders = [folder.resolve() for folder in folders]
    if all((folder / "hyp.trn").is_file() for folder in folders):
        return [_compare(folders, _names(folders), margin)]
    decodings = [{path.name: path for path in decoded_folders(folder)} for folder in folders]
    shared = [name for name in decodings[0] if all(name in one for one in decodings)]
    if not shared:
        listing = "; ".join(
            f"{folder.name} has {', '.join(one)}" for folder, one in zip(folders, decodings, strict=True)
        )
        raise ValueError(f"compare: no decoding is in all of these runs: {listing}. Name folders of decodings.")
    return [_compare([one[name] for one in decodings], _names(folders), margin) for name in shared]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the systems apart; of decodings that are called alike, their runs."""
    same = len({folder.name for folder in folders}) == 1
    ends = [folder.parts[:-1] if same else folder.parts for folder in folders]
    for length in range(1, max(map(len, ends)) + 1):
        names = ["/".join(end[-length:]) for end in ends]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"compare: {folders[0]} is named twice.")


def _compare(folders: Sequence[Path], names: Sequence[str], margin: Margin) -> Compared:
    read = [read_scored(folder) for folder in folders]
    scores, systems = [one[0] for one in read], [one[1] for one in read]
    check_scored_alike(names, scores)
    bootstrap = Bootstrap(**scores[0]["bootstrap"])
    rows = [Row(names[0], *_rate(scores[0]), None, None, None)]
    for name, score, system in zip(names[1:], scores[1:], systems[1:], strict=True):
        two = (names[0], name)
        rows.append(
            Row(
                name,
                *_rate(score),
                compare(systems[0], system, bootstrap, two),
                matched_pairs(systems[0], system),
                non_inferiority(systems[0], system, bootstrap, margin, two),
            )
        )
    words = sum(utterance.word_errors.reference_length for utterance in systems[0])
    return Compared(folders[0].name, words, scores[0]["normaliser"], bootstrap, margin, rows)


def _rate(score: dict[str, Any]) -> tuple[float, float, float]:
    return score["wer"], score["ci_low"], score["ci_high"]


# ------------------------------------------------------------------------------------------------------------- showing


def to_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """What `json=FILE` writes. A z that is infinite (all differences are alike) is null, which JSON has a word for."""
    values = [asdict(one) for one in compared]
    for row in (row for value in values for row in value["rows"]):
        if row["matched_pairs"] and math.isinf(row["matched_pairs"]["z"]):
            row["matched_pairs"]["z"] = None
    return values


def to_table(compared: Compared) -> Table:
    """The table for the terminal."""
    bootstrap, normaliser = compared.bootstrap, compared.normaliser
    caption = (
        f"{compared.words} words; normaliser {normaliser['name']}, version {normaliser['version']}; intervals by "
        f"bootstrap over {bootstrap.unit}s. Matched pairs: two-sided p, number of stretches. Non-inferior: "
        f"worse by less than {compared.margin} (one-sided, 2.5 %); below, by how much the upper end of the "
        "interval is within that or beyond."
    )
    table = Table(title=compared.decoding, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    first = compared.rows[0].name
    titles = ("system", "WER %\n[95 %]", f"minus\n{first}", "P(better)", "matched\npairs", "non-\ninferior")
    for number, title in enumerate(titles):
        table.add_column(escape(title), justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for row in compared.rows:
        table.add_row(*map(escape, _cells(row)))
    return table


def _cells(row: Row) -> list[str]:
    rate = f"{100 * row.wer:.2f}\n[{100 * row.ci_low:.2f}, {100 * row.ci_high:.2f}]"
    if row.versus_first is None or row.matched_pairs is None or row.non_inferiority is None:
        return [row.name, rate, "-", "-", "-", "-"]
    versus, pairs, shown = row.versus_first, row.matched_pairs, row.non_inferiority
    return [
        row.name,
        rate,
        f"{100 * versus.delta_wer:+.2f}\n[{100 * versus.delta_ci_low:+.2f}, {100 * versus.delta_ci_high:+.2f}]",
        f"{versus.p_better:.3f}",
        f"p {pairs.p:.4f}\nof {pairs.stretches}",
        f"{'shown' if shown.shown else 'not shown'}\n{_distance(shown)}",
    ]


def _distance(tested: NonInferiority) -> str:
    points = 100 * abs(tested.excess_ci_high)
    return f"{points:.2f} {'within' if tested.shown else 'beyond'}"
