"""Systems side by side on the same test set: `asrsparse compare`.

Each system is compared with the first in three ways: the interval of the difference (paired bootstrap), whether the two
differ at all (matched pairs), and whether the second is worse by less than a stated margin (non-inferiority).

Shape legend: R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, Comparison, compare, paired_draws
from asrsparse.scoring.comparable import check_same_test_set, check_scored_alike
from asrsparse.scoring.decodings import decoded_folders
from asrsparse.scoring.matched_pairs import MatchedPairs, matched_pairs
from asrsparse.scoring.score import ScoredDecoding, read_scored
from asrsparse.scoring.table_formats import format_difference, format_rate, terminal_table


@dataclass(frozen=True)
class Margin:
    """The loss of word error rate up to which a system counts as no worse than the first.

    It is half a point of WER unless another one is given (our decision): choose yours before you look at the results.

    Args:
        value: The loss in errors per reference word, or as a share of the first system's word error rate.
        relative: Whether `value` is such a share.

    Raises:
        ValueError: If the value is negative or not finite.
    """

    value: float = 0.005
    relative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"value: got {self.value:g}, allowed are 0 and more: 0.005 is half a point of WER.")

    def allowed(self, wer: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns by how much a system may exceed the first one, whose word error rate is `wer` (R,)."""
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
    """Tests whether a second system is worse than the first by less than a margin.

    A relative margin is taken of the first system's rate in each resample.

    Args:
        first: The utterances as the first system decoded them.
        second: The same utterances as the second system decoded them.
        bootstrap: The bootstrap that draws the resamples.
        margin: The margin.
        names: The names of the two systems, for messages.

    Raises:
        ValueError: If the systems were not scored on the same utterances with the same references and speakers.
    """
    return non_inferiority_of(paired_draws(first, second, bootstrap, names), margin)


def non_inferiority_of(drawn: NDArray[np.int64], margin: Margin) -> NonInferiority:
    """Tests for non-inferiority by the errors of two systems and the words on the same resamples (R, 3)."""
    rates = drawn[:, :2] / np.maximum(drawn[:, 2:], 1)
    high = float(np.quantile(rates[:, 1] - rates[:, 0] - margin.allowed(rates[:, 0]), 0.975))
    return NonInferiority(high, high < 0)


@dataclass(frozen=True)
class ComparisonRow:
    """One system on one test set.

    Attributes:
        name: The name of the system.
        wer: Its word error rate, as a fraction.
        ci_low: The lower end of its 95 % interval.
        ci_high: The upper end.
        versus_first: The difference from the first system; this and the next two are None for the first system.
        matched_pairs: The matched-pairs test against the first system.
        non_inferiority: The test whether it is worse than the first system by less than the margin.
    """

    name: str
    wer: float
    ci_low: float
    ci_high: float
    versus_first: Comparison | None
    matched_pairs: MatchedPairs | None
    non_inferiority: NonInferiority | None


@dataclass(frozen=True)
class Compared:
    """The systems on one test set.

    Attributes:
        decoding: The name of the folder of the decoding.
        words: The number of words of the references.
        normaliser: The name and version of what was done to all texts before they were compared.
        bootstrap: The bootstrap that made all intervals.
        margin: The margin of the tests for non-inferiority.
        rows: The systems; each one is compared with the first.
    """

    decoding: str
    words: int
    normaliser: dict[str, Any]
    bootstrap: Bootstrap
    margin: Margin
    rows: list[ComparisonRow]


def compare_folders(folders: Sequence[Path], margin: Margin = DEFAULT_MARGIN) -> list[Compared]:
    """Compares systems with the first, on every test set that all of them have.

    Args:
        folders: Two and more folders of decodings (of one test set each), or of runs with all of their decodings.
        margin: The margin of the tests for non-inferiority.

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
    """The shortest ends of the paths that differ; where all decodings have the same name, those of their runs."""
    same = len({folder.name for folder in folders}) == 1
    ends = [folder.parts[:-1] if same else folder.parts for folder in folders]
    for length in range(1, max(map(len, ends)) + 1):
        names = ["/".join(end[-length:]) for end in ends]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"compare: {folders[0]} is named twice.")


def _compare(folders: Sequence[Path], names: Sequence[str], margin: Margin) -> Compared:
    systems = [read_scored(folder) for folder in folders]
    check_scored_alike(names, [system.scores for system in systems])
    first, bootstrap = systems[0], systems[0].bootstrap
    rows = [ComparisonRow(names[0], *_rate(first), None, None, None)]
    for name, system in zip(names[1:], systems[1:], strict=True):
        two, sides = (names[0], name), (first.utterances, system.utterances)
        check_same_test_set(*sides, two, (first.folder, system.folder))
        rows.append(
            ComparisonRow(
                name,
                *_rate(system),
                compare(*sides, bootstrap, two),
                matched_pairs(*sides),
                non_inferiority(*sides, bootstrap, margin, two),
            )
        )
    words = sum(utterance.word_errors.reference_length for utterance in first.utterances)
    return Compared(folders[0].name, words, first.scores["normaliser"], bootstrap, margin, rows)


def _rate(system: ScoredDecoding) -> tuple[float, float, float]:
    return system.scores["wer"], system.scores["ci_low"], system.scores["ci_high"]


# ------------------------------------------------------------------------------------------------------------- showing


def to_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Returns the values that `json=FILE` writes.

    A z that is infinite (all differences are alike) becomes null, since JSON has no infinity.
    """
    values = [asdict(one) for one in compared]
    for row in (row for value in values for row in value["rows"]):
        if row["matched_pairs"] and math.isinf(row["matched_pairs"]["z"]):
            row["matched_pairs"]["z"] = None
    return values


def to_table(compared: Compared) -> Table:
    """Makes the table for the terminal."""
    bootstrap, normaliser = compared.bootstrap, compared.normaliser
    caption = (
        f"{compared.words} words; normaliser {normaliser['name']}, version {normaliser['version']}; intervals by "
        f"bootstrap over {bootstrap.unit}s. Matched pairs: two-sided p, number of stretches. Non-inferior: "
        f"worse by less than {compared.margin} (one-sided, 2.5 %); below, by how much the upper end of the "
        "interval is within that or beyond."
    )
    first = compared.rows[0].name
    titles = ("system", "WER %\n[95 %]", f"minus\n{first}", "P(better)", "matched\npairs", "non-\ninferior")
    return terminal_table(compared.decoding, titles, map(_cells, compared.rows), caption=caption)


def _cells(row: ComparisonRow) -> list[str]:
    rate = format_rate(row.wer, row.ci_low, row.ci_high).replace(" ", "\n", 1)
    if row.versus_first is None or row.matched_pairs is None or row.non_inferiority is None:
        return [row.name, rate, "-", "-", "-", "-"]
    versus, pairs, shown = row.versus_first, row.matched_pairs, row.non_inferiority
    return [
        row.name,
        rate,
        format_difference(versus.delta_wer, versus.delta_ci_low, versus.delta_ci_high).replace(" ", "\n", 1),
        f"{versus.p_better:.3f}",
        f"p {pairs.p:.4f}\nof {pairs.stretches}",
        f"{'shown' if shown.shown else 'not shown'}\n{_distance(shown)}",
    ]


def _distance(tested: NonInferiority) -> str:
    points = 100 * abs(tested.excess_ci_high)
    return f"{points:.2f} {'within' if tested.shown else 'beyond'}"
