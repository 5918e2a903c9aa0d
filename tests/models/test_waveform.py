import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.models.waveform import ResNet1d

SAMPLES = 640  # of a video frame


def make():
    torch.manual_seed(0)
    return ResNet1d(output_size=16)


def noise(lens, seed=0):
    lens = torch.tensor(lens)
    audio = torch.randn(len(lens), int(lens.max()), generator=torch.Generator().manual_seed(seed))
    return audio.masked_fill(torch.arange(int(lens.max())) >= lens[:, None], 0.0), lens


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=3), st.booleans())
@settings(max_examples=30)
def test_there_is_a_row_for_each_begun_video_frame_and_nothing_behind(lens, training):
    rows, row_lens = make().train(training)(*noise(lens))
    assert row_lens.tolist() == [-(-length // SAMPLES) for length in lens]
    assert rows.shape == (len(lens), int(row_lens.max()), 16)
    for row, length in zip(rows, row_lens.tolist(), strict=True):
        assert torch.isfinite(row).all()
        assert not row[length:].any()


def test_padding_has_no_effect():
    frontend, (audio, lens) = make().eval(), noise([6400, 3000, 641])
    for _ in range(3):  # batch norms with a mean
        frontend.train()(*noise([6400, 6400], seed=1))
    frontend.eval()
    together, row_lens = frontend(audio, lens)
    for row, length in enumerate(lens.tolist()):
        single, _ = frontend(audio[row : row + 1, :length], lens[row : row + 1])
        torch.testing.assert_close(together[row, : row_lens[row]], single[0], rtol=1e-4, atol=1e-5)


def test_a_click_is_in_the_row_of_its_frame():
    frontend = make().eval()
    for number in (3, 7, 12):
        audio = torch.zeros(1, 20 * SAMPLES)
        audio[0, number * SAMPLES + SAMPLES // 2] = 1.0
        rows, _ = frontend(audio, torch.tensor([20 * SAMPLES]))
        quiet = rows[0, -1 if number < 10 else 0]
        assert (rows[0] - quiet).abs().sum(dim=1)[1:-1].argmax() + 1 == number


def test_a_gradient_reaches_every_weight():
    frontend = make().train()
    frontend(*noise([6400, 3000]))[0].square().sum().backward()
    assert [name for name, weight in frontend.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"output_size: got 12, allowed are multiples of 8"):
        ResNet1d(output_size=12)
    with pytest.raises(ValueError, match=r"sampling_rate: got 22050, allowed are multiples of 800 Hz"):
        ResNet1d(output_size=16, sampling_rate=22050)
