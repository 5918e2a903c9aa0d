"""What sclite does: align, count errors, read and write its files. The counts become rates in `asrsparse.score`.

Two rules differ from NIST's program on purpose, both so that a number means what Kaldi, icefall and jiwer mean by it:
every error costs 1 (sclite: substitution 4, insertion and deletion 3, which now and then finds more errors than there
need be), and upper and lower case are different.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import kaldialign

from asrsparse.files import write_text

GAP = ""  # stands in an alignment where one side has nothing; no word and no character is empty
Alignment = list[tuple[str, str]]  # (reference, hypothesis) pairs

_ID = re.compile(r"[^()\s]+")
_TRN_LINE = re.compile(r"(?P<words>.*\s)?\((?P<id>[^()\s]+)\)")


@dataclass(frozen=True)
class ErrorCounts:
    """Errors against a reference of `reference_length` words or characters. Counts add up: `pooled` sums them."""

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    reference_length: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """Insertions, deletions and substitutions together."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def correct(self) -> int:
        """Reference words (characters) that the hypothesis has."""
        return self.reference_length - self.deletions - self.substitutions

    @property
    def rate(self) -> float:
        """Errors per reference word (character), in [0, inf). An empty reference counts as one word: never NaN.

        Example:
            >>> ErrorCounts(insertions=1, substitutions=1, reference_length=4).rate
            0.5
            >>> ErrorCounts(insertions=3).rate
            3.0
        """
        return self.errors / max(self.reference_length, 1)


def pooled(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum over utterances. Its rate is the one to report, not the mean of the utterances' rates."""
    return sum(counts, ErrorCounts())


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """An alignment with the fewest errors (Levenshtein, every error costs 1); `GAP` stands for a missing side.

    Example:
        >>> align("set white at".split(), "set at now".split())
        [('set', 'set'), ('white', ''), ('at', 'at'), ('', 'now')]
    """
    alignment: Alignment = kaldialign.align(reference, hypothesis, GAP)
    return alignment


def count_errors(alignment: Alignment) -> ErrorCounts:
    """Counts the errors of one alignment.

    Example:
        >>> count_errors([("set", "set"), ("white", ""), ("at", "by"), ("", "now")])
        ErrorCounts(insertions=1, deletions=1, substitutions=1, reference_length=3)
    """
    marks = [_mark(*pair) for pair in alignment]
    insertions, deletions, substitutions = (marks.count(mark) for mark in "IDS")
    return ErrorCounts(insertions, deletions, substitutions, len(alignment) - insertions)


def _mark(reference: str, hypothesis: str) -> str:
    """The letter of sclite's `Eval:` line for one pair: I, D, S, or a space where both agree."""
    if reference == hypothesis:
        return " "
    if reference == GAP:
        return "I"
    return "D" if hypothesis == GAP else "S"


@dataclass(frozen=True)
class Utterance:
    """One decoded utterance: what was said and what was recognised, words separated by white space.

    Raises:
        ValueError: If the id or the speaker cannot stand in a trn file, or the duration (seconds) is none.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    duration: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("Utterance id", self.id), ("Speaker", self.speaker)):
            if not _ID.fullmatch(value):
                raise ValueError(
                    f"{what} {value!r}: allowed are names without spaces and parentheses, since a trn file writes "
                    "`words (speaker-id)`. Rename it in the manifests."
                )
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ValueError(f"Duration of {self.id}: got {self.duration}, allowed are seconds above 0.")

    @property
    def trn_id(self) -> str:
        """The name in a trn file, `speaker-id`, as ESPnet writes it: the speaker stands first even if `id` has it."""
        return f"{self.speaker}-{self.id}"

    @cached_property
    def alignment(self) -> Alignment:
        """The words of both sides, aligned."""
        return align(self.reference.split(), self.hypothesis.split())

    @cached_property
    def word_errors(self) -> ErrorCounts:
        """For the word error rate."""
        return count_errors(self.alignment)

    @cached_property
    def character_errors(self) -> ErrorCounts:
        """For the character error rate. The space between two words counts as a character, as in ESPnet's CER."""
        return count_errors(align(_one_spaced(self.reference), _one_spaced(self.hypothesis)))


def _one_spaced(text: str) -> str:
    """The words with one space between them. Takes out every line break too: all of them are white space."""
    return " ".join(text.split())


# ----------------------------------------------------------------------------------------------------------- trn files


def write_trn(path: Path, texts: Mapping[str, str]) -> None:
    """Writes `words<TAB>(trn id)` lines, sorted by id. `texts`: trn id -> words."""
    write_text(path, "".join(f"{_one_spaced(texts[key])}\t({key})\n" for key in sorted(texts)))


def read_trn(path: Path) -> dict[str, str]:
    """Reads `words (id)` lines, a space or a TAB before the id: trn id -> words, one space between them.

    Raises:
        ValueError: If there is no such file, or a line is not UTF-8, has no id, or repeats one, as `file:line`.
    """
    if not path.is_file():
        raise ValueError(f"No {path}. Run `asrsparse decode` for this system and split first.")
    texts: dict[str, str] = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not raw.strip():
            continue
        key, words = _parse_trn_line(raw, f"{path}:{number}")
        if key in texts:
            raise ValueError(f"{path}:{number}: the id ({key}) stands here a second time. Remove one of the two lines.")
        texts[key] = words
    return texts


def _parse_trn_line(raw: bytes, where: str) -> tuple[str, str]:
    try:
        line = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error}). Convert the file, for instance with iconv.") from None
    match = _TRN_LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{where}: no utterance id at the end of {line[:60]!r}. A line is `words (speaker-id)`, with a space or a "
            "TAB before the parenthesis and neither spaces nor parentheses in the id."
        )
    return match["id"], _one_spaced(match["words"] or "")


