"""The rows of a report: gathers what the stages of selected runs wrote.

Of each run, `config.yaml`, `train.json` and `decode_<split>_<method>/{decode.json,score.json,ref.trn,hyp.trn}` are
read.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from asrsparse.environment import portable_command
from asrsparse.reports.run_selection import Selection, Test, modality_of
from asrsparse.scoring.alignment import ErrorCounts, pooled
from asrsparse.scoring.bootstrap import Bootstrap, compare
from asrsparse.scoring.comparable import check_same_test_set, check_scored_alike
from asrsparse.scoring.decodings import decoding_name
from asrsparse.scoring.score import ScoredDecoding, read_scored
from asrsparse.scoring.stage_files import read_stage


@dataclass(frozen=True)
class ReportRow:
    """One system on one test set. Rates are fractions; None is for what a run did not record.

    The names are those of the columns of `results.csv`, most of which are explained at the functions that compute
    them: `score_utterances`, `score_tokens` and `compare`. `delta_wer`, its interval and `p_better` compare with the
    first row of the test set and are None in it. `density` is that of the weights at the end of training, `masks` the
    name of the masking method, `hours_heard` the hours of speech that training processed over all epochs, `budget` what
    ended the training in place of a number of epochs.
    """

    name: str
    wer: float
    ci_low: float
    ci_high: float
    words: int
    hours_heard: float
    train_seconds: float
    density: float
    parameters: int
    command: str
    decode_command: str
    split: str
    method: str
    modality: str
    cer: float
    cer_ci_low: float
    cer_ci_high: float
    characters: int
    character_insertions: int
    character_deletions: int
    character_substitutions: int
    utterances: int
    insertions: int
    deletions: int
    substitutions: int
    sentence_error_rate: float
    decode_seconds: float
    audio_hours: float
    ter: float | None = None
    ter_ci_low: float | None = None
    ter_ci_high: float | None = None
    delta_wer: float | None = None
    delta_ci_low: float | None = None
    delta_ci_high: float | None = None
    p_better: float | None = None
    epochs: float | None = None
    steps: int | None = None
    seed: int | None = None
    peak_memory_gib: float | None = None
    masks: str = "dense"
    budget: dict[str, Any] | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A test set, decoded in one way.

    Attributes:
        split: The name of the test set.
        method: The method of decoding.
        rows: The rows of the runs; the others are compared with the first one.
        missing: The names of runs that are in other sections but have no score on this test set.
    """

    split: str
    method: str
    rows: list[ReportRow]
    missing: list[str]


@dataclass(frozen=True)
class Report:
    """The sections of a report, and what is the same in all of them.

    Attributes:
        recipe: The name of the report's folder.
        bootstrap: The bootstrap that made all intervals.
        normaliser: The name and version of what was done to all texts before they were compared.
        sections: The sections in the order of the test sets.
        left_out: The names of runs without a row, each with the reason.
    """

    recipe: str
    bootstrap: Bootstrap
    normaliser: str
    sections: list[Section]
    left_out: list[str]

    @property
    def rows(self) -> list[ReportRow]:
        """The rows of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def runs(self) -> list[ReportRow]:
        """The first row of each run, for values that do not depend on the test set."""
        first: dict[str, ReportRow] = {}
        for row in self.rows:
            first.setdefault(row.name, row)
        return list(first.values())

    def differ_in(self, name: str) -> bool:
        """Returns whether the rows have different values of an attribute, such as `"modality"` or `"method"`."""
        return len({getattr(row, name) for row in self.rows}) > 1


@dataclass(frozen=True)
class _Decoded:
    """What the stages of one run wrote for one test set."""

    name: str
    run_dir: Path
    test: Test
    train: dict[str, Any]
    decode: dict[str, Any]
    scored: ScoredDecoding


def gather(selection: Selection) -> Report:
    """Reads the selected runs and compares them; writes nothing.

    Raises:
        ValueError: If a stage has not finished for a run (the message names it), its files do not belong together, or
            the runs were not scored alike on the same utterances.
    """
    wanted = [(test, name) for test, names in selection.tests.items() for name in names]
    quiet = not sys.stdout.isatty()
    read = [_read(selection, *one) for one in track(wanted, "Reading", transient=True, disable=quiet)]
    check_scored_alike([system.name for system in read], [system.scored.scores for system in read])
    tests = track(selection.tests, "Comparing", transient=True, disable=quiet)
    sections = [_section(selection, test, read) for test in tests]
    scored = read[0].scored
    normaliser = "{name}, version {version}".format(**scored.scores["normaliser"])
    return Report(selection.folder.resolve().name, scored.bootstrap, normaliser, sections, selection.left_out)


def _read(selection: Selection, test: Test, name: str) -> _Decoded:
    run_dir = selection.runs[name]
    decode_dir = run_dir / decoding_name(*test)
    train = read_stage(run_dir / "train.json", "train")
    decode = read_stage(decode_dir / "decode.json", "decode")
    return _Decoded(name, run_dir, test, train, decode, read_scored(decode_dir))


def _section(selection: Selection, test: Test, read: Sequence[_Decoded]) -> Section:
    systems = [system for system in read if system.test == test]
    rows = [_row(system, systems[0]) for system in systems]
    return Section(*test, rows, [name for name in selection.runs if name not in selection.tests[test]])


def _row(system: _Decoded, first: _Decoded) -> ReportRow:
    """Joins the values of the stages' files that have a name of `ReportRow`, and leaves out the others."""
    train, decode = system.train, system.decode
    renamed = {
        "name": system.name,
        "split": system.test[0],
        "method": system.test[1],
        "modality": modality_of(system.run_dir),
        "command": portable_command(train["command"]),
        "decode_command": portable_command(decode["command"]),
        "decode_seconds": decode["seconds"],
        "audio_hours": decode["audio_hours"],
    }
    characters = _character_counts(pooled(utterance.character_errors for utterance in system.scored.utterances))
    values = {**train, **system.scored.scores, **_compared(system, first), **characters, **renamed}
    return ReportRow(**{key: value for key, value in values.items() if key in ReportRow.__dataclass_fields__})


def _compared(system: _Decoded, first: _Decoded) -> dict[str, float]:
    if system is first:
        return {}
    names, sides = (first.name, system.name), (first.scored.utterances, system.scored.utterances)
    check_same_test_set(*sides, names, (first.scored.folder, system.scored.folder))
    return asdict(compare(*sides, first.scored.bootstrap, names))


def _character_counts(counts: ErrorCounts) -> dict[str, int]:
    return {
        "characters": counts.reference_length,
        "character_insertions": counts.insertions,
        "character_deletions": counts.deletions,
        "character_substitutions": counts.substitutions,
    }
