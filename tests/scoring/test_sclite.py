"""Results in the form of sclite, with the numbers of sclite."""

import random
import re

import pytest
from decoded import VOCABULARY, decoded, needs_sctk, random_pair, sctk

from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.sclite import format_result
from asrsparse.scoring.trn_files import write_decoded


def sclite_scores(folder, utterances):
    """sclite's (correct, substitutions, deletions, insertions) by trn id, and the numbers of its line Sum/Avg."""
    write_decoded(folder, utterances)
    command = "sclite -s -e utf-8 -i rm -r ref.trn trn -h hyp.trn trn -o pralign sum stdout"
    printed = sctk(folder, command)
    found = re.findall(r"id: \((\S+)\)\nScores: \(#C #S #D #I\) ([\d ]+)", printed)
    total = next(line for line in printed.splitlines() if "Sum/Avg" in line)
    return {key: tuple(map(int, numbers.split())) for key, numbers in found}, re.findall(r"[\d.]+", total)


def our_scores(utterances):
    counts = {u.trn_id: u.word_errors for u in utterances}
    return {key: (c.correct, c.substitutions, c.deletions, c.insertions) for key, c in counts.items()}


@needs_sctk
@pytest.mark.parametrize("error_rate", [0.0, 0.05, 0.2])
def test_result_has_the_numbers_of_sclite(tmp_path, error_rate):
    utterances = decoded(error_rate, 400, vocabulary=[*VOCABULARY, "Blue", "été", "o'clock", "well-known"])
    utterances = [u for u in utterances if u.reference and u.hypothesis]
    theirs, total = sclite_scores(tmp_path, utterances)
    assert our_scores(utterances) == theirs
    ours = next(line for line in format_result(utterances, "x").splitlines() if "Sum/Avg" in line)
    assert re.findall(r"[\d.]+", ours) == total


@needs_sctk
def test_where_sclite_finds_more_errors_its_own_weights_are_why(tmp_path):
    """At absurd error rates. sclite weighs 4/3/3: never fewer errors than ours, and never a greater weight."""
    rng = random.Random(3)
    pairs = [random_pair(rng, "unrelated") for _ in range(400)]
    utterances = [Utterance(f"{i:03d}", "s", " ".join(r), " ".join(h)) for i, (r, h) in enumerate(pairs)]
    theirs, _ = sclite_scores(tmp_path, utterances)
    differing = 0
    for key, (correct, *ours) in our_scores(utterances).items():
        others = theirs[key][1:]
        assert correct + ours[0] + ours[1] == sum(theirs[key][:3])  # words of the reference
        assert sum(ours) <= sum(others)
        assert 4 * ours[0] + 3 * (ours[1] + ours[2]) >= 4 * others[0] + 3 * (others[1] + others[2])
        differing += sum(ours) != sum(others)
    assert differing < 0.2 * len(utterances)


def test_result_has_the_shape_of_sclite():
    utterances = [
        Utterance("s1-a", "s1", "set white at", "set red at now"),
        Utterance("s2-b", "s2", "bin blue", "bin"),
        Utterance("s2-c", "s2", "now", "now"),
    ]
    lines = format_result(utterances, "decode_test/hyp.trn").splitlines()
    assert "| SPKR    | # Snt  # Wrd | Corr    Sub    Del    Ins    Err  S.Err |" in lines
    assert "| s2      |     2      3 | 66.7    0.0   33.3    0.0   33.3   50.0 |" in lines
    assert "| Sum/Avg |     3      6 | 66.7   16.7   16.7   16.7   50.0   66.7 |" in lines
    start = lines.index("id: (s1-s1-a)")
    assert lines[start - 1 : start + 5] == [
        "Speaker sentences   0:  s1   #utts: 1",
        "id: (s1-s1-a)",
        "Scores: (#C #S #D #I) 2 1 0 1",
        "REF:  set white at ***",
        "HYP:  set red   at now",
        "Eval:     S        I  ",
    ]
