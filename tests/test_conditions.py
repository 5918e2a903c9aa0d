"""Where decodings under different conditions lie, and which are refused."""

from pathlib import Path

import pytest

from asrsparse.conditions import decode_dirs
from asrsparse.config import compose_config


def names(*overrides: str) -> dict:
    config = compose_config(["exp_dir=/exp", *overrides])
    return {snr: folder.relative_to(Path("/exp")).as_posix() for snr, folder in decode_dirs(config).items()}


def test_clean_has_the_plain_name():
    assert names() == {"clean": "full-dense/decode_test_ctc_greedy"}


def test_each_ratio_has_a_folder():
    assert names("decode.snrs=[clean,12.5,-7.5,0]") == {
        "clean": "full-dense/decode_test_ctc_greedy",
        12.5: "full-dense/decode_test_ctc_greedy_babble12.5dB",
        -7.5: "full-dense/decode_test_ctc_greedy_babble-7.5dB",
        0: "full-dense/decode_test_ctc_greedy_babble0dB",
    }


def test_who_hears_nothing_is_decoded_once():
    assert names("modality=video", "decode.snrs=[12.5,0]") == {"clean": "full-dense-video/decode_test_ctc_greedy"}


@pytest.mark.parametrize(("snrs", "got"), [("[quiet,0]", "quiet"), ("[]", "none"), ("[99]", "99"), ("[null]", "None")])
def test_other_ratios_are_refused(snrs, got):
    with pytest.raises(ValueError, match=rf"decode\.snrs: got {got}, allowed are clean and dB from -60 to 60"):
        names(f"decode.snrs={snrs}")