def write_decoded(decode_dir: Path, utterances: Sequence[Utterance]) -> None:
    """Writes `ref.trn`, `hyp.trn` and, in Kaldi's form, `utt2spk`: the trn ids alone do not say where a speaker ends.

    If durations are known, `utt2dur` says them.

    Raises:
        ValueError: If two utterances share an id.
    """
    references = {utterance.trn_id: utterance.reference for utterance in utterances}
    speakers = {utterance.id: utterance.speaker for utterance in utterances}
    if not len(references) == len(speakers) == len(utterances):
        raise ValueError(f"{decode_dir}: {len(utterances)} utterances have {len(speakers)} ids. Give each its own id.")
    durations = {utterance.id: utterance.duration for utterance in utterances if utterance.duration is not None}
    write_text(decode_dir / "utt2spk", "".join(f"{key} {speakers[key]}\n" for key in sorted(speakers)))
    if len(durations) == len(utterances):
        write_text(decode_dir / "utt2dur", "".join(f"{key} {durations[key]:.4f}\n" for key in sorted(durations)))
    else:
        (decode_dir / "utt2dur").unlink(missing_ok=True)  # one from before would be taken for these utterances'
    write_trn(decode_dir / "ref.trn", references)
    write_trn(decode_dir / "hyp.trn", {utterance.trn_id: utterance.hypothesis for utterance in utterances})


def read_decoded(decode_dir: Path) -> list[Utterance]:
    """Reads the `ref.trn` and `hyp.trn` of a folder, in the order of their ids.

    `utt2spk` beside them says what is speaker and what is utterance in a trn id. Without it (trn files that another
    program wrote) the whole trn id is the utterance's, and its speaker ends at the first hyphen, as for sclite.
    Durations are known where there is `utt2dur`.

    Raises:
        ValueError: If a file is damaged, or an utterance is missing on one side, with file and ids.
    """
    references, hypotheses = read_trn(decode_dir / "ref.trn"), read_trn(decode_dir / "hyp.trn")
    for name, other, missing in (
        ("hyp.trn", "ref.trn", references.keys() - hypotheses.keys()),
        ("ref.trn", "hyp.trn", hypotheses.keys() - references.keys()),
    ):
        if missing:
            raise ValueError(
                f"{decode_dir / name} lacks {len(missing)} utterances of the other trn file: {listed(missing)}. The "
                f"first stands at {decode_dir / other}:{_line_of(decode_dir / other, min(missing))}. "
                "Both files must hold the same ids. Run `asrsparse decode` for this system and split again."
            )
    names = _read_names(decode_dir / "utt2spk", references)
    durations = _read_durations(decode_dir / "utt2dur", {name for name, _ in names.values()})
    return [
        Utterance(*names[key], references[key], hypotheses[key], durations.get(names[key][0]))
        for key in sorted(references, key=lambda key: names[key])
    ]


def _line_of(path: Path, trn_id: str) -> int:
    """The number of the line of a trn file that read well."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return next(number for number, line in enumerate(lines, start=1) if line.rstrip().endswith(f"({trn_id})"))


def _read_durations(path: Path, ids: set[str]) -> dict[str, float]:
    """The seconds of each utterance; nothing where there is no such file."""
    if not path.is_file():
        return {}
    durations: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(r"(\S+)\s+(\d+\.?\d*)\s*", line)
        if match is None or not float(match[2]):
            raise ValueError(f"{path}:{number}: got {line[:60]!r}, allowed is `utterance seconds`, above 0.")
        durations[match[1]] = float(match[2])
    missing = ids - durations.keys()
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} utterances of ref.trn: {listed(missing)}. Decode again.")
    return durations


def _read_names(path: Path, trn_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The (utterance id, speaker) of each trn id."""
    if not path.is_file():
        return {key: (key, key.split("-")[0] or key) for key in trn_ids}
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    names = {f"{pair[-1]}-{pair[0]}": (pair[0], pair[-1]) for pair in pairs if len(pair) == 2}
    unknown = set(trn_ids) - names.keys()
    if unknown:
        raise ValueError(
            f"{path} does not name {len(unknown)} utterances of ref.trn: {listed(unknown)}. Allowed are ids "
            "`speaker-utterance` of its lines `utterance speaker`. Decode again, or delete utt2spk: then the speaker "
            "is what stands before the first hyphen."
        )
    return names


