"""Where decodings of test sets under different conditions lie, and which are refused."""

from pathlib import Path

import pytest

from asrsparse.conditions import decodings
from asrsparse.config import compose_config


def names(*overrides: str) -> dict:
    config = compose_config(["exp_dir=/exp", *overrides])
    return {(d.split, d.snr): d.folder.relative_to(Path("/exp")).as_posix() for d in decodings(config)}


def test_clean_has_the_plain_name():
    assert names() == {("test", "clean"): "full-dense/decode_test_ctc_greedy"}


def test_each_ratio_has_a_folder():
    assert names("decode.snrs=[clean,12.5,-7.5,0]") == {
        ("test", "clean"): "full-dense/decode_test_ctc_greedy",
        ("test", 12.5): "full-dense/decode_test_ctc_greedy_babble12.5dB",
        ("test", -7.5): "full-dense/decode_test_ctc_greedy_babble-7.5dB",
        ("test", 0): "full-dense/decode_test_ctc_greedy_babble0dB",
    }


def test_each_split_has_a_folder_in_the_order_asked_for():
    assert list(names("decode.splits=[test,dev]", "decode.snrs=[clean,0]").values()) == [
        "full-dense/decode_test_ctc_greedy",
        "full-dense/decode_test_ctc_greedy_babble0dB",
        "full-dense/decode_dev_ctc_greedy",
        "full-dense/decode_dev_ctc_greedy_babble0dB",
    ]


def test_who_hears_nothing_is_decoded_once():
    expected = {("test", "clean"): "full-dense-video/decode_test_ctc_greedy"}
    assert names("modality=video", "decode.snrs=[12.5,0]") == expected


@pytest.mark.parametrize(("snrs", "got"), [("[quiet,0]", "quiet"), ("[]", "none"), ("[99]", "99"), ("[null]", "None")])
def test_other_ratios_are_refused(snrs, got):
    with pytest.raises(ValueError, match=rf"decode\.snrs: got {got}, allowed are clean and dB from -60 to 60"):
        names(f"decode.snrs={snrs}")


def test_no_split_is_refused():
    with pytest.raises(ValueError, match=r"decode\.splits: got none, allowed are names of splits: \[test\]\."):
        names("decode.splits=[]")
