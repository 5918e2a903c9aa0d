"""Error rates by speaker, by duration and by the noise of the test set: `asrsparse breakdown`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from asrsparse.scoring.alignment import Utterance, pooled
from asrsparse.scoring.bootstrap import Bootstrap, rate_intervals
from asrsparse.scoring.comparable import check_same_test_set, check_scored_alike
from asrsparse.scoring.decodings import NoiseCondition, decoded_folders, parse_decoding_name, quiet_to_loud
from asrsparse.scoring.score import read_scored
from asrsparse.scoring.table_formats import format_rate, terminal_table

NUM_DURATION_GROUPS = 4  # with equally many utterances each (our decision)


@dataclass(frozen=True)
class Rate:
    """A word error rate with its 95 % interval, all of them fractions."""

    wer: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Group:
    """Some utterances of a test set.

    Attributes:
        by: What its utterances share: `"all"` (nothing), `"duration"` or `"speaker"`.
        name: The speaker, or the shortest and longest duration.
        utterances: The number of utterances.
        words: The number of words of their references.
        rates: Their error rates, by the condition that they were decoded under.
    """

    by: str
    name: str
    utterances: int
    words: int
    rates: dict[NoiseCondition, Rate]


@dataclass(frozen=True)
class Breakdown:
    """One system on one test set, clean and in noise.

    Attributes:
        run: The name of the run.
        decoding: The name of the folder of the clean decoding.
        conditions: The conditions that the test set was decoded under, from quiet to loud.
        groups: All utterances, then those by duration (where it is known), then those by speaker.
    """

    run: str
    decoding: str
    conditions: list[NoiseCondition]
    groups: list[Group]


def break_down(folders: Sequence[Path]) -> list[Breakdown]:
    """Breaks the errors of decodings down; decodings that differ in the noise alone become one breakdown.

    Intervals are made by drawing utterances, also where `score.json` was made by drawing speakers: the utterances of
    one speaker cannot be drawn by speaker.

    Args:
        folders: The folders of decodings, or of runs with all of their decodings.

    Raises:
        ValueError: If a folder holds no decoding, or was not scored, or conditions differ in more than the noise.
    """
    if not folders:
        raise ValueError("breakdown: got nothing, allowed are folders of decodings or of runs.")
    found: dict[tuple[Path, str], dict[NoiseCondition, Path]] = defaultdict(dict)
    for path in (path for folder in folders for path in decoded_folders(folder.resolve())):
        base, condition = parse_decoding_name(path.name)
        found[path.parent, base][condition] = path
    return [_break_down(run.name, base, by_condition) for (run, base), by_condition in found.items()]


def _break_down(run: str, decoding: str, folders: Mapping[NoiseCondition, Path]) -> Breakdown:
    read = {condition: read_scored(folders[condition]) for condition in quiet_to_loud(folders)}
    first, *others = read.values()
    check_scored_alike([one.folder.name for one in read.values()], [one.scores for one in read.values()])
    for one in others:
        names = first.folder.name, one.folder.name
        check_same_test_set(first.utterances, one.utterances, names, (first.folder, one.folder))
    bootstrap = replace(first.bootstrap, unit="utterance")
    decoded = {condition: {u.id: u for u in one.utterances} for condition, one in read.items()}
    groups = [_group(by, name, ids, decoded, bootstrap) for by, name, ids in _groups(first.utterances)]
    return Breakdown(run, decoding, list(read), groups)


def _groups(utterances: Sequence[Utterance]) -> list[tuple[str, str, list[str]]]:
    """What each group is made by, its name and the ids of its utterances; durations only where all are known."""
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance.id)
    return [
        ("all", "all", [utterance.id for utterance in utterances]),
        *(("duration", name, ids) for name, ids in _by_duration(utterances)),
        *(("speaker", name, by_speaker[name]) for name in sorted(by_speaker)),
    ]


def _by_duration(utterances: Sequence[Utterance]) -> list[tuple[str, list[str]]]:
    """The quarters of a test set, from short to long. Equal durations share a group, so there may be fewer."""
    durations = np.array([u.duration for u in utterances if u.duration is not None])
    if len(durations) < len(utterances):
        return []
    edges = np.unique(np.quantile(durations, np.arange(1, NUM_DURATION_GROUPS) / NUM_DURATION_GROUPS, method="lower"))
    numbers = np.searchsorted(edges, durations, side="left")
    rows = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return [
        (f"{durations[row].min():.2f}-{durations[row].max():.2f} s", [utterances[int(i)].id for i in row])
        for row in rows
    ]


def _group(
    by: str,
    name: str,
    ids: Sequence[str],
    decoded: Mapping[NoiseCondition, Mapping[str, Utterance]],
    bootstrap: Bootstrap,
) -> Group:
    members = {condition: [known[key] for key in ids] for condition, known in decoded.items()}
    words = sum(u.word_errors.reference_length for u in next(iter(members.values())))
    rates = {condition: _rate(group, bootstrap) for condition, group in members.items()}
    return Group(by, name, len(ids), words, rates)


def _rate(utterances: Iterable[Utterance], bootstrap: Bootstrap) -> Rate:
    utterances = sorted(utterances, key=lambda u: u.id)
    counts = np.array([(u.word_errors.errors, u.word_errors.reference_length) for u in utterances])
    (ends,) = rate_intervals(counts, utterances, bootstrap)
    return Rate(pooled(u.word_errors for u in utterances).rate, *ends)


# ------------------------------------------------------------------------------------------------------------- showing


def to_json(breakdowns: Sequence[Breakdown]) -> list[dict[str, Any]]:
    """Returns the values that `json=FILE` writes."""
    return [
        {
            "run": one.run,
            "decoding": one.decoding,
            "snrs": [condition.snr for condition in one.conditions],
            "groups": [_group_to_json(group) for group in one.groups],
        }
        for one in breakdowns
    ]


def _group_to_json(group: Group) -> dict[str, Any]:
    rates = {condition.key: asdict(rate) for condition, rate in group.rates.items()}
    return {"by": group.by, "name": group.name, "utterances": group.utterances, "words": group.words, "rates": rates}


def to_table(breakdown: Breakdown) -> Table:
    """Makes the table for the terminal, with a row for each group and a column for each condition."""
    groups = breakdown.groups
    known = any(group.by == "duration" for group in groups)
    rows = [
        [group.name, str(group.utterances), str(group.words), *(_cell(group.rates[c]) for c in breakdown.conditions)]
        for group in groups
    ]
    return terminal_table(
        f"{breakdown.run}: {breakdown.decoding}",
        ["group", "utterances", "words", *(condition.title for condition in breakdown.conditions)],
        rows,
        caption="WER % [95 %, over utterances]" + ("" if known else "; durations are not known: decode again"),
        rules_below=[number for number in range(len(groups) - 1) if groups[number].by != groups[number + 1].by],
        wrap=True,
    )


def _cell(rate: Rate) -> str:
    return format_rate(rate.wer, rate.ci_low, rate.ci_high, digits=1)
