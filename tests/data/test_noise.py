"""Babble: what a ratio promises, the same draws for the same utterance, nothing behind an utterance's end."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording

from asrsparse.data.cut_index import CutIndex
from asrsparse.data.noise import (
    BABBLE_SECONDS,
    NOISE_TYPES,
    FileNoise,
    NoiseType,
    mix,
    noise_of_test,
    power,
    prepare_noise,
    write_babble,
)

RATE = 1000  # few samples, so that a minute is made quickly


@pytest.fixture
def cuts(tmp_path):
    """Five utterances of 2 s, tones of 50, 60, ... 90 Hz, each twice as loud as the one before."""
    return index_of(tmp_path, [0.02 * 2**n * tone(50 + 10 * n, 2.0) for n in range(5)])


def tone(hertz, seconds):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def index_of(folder, waveforms):
    cuts = []
    for number, samples in enumerate(waveforms):
        path = folder / f"u{number}.wav"
        soundfile.write(path, samples, RATE)
        cuts.append(MonoCut(f"u{number}", 0.0, len(samples) / RATE, 0, recording=Recording.from_file(path)))
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return CutIndex.open(folder / "cuts.jsonl")


@pytest.fixture
def babble(tmp_path, cuts):
    write_babble(tmp_path / "babble_train.flac", cuts)
    return tmp_path / "babble_train.flac"


def test_babble_is_a_minute_of_all_voices_equally_loud(babble):
    samples, rate = soundfile.read(babble)
    assert (len(samples), rate) == (BABBLE_SECONDS * RATE, RATE)
    spectrum = np.abs(np.fft.rfft(samples))
    energies = [np.square(spectrum[60 * hertz - 120 : 60 * hertz + 120]).sum() for hertz in (50, 60, 70, 80, 90)]
    assert max(energies) < 1.6 * min(energies)  # their own levels differ by a factor of 256
    parts = [power(part) for part in np.split(samples, 20)]
    assert max(parts) < 3 * min(parts)


def test_babble_is_the_same_for_the_same_seed_alone(tmp_path, cuts, babble):
    for seed in (0, 1):
        write_babble(tmp_path / f"{seed}.flac", cuts, seed=seed)
    assert (tmp_path / "0.flac").read_bytes() == babble.read_bytes()
    assert (tmp_path / "1.flac").read_bytes() != babble.read_bytes()


def test_silent_utterances_make_no_babble(tmp_path):
    silent = index_of(tmp_path, [np.zeros(RATE)] * 2)
    with pytest.raises(
        ValueError, match=r"babble\.flac: no babble can be made, since the utterances for it are silent"
    ):
        write_babble(tmp_path / "babble.flac", silent)
    assert not (tmp_path / "babble.flac").exists()


@given(
    snr_db=st.floats(-30, 30), level=st.floats(0.001, 1.0), noise_level=st.floats(0.001, 1.0), seed=st.integers(0, 99)
)
def test_the_ratio_of_powers_is_the_one_asked_for(snr_db, level, noise_level, seed):
    rng = np.random.default_rng(seed)
    speech = (level * rng.standard_normal(400)).astype(np.float32)
    noise = (noise_level * rng.standard_normal(400)).astype(np.float32)
    added = mix(speech, noise, snr_db).astype(np.float64) - speech
    assert 10 * np.log10(power(speech) / power(added)) == pytest.approx(snr_db, abs=0.05)


def test_silence_stays_silence():
    assert not mix(np.zeros(9, np.float32), np.ones(9, np.float32), snr_db=-5.0).any()


def batch(num=4, lengths=(400, 200, 300, 100)):
    audio = torch.zeros(num, max(lengths))
    for number, (row, length) in enumerate(zip(audio, lengths, strict=True)):
        row[:length] = torch.from_numpy(0.1 * tone(100 + number, length / RATE)).float()
    return audio, torch.tensor(lengths), [f"u{number}" for number in range(num)]


def noise_from(path, snr_db=(-5.0, 20.0), share=1.0, seed=0):
    return FileNoise(path, snr_db, share, seed)


def mixed(noise, epoch=0, order=slice(None)):
    audio, lens, ids = batch()
    audio, lens = audio[order].clone(), lens[order]
    noise.add_to(audio, lens, [ids[i] for i in range(4)][order], epoch)
    return audio


def test_what_an_utterance_gets_does_not_depend_on_its_batch(babble):
    noise = noise_from(babble)
    whole = mixed(noise)
    torch.testing.assert_close(mixed(noise, order=slice(1, 3)), whole[1:3], rtol=0, atol=0)
    torch.testing.assert_close(mixed(noise_from(babble)), whole, rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 1}])
def test_epochs_and_seeds_draw_other_noise(babble, change):
    other = noise_from(babble, seed=change.get("seed", 0))
    assert not torch.equal(mixed(other, epoch=change.get("epoch", 0)), mixed(noise_from(babble)))


def test_no_noise_is_behind_the_end_of_an_utterance(babble):
    _, lens, _ = batch()
    for row, length in zip(mixed(noise_from(babble)), lens, strict=True):
        assert row[:length].any()
        assert not row[length:].any()


def test_the_range_holds_and_the_share_is_kept(babble):
    noise = noise_from(babble, snr_db=(0.0, 10.0), share=0.25)
    ratios = []
    for number in range(400):
        audio, speech = torch.ones(1, 50), np.ones(50)
        noise.add_to(audio, torch.tensor([50]), [f"id{number}"])
        if (added := audio[0].numpy() - speech).any():
            ratios.append(10 * np.log10(1.0 / power(added)))
    assert 70 <= len(ratios) <= 130
    assert -0.01 <= min(ratios) < 1.0
    assert 9.0 < max(ratios) <= 10.01


def test_no_utterance_gets_noise_at_a_share_of_0(babble):
    torch.testing.assert_close(mixed(noise_from(babble, share=0.0)), batch()[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"snr_db": (5.0, 0.0)}, r"^snr_db: got 5\.0 to 0\.0, allowed are -60 to 60 dB, the lowest first"),
        ({"snr_db": (0.0, 99.0)}, r"^snr_db: got 0\.0 to 99\.0"),
        ({"share": 1.5}, r"^share: got 1\.5, allowed is \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        noise_from(tmp_path / "babble_train.flac", **wrong)


def test_each_use_has_babble_of_its_own_split_made_once(tmp_path, cuts):
    for split in ("train", "dev"):
        (tmp_path / f"{split}_cuts.jsonl").write_bytes((tmp_path / "cuts.jsonl").read_bytes())
    made = {use: prepare_noise(tmp_path, "babble", use) for use in ("train", "test")}
    times = {use: path.stat().st_mtime_ns for use, path in made.items()}
    assert [path.name for path in made.values()] == ["babble_train.flac", "babble_test.flac"]
    assert {use: prepare_noise(tmp_path, "babble", use).stat().st_mtime_ns for use in made} == times


def test_babble_is_made_anew_of_new_cuts(tmp_path, cuts):
    (tmp_path / "dev_cuts.jsonl").write_bytes((tmp_path / "cuts.jsonl").read_bytes())
    before = prepare_noise(tmp_path, "babble", "test").read_bytes()
    (tmp_path / "dev_cuts.jsonl").write_bytes((tmp_path / "cuts.jsonl").read_bytes().splitlines(keepends=True)[0])
    assert prepare_noise(tmp_path, "babble", "test").read_bytes() != before


def test_babble_needs_prepared_cuts(tmp_path):
    with pytest.raises(ValueError, match=r"No cuts .*dev_cuts\.jsonl\. Run `asrsparse prepare` first"):
        prepare_noise(tmp_path, "babble", "test")


def test_unknown_noise_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^name: got the noise 'street', allowed are babble"):
        prepare_noise(tmp_path, "street", "test")


def test_a_new_type_of_noise_is_an_entry_of_the_table(tmp_path, cuts, monkeypatch):
    (tmp_path / "dev_cuts.jsonl").write_bytes((tmp_path / "cuts.jsonl").read_bytes())
    hum = NoiseType(lambda path, _: soundfile.write(path, tone(50, 1.0), RATE), {"train": "train", "test": "dev"})
    monkeypatch.setitem(NOISE_TYPES, "hum", hum)
    noise = noise_of_test("hum", tmp_path, snr_db=0.0)
    assert noise.path == tmp_path / "hum_test.flac"
    audio = torch.ones(1, RATE)
    noise.add_to(audio, torch.tensor([RATE]), ["u0"])
    assert power(audio[0].numpy() - 1.0) == pytest.approx(1.0, rel=1e-3)


def test_missing_babble_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No noise .*babble_train\.flac .*Delete it; the next run makes it again"):
        mixed(noise_from(tmp_path / "babble_train.flac"))


def test_silent_babble_is_refused(tmp_path):
    soundfile.write(tmp_path / "babble_train.flac", np.zeros(RATE), RATE)
    with pytest.raises(
        ValueError, match=r"babble_train\.flac is silent or has several channels, allowed is noise of one channel"
    ):
        mixed(noise_from(tmp_path / "babble_train.flac"))


def test_the_noise_of_ratios_without_a_name_is_known():
    from asrsparse.scoring.decodings import BABBLE

    assert BABBLE in NOISE_TYPES
