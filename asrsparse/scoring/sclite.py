"""Results in the form that NIST's program sclite prints: the table by speaker, and aligned utterances.

Two rules differ from sclite, so that numbers are those of Kaldi, icefall and jiwer. Every error costs 1 (in sclite a
substitution costs 4, an insertion or a deletion 3, which sometimes gives more errors), and upper and lower case are
different.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from asrsparse.scoring.alignment import Utterance, mark_of, pooled


def format_result(utterances: Sequence[Utterance], title: str) -> str:
    """Returns what `sclite -o all` prints: the table by speaker, in per cent of the words, and all aligned utterances.

    Args:
        utterances: The decoded utterances.
        title: The title of the table.
    """
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
    """Returns the utterances with most errors, aligned, each with the share of all errors up to it.

    Args:
        utterances: The decoded utterances.
        at_most: The largest number of utterances that are shown.
    """
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
    """Returns the lines of sclite's `pralign` for one utterance, with stars where a side has nothing."""
    counts = utterance.word_errors
    scores = f"{counts.correct} {counts.substitutions} {counts.deletions} {counts.insertions}"
    columns = [
        (ref or "*" * len(hyp), hyp or "*" * len(ref), mark_of(ref, hyp), max(len(ref), len(hyp)))
        for ref, hyp in utterance.alignment
    ]
    return [
        f"id: ({utterance.trn_id})",
        f"Scores: (#C #S #D #I) {scores}",
        "REF:  " + " ".join(f"{ref:<{width}}" for ref, _, _, width in columns),
        "HYP:  " + " ".join(f"{hyp:<{width}}" for _, hyp, _, width in columns),
        "Eval: " + " ".join(f"{mark:<{width}}" for _, _, mark, width in columns),
    ]