def listed(ids: Iterable[str], at_most: int = 3) -> str:
    """A few ids for a message.

    Example:
        >>> listed(["b", "a", "d", "c"])
        'a, b, c, ...'
    """
    ids = sorted(ids)
    return ", ".join(ids[:at_most]) + (", ..." if len(ids) > at_most else "")


# ---------------------------------------------------------------------------------------------------------- result.txt


def format_result(utterances: Sequence[Utterance], title: str) -> str:
    """What `sclite -o all` prints: the table by speaker, in per cent of the words, then every aligned utterance."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance)
    lines = [*_speaker_table(by_speaker, title), ""]
    for number, (speaker, spoken) in enumerate(sorted(by_speaker.items())):
        lines += ["", f"Speaker sentences {number:3d}:  {speaker}   #utts: {len(spoken)}"]
        for utterance in spoken:
            lines += [*aligned_lines(utterance), ""]
    return "\n".join(lines) + "\n"


def _speaker_table(by_speaker: Mapping[str, Sequence[Utterance]], title: str) -> list[str]:
    """The table of sclite, with the header and the `Sum/Avg` line that ESPnet's scripts grep for."""
    width = max(len("Sum/Avg"), *map(len, by_speaker))
    header = f"| {'SPKR':<{width}} | # Snt  # Wrd | Corr    Sub    Del    Ins    Err  S.Err |"
    speakers = [_speaker_row(name, by_speaker[name], width) for name in sorted(by_speaker)]
    total = _speaker_row("Sum/Avg", [u for spoken in by_speaker.values() for u in spoken], width)
    inner = len(header) - 2
    thin, thick = f"|{'-' * inner}|", f"|{'=' * inner}|"
    edges = f",{'-' * inner}.", f"`{'-' * inner}'"
    name = f"|{title.center(inner)}|"
    return [
        "SYSTEM SUMMARY PERCENTAGES by SPEAKER",
        "",
        edges[0],
        name,
        thin,
        header,
        thin,
        *speakers,
        thick,
        total,
        edges[1],
    ]


def _speaker_row(name: str, utterances: Sequence[Utterance], width: int) -> str:
    counts = pooled(u.word_errors for u in utterances)
    parts = (counts.correct, counts.substitutions, counts.deletions, counts.insertions, counts.errors)
    percents = [100 * part / max(counts.reference_length, 1) for part in parts]
    percents.append(100 * sum(u.word_errors.errors > 0 for u in utterances) / len(utterances))
    columns = "  ".join(f"{percent:5.1f}" for percent in percents)
    return f"| {name:<{width}} | {len(utterances):5d} {counts.reference_length:6d} |{columns} |"


def format_worst(utterances: Iterable[Utterance], at_most: int = 100) -> str:
    """The utterances with most errors, aligned, and the share of all errors that is theirs and of those above them."""
    wrong = sorted((u for u in utterances if u.word_errors.errors), key=lambda u: (-u.word_errors.errors, u.id))
    total, so_far = sum(u.word_errors.errors for u in wrong), 0
    lines = [f"{min(len(wrong), at_most)} of the {len(wrong)} utterances with errors, the worst first; {total} errors"]
    for rank, utterance in enumerate(wrong[:at_most], start=1):
        counts = utterance.word_errors
        so_far += counts.errors
        of_words = f"{counts.errors} errors in {counts.reference_length} words"
        seconds = f", {utterance.duration:.2f} s" if utterance.duration else ""
        share = f"up to here {100 * so_far / total:.1f} % of all errors"
        lines += ["", f"{rank}. speaker {utterance.speaker}, {of_words}{seconds}; {share}", *aligned_lines(utterance)]
    return "\n".join(lines) + "\n"


def aligned_lines(utterance: Utterance) -> list[str]:
    """One utterance as in sclite's `pralign`: stars stand where a side has nothing."""
    counts = utterance.word_errors
    scores = f"{counts.correct} {counts.substitutions} {counts.deletions} {counts.insertions}"
    columns = [
        (ref or "*" * len(hyp), hyp or "*" * len(ref), _mark(ref, hyp), max(len(ref), len(hyp)))
        for ref, hyp in utterance.alignment
    ]
    return [
        f"id: ({utterance.trn_id})",
        f"Scores: (#C #S #D #I) {scores}",
        "REF:  " + " ".join(f"{ref:<{width}}" for ref, _, _, width in columns),
        "HYP:  " + " ".join(f"{hyp:<{width}}" for _, hyp, _, width in columns),
        "Eval: " + " ".join(f"{mark:<{width}}" for _, _, mark, width in columns),
    ]
