"""Where decodings of test sets under different conditions lie, and which are refused."""

from pathlib import Path

import pytest

from asrsparse.config import compose_config
from asrsparse.scoring.decodings import (
    CLEAN,
    NoiseCondition,
    condition_of,
    decoded_folders,
    decoding_name,
    decodings,
    parse_decoding_name,
    quiet_to_loud,
)


def names(*overrides: str) -> dict:
    config = compose_config(["exp_dir=/exp", *overrides])
    return {(d.split, d.condition.snr): d.folder.relative_to(Path("/exp")).as_posix() for d in decodings(config)}


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


def test_a_model_of_video_alone_is_decoded_once():
    expected = {("test", "clean"): "full-dense-video/decode_test_ctc_greedy"}
    assert names("modality=video", "decode.snrs=[12.5,0]") == expected


@pytest.mark.parametrize(("snrs", "got"), [("[quiet,0]", "quiet"), ("[]", "none"), ("[99]", "99"), ("[null]", "None")])
def test_other_ratios_are_refused(snrs, got):
    with pytest.raises(ValueError, match=rf"decode\.snrs: got {got}, allowed are clean and dB from -60 to 60"):
        names(f"decode.snrs={snrs}")


def test_no_split_is_refused():
    with pytest.raises(ValueError, match=r"decode\.splits: got none, allowed are names of splits: \[test\]\."):
        names("decode.splits=[]")


@pytest.mark.parametrize("snr", ["clean", 0.0, 12.5, -7.5, -60.0])
def test_a_name_has_its_ratio(snr):
    for condition in (condition_of(snr), condition_of(snr, "music")):
        name = decoding_name("test-clean", "ctc_greedy", condition)
        assert parse_decoding_name(name) == ("decode_test-clean_ctc_greedy", condition)
        assert parse_decoding_name(name)[1].snr == snr


def test_other_noise_has_its_name_in_folders_tables_and_files():
    babble, music = NoiseCondition("babble", 0), NoiseCondition("music", -2.5)
    assert decoding_name("test", "joint", music) == "decode_test_joint_music-2.5dB"
    assert [one.title for one in (CLEAN, babble, music)] == ["clean", "0 dB", "music -2.5 dB"]
    assert [one.key for one in (CLEAN, babble, music)] == ["clean", "0", "music -2.5"]
    assert [str(one) for one in (CLEAN, babble, music)] == ["clean", "babble at 0 dB", "music at -2.5 dB"]


def test_conditions_are_ordered_from_quiet_to_loud_and_by_name():
    loud, music, babble = NoiseCondition("music", -5.0), NoiseCondition("music", 5.0), NoiseCondition("babble", 5.0)
    assert quiet_to_loud([loud, music, CLEAN, babble, music]) == [CLEAN, babble, music, loud]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Music", 0.0), r"^name: got 'Music', allowed are lower-case letters"),
        (("", 0.0), r"^name: got ''"),
        (("babble", float("inf")), r"^snr_db: got inf for 'babble', allowed is a number of dB for noise"),
        (("clean", 5.0), r"^snr_db: got 5\.0 for 'clean'"),
    ],
)
def test_conditions_that_could_not_be_told_apart_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseCondition(*arguments)


def test_decodings_are_found_in_a_run_or_are_one(tmp_path):
    for name in ("decode_b", "decode_a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hyp.trn").touch()
    assert decoded_folders(tmp_path) == [tmp_path / "decode_a", tmp_path / "decode_b"]
    assert decoded_folders(tmp_path / "decode_b") == [tmp_path / "decode_b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no decoding.*that of a run: exp/mini/full-dense"):
        decoded_folders(tmp_path / "empty")
