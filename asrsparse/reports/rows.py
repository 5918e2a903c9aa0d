"""The rows of a report: gathers what selected runs left behind.

Reads, of each run, `config.yaml`, `train.json` and `decode_<split>_<method>/{decode.json,score.json,ref.trn,hyp.trn}`.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from asrsparse.environment import portable_command
from asrsparse.reports.selection import Selection, Test, modality_of
from asrsparse.reports.stage_files import read_stage, remedy
from asrsparse.scoring.alignment import ErrorCounts, Utterance, pooled
from asrsparse.scoring.bootstrap import Bootstrap, compare
from asrsparse.scoring.decodings import decoding_name
from asrsparse.scoring.normalisers import normalised, recorded_normaliser
from asrsparse.scoring.score import check_scored_alike
from asrsparse.scoring.trn_files import read_decoded


@dataclass(frozen=True)
class Row:
    """One system on one test set. Rates are fractions; `None` stands for what a run did not record.

    The comparison (`delta_wer` and so on) is that with the first row of the test set, which has none. `density` is
    that of the weights when training ended, `masks` the method in use until then, `ter` the error rate of tokens.
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
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A test set, decoded in one way.

    Attributes:
        split: The test set.
        method: Of decoding.
        rows: Of the runs, the first of which is compared with.
        missing: Names of runs that stand in other sections but have no score here.
    """

    split: str
    method: str
    rows: list[Row]
    missing: list[str]


@dataclass(frozen=True)
class Report:
    """The sections of a report, and what holds for all of them.

    Attributes:
        recipe: The name of the folder.
        bootstrap: How all intervals were made.
        normaliser: What was done to all texts before they were compared.
        sections: In the order of the test sets.
        left_out: Runs without a row, each with the reason.
    """

    recipe: str
    bootstrap: Bootstrap
    normaliser: str
    sections: list[Section]
    left_out: list[str]

    @property
    def rows(self) -> list[Row]:
        """Of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def runs(self) -> list[Row]:
        """One row of each run, for what does not depend on the test set."""
        first: dict[str, Row] = {}
        for row in self.rows:
            first.setdefault(row.name, row)
        return list(first.values())

    def differ_in(self, name: str) -> bool:
        """Whether some rows have another value under this name than others: `modality`, `method`."""
        return len({getattr(row, name) for row in self.rows}) > 1


@dataclass(frozen=True)
class _Decoded:
    """What one run left on the disk, for one test set."""

    name: str
    run_dir: Path
    test: Test
    train: dict[str, Any]
    decode: dict[str, Any]
    score: dict[str, Any]
    utterances: list[Utterance]

    @property
    def references(self) -> Path:
        return self.run_dir / decoding_name(*self.test) / "ref.trn"


def gather(selection: Selection) -> Report:
    """Reads the selected runs and compares them; writes nothing.

    Raises:
        ValueError: If a stage has not run for a run (it is named), its files do not belong together, or the runs were
            not scored alike on the same utterances.
    """
    wanted = [(test, name) for test, names in selection.tests.items() for name in names]
    quiet = not sys.stdout.isatty()
    read = [_read(selection, *one) for one in track(wanted, "Reading", transient=True, disable=quiet)]
    check_scored_alike([system.name for system in read], [system.score for system in read])
    tests = track(selection.tests, "Comparing", transient=True, disable=quiet)
    sections = [_section(selection, test, read) for test in tests]
    bootstrap, normaliser = Bootstrap(**read[0].score["bootstrap"]), read[0].score["normaliser"]
    named = f"{normaliser['name']}, version {normaliser['version']}"
    return Report(selection.folder.resolve().name, bootstrap, named, sections, selection.left_out)


def _read(selection: Selection, test: Test, name: str) -> _Decoded:
    run_dir = selection.runs[name]
    decode_dir = run_dir / decoding_name(*test)
    train = read_stage(run_dir / "train.json", "train")
    decode = read_stage(decode_dir / "decode.json", "decode")
    score = read_stage(decode_dir / "score.json", "score")
    utterances = normalised(read_decoded(decode_dir), recorded_normaliser(score["normaliser"]))
    if pooled(utterance.word_errors for utterance in utterances).rate != score["wer"]:
        raise ValueError(
            f"{decode_dir}: score.json has WER {score['wer']}, but not its ref.trn and hyp.trn, which have changed "
            f"since. {remedy(run_dir, 'score')}"
        )
    return _Decoded(name, run_dir, test, train, decode, score, utterances)


def _section(selection: Selection, test: Test, read: Sequence[_Decoded]) -> Section:
    systems = [system for system in read if system.test == test]
    rows = [_row(system, systems[0]) for system in systems]
    return Section(*test, rows, [name for name in selection.runs if name not in selection.tests[test]])


def check_same_test_set(first: Path, other: Path) -> None:
    """Compares the references of two decodings.

    Args:
        first: A `ref.trn`.
        other: Another.

    Raises:
        ValueError: If they differ, with file and line.
    """
    known, lines = _numbered_lines(first), _numbered_lines(other)
    for path, here, there in ((other, lines, known), (first, known, lines)):
        differing = {line: number for line, number in here.items() if line not in there}
        if differing:
            line, number = next(iter(differing.items()))
            raise ValueError(
                f"{path}:{number}: {line[:80]!r} does not stand in {first if path is other else other}, as "
                f"{len(differing)} of {len(here)} lines: these are two test sets, whose rates cannot be compared. "
                "Decode both on the same test set, or report them one by one."
            )


def _numbered_lines(path: Path) -> dict[str, int]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return {" ".join(line.split()): number for number, line in enumerate(lines, start=1) if line.strip()}


def _row(system: _Decoded, first: _Decoded) -> Row:
    """Joins what the stages wrote under the names of `Row`; the rest of their files stays there."""
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
    characters = _character_counts(pooled(utterance.character_errors for utterance in system.utterances))
    values = {**train, **system.score, **_compared(system, first), **characters, **renamed}
    return Row(**{key: value for key, value in values.items() if key in Row.__dataclass_fields__})


def _compared(system: _Decoded, first: _Decoded) -> dict[str, float]:
    if system is first:
        return {}
    check_same_test_set(first.references, system.references)
    bootstrap = Bootstrap(**first.score["bootstrap"])
    return asdict(compare(first.utterances, system.utterances, bootstrap, names=(first.name, system.name)))


def _character_counts(counts: ErrorCounts) -> dict[str, int]:
    return {
        "characters": counts.reference_length,
        "character_insertions": counts.insertions,
        "character_deletions": counts.deletions,
        "character_substitutions": counts.substitutions,
    }
