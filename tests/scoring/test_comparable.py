"""Systems that cannot be compared are refused, with what differs."""

import pytest
from decoded import decoded

from asrsparse.files import write_text
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap, compare
from asrsparse.scoring.comparable import check_same_test_set
from asrsparse.scoring.trn_files import read_decoded, write_decoded

FEW = Bootstrap(resamples=500)


def test_the_first_line_that_differs_is_named_on_either_side(tmp_path):
    folders = tmp_path / "whole", tmp_path / "part"
    write_text(folders[0] / "ref.trn", "one\t(s-1)\ntwo\t(s-2)\nthree\t(s-3)\n")
    write_text(folders[1] / "ref.trn", "one (s-1)\n\nthree  (s-3)\n")
    for folder in folders:
        write_text(folder / "hyp.trn", (folder / "ref.trn").read_text())
    whole, part = map(read_decoded, folders)
    check_same_test_set(whole, whole, ("whole", "whole"), (folders[0], folders[0]))
    for one, other, names, places in (
        (whole, part, ("whole", "part"), folders),
        (part, whole, ("part", "whole"), folders[::-1]),
    ):
        message = r"utterances differ, 1 only in whole \(s-2\), at .*whole/ref\.trn:2: 'two'\. Decode both"
        with pytest.raises(ValueError, match=message):
            check_same_test_set(one, other, names, places)


def test_another_text_is_named_with_its_line(tmp_path):
    utterances = [Utterance("a", "s", "set white", "set"), Utterance("b", "s", "at now", "at")]
    changed = [utterances[0], Utterance("b", "s", "by now", "at")]
    folders = tmp_path / "one", tmp_path / "two"
    for folder, decoding in zip(folders, (utterances, changed), strict=True):
        write_decoded(folder, decoding)
    message = (
        r"differs \(b\), of 2\. The first is 'at now' of speaker s in one, at .*one/ref\.trn:2 and 'by now' of "
        r"speaker s in two, at .*two/ref\.trn:2\."
    )
    with pytest.raises(ValueError, match=message):
        check_same_test_set(utterances, changed, ("one", "two"), folders)


def test_different_test_sets_are_refused():
    one = decoded(0.1, num_utterances=8)
    with pytest.raises(ValueError, match=r"2 only in base \(006, 007\) and 1 only in new \(000\)"):
        compare(one[1:], one[:6], FEW, names=("base", "new"))
    with pytest.raises(ValueError, match=r"utterances differ, 1 only in the second system \(000\)"):
        compare(one[1:], one, FEW)
    other = Utterance("000", "s0", "another text", "another text")
    with pytest.raises(ValueError, match=r"the reference or the speaker of 1 utterances differs \(000\)"):
        compare(one, [other, *one[1:]], FEW)
