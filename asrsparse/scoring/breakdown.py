"""Where the errors are: by speaker, by duration, by the ratio of signal to noise. `asrsparse breakdown`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from asrsparse.scoring.alignment import Utterance, pooled
from asrsparse.scoring.bootstrap import Bootstrap, check_same_test_set, rate_intervals
from asrsparse.scoring.decodings import CLEAN, Snr, decoded_folders, parse_decoding_name
from asrsparse.scoring.score import check_scored_alike, read_scored

PARTS = 4  # groups of duration, with equally many utterances (our decision)


@dataclass(frozen=True)
class Rate:
    """A word error rate with the 95 % interval, as fractions."""

    wer: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Group:
    """Some utterances of a test set.

    Attributes:
        by: `"all"`, `"duration"` or `"speaker"`.
        name: The speaker, or the shortest and longest duration.
        utterances: How many.
        words: Of their references.
        rates: By the ratio of signal to babble at which they were decoded.
    """

    by: str
    name: str
    utterances: int
    words: int
    rates: dict[Snr, Rate]


@dataclass(frozen=True)
class Breakdown:
    """One system on one test set, clean and in noise."""

    run: str
    decoding: str
    snrs: list[Snr]
    groups: list[Group]


def break_down(folders: Sequence[Path]) -> list[Breakdown]:
    """Breaks the errors of decodings down; those that differ in the babble alone stand side by side.

    Intervals are over utterances, whatever `score.json` has: a speaker is one draw.

    Args:
        folders: Decodings, or runs with all of their decodings.

    Raises:
        ValueError: If a folder holds no decoding, or was not scored, or conditions differ in more than the noise.
    """
    if not folders:
        raise ValueError("breakdown: got nothing, allowed are folders of decodings or of runs.")
    conditions: dict[tuple[Path, str], dict[Snr, Path]] = defaultdict(dict)
    for path in (path for folder in folders for path in decoded_folders(folder.resolve())):
        base, snr = parse_decoding_name(path.name)
        conditions[path.parent, base][snr] = path
    return [_break_down(run.name, base, by_snr) for (run, base), by_snr in conditions.items()]


def _break_down(run: str, decoding: str, folders: Mapping[Snr, Path]) -> Breakdown:
    snrs = sorted(folders, key=lambda snr: -float("inf" if snr == CLEAN else snr))  # from quiet to loud
    read = {snr: read_scored(folders[snr]) for snr in snrs}
    names = [folders[snr].name for snr in snrs]
    check_scored_alike(names, [scores for scores, _ in read.values()])
    first = read[snrs[0]][1]
    for name, snr in zip(names[1:], snrs[1:], strict=True):
        check_same_test_set(first, read[snr][1], (names[0], name))
    bootstrap = replace(Bootstrap(**read[snrs[0]][0]["bootstrap"]), unit="utterance")
    decoded = {snr: {u.id: u for u in utterances} for snr, (_, utterances) in read.items()}
    return Breakdown(
        run, decoding, snrs, [_group(by, name, ids, decoded, bootstrap) for by, name, ids in _groups(first)]
    )


def _groups(utterances: Sequence[Utterance]) -> list[tuple[str, str, list[str]]]:
    """What a group is made by, its name and its utterances' ids; durations only where all are known."""
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance.id)
    return [
        ("all", "all", [utterance.id for utterance in utterances]),
        *(("duration", name, ids) for name, ids in _by_duration(utterances)),
        *(("speaker", name, by_speaker[name]) for name in sorted(by_speaker)),
    ]


def _by_duration(utterances: Sequence[Utterance]) -> list[tuple[str, list[str]]]:
    """The quarters of a test set, from short to long. Equal durations stay together, so there may be fewer."""
    durations = np.array([u.duration for u in utterances if u.duration is not None])
    if len(durations) < len(utterances):
        return []
    edges = np.unique(np.quantile(durations, np.arange(1, PARTS) / PARTS, method="lower"))
    parts = np.searchsorted(edges, durations, side="left")
    rows = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    return [
        (f"{durations[row].min():.2f}-{durations[row].max():.2f} s", [utterances[int(i)].id for i in row])
        for row in rows
    ]


def _group(
    by: str, name: str, ids: Sequence[str], decoded: Mapping[Snr, Mapping[str, Utterance]], bootstrap: Bootstrap
) -> Group:
    members = {snr: [known[key] for key in ids] for snr, known in decoded.items()}
    words = sum(u.word_errors.reference_length for u in next(iter(members.values())))
    return Group(by, name, len(ids), words, {snr: _rate(group, bootstrap) for snr, group in members.items()})


def _rate(utterances: Iterable[Utterance], bootstrap: Bootstrap) -> Rate:
    utterances = sorted(utterances, key=lambda u: u.id)
    counts = np.array([(u.word_errors.errors, u.word_errors.reference_length) for u in utterances])
    (ends,) = rate_intervals(counts, utterances, bootstrap)
    return Rate(pooled(u.word_errors for u in utterances).rate, *ends)


# ------------------------------------------------------------------------------------------------------------- showing


def to_json(breakdowns: Sequence[Breakdown]) -> list[dict[str, Any]]:
    """What `json=FILE` writes."""
    values = [asdict(one) for one in breakdowns]
    for group in (group for value in values for group in value["groups"]):
        group["rates"] = {str(snr): rate for snr, rate in group["rates"].items()}
    return values


def to_table(breakdown: Breakdown) -> Table:
    """The table for the terminal: a row for each group, a column for each ratio of signal to babble."""
    known = any(group.by == "duration" for group in breakdown.groups)
    caption = "WER % [95 %, over utterances]" + ("" if known else "; durations are not known: decode again")
    table = Table(title=f"{breakdown.run}: {breakdown.decoding}", caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    titles = [snr if isinstance(snr, str) else f"{snr:g} dB" for snr in breakdown.snrs]
    for title in ("utterances", "words", *titles):
        table.add_column(title, justify="right")
    for number, group in enumerate(breakdown.groups):
        if number and group.by != breakdown.groups[number - 1].by:
            table.add_section()
        rates = (escape(_cell(group.rates[snr])) for snr in breakdown.snrs)
        table.add_row(escape(group.name), str(group.utterances), str(group.words), *rates)
    return table


def _cell(rate: Rate) -> str:
    return f"{100 * rate.wer:.1f} [{100 * rate.ci_low:.1f}, {100 * rate.ci_high:.1f}]"
