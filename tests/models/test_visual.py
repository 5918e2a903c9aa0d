import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.models.visual import (
    CROP,
    Conv3dResNet18,
    CropAndFlip,
    SmallVisualFrontend,
    _neighbourhoods,
    normalise_videos,
)


def small():
    torch.manual_seed(0)
    return SmallVisualFrontend(output_size=24, width=4, flip=0.5)


def thin_resnet():
    torch.manual_seed(0)
    # Not thinner: on processors with AVX2 at most, oneDNN corrupts memory in the backward pass of 2 or 4 channels.
    return Conv3dResNet18(output_size=64, flip=0.5)


FRONTENDS = [small, thin_resnet]


def noise(lens, seed=0):
    """Videos (B, V, 96, 96), zero behind their lengths."""
    generator = torch.Generator().manual_seed(seed)
    lens = torch.tensor(lens)
    video = torch.randint(0, 256, (len(lens), int(lens.max()), 96, 96), dtype=torch.uint8, generator=generator)
    video[torch.arange(int(lens.max())) >= lens[:, None]] = 0
    return video, lens


@pytest.mark.parametrize("make", FRONTENDS)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.booleans())
@settings(max_examples=15)
def test_there_is_a_row_for_each_frame_and_nothing_behind(make, lens, training):
    frontend, (video, video_lens) = make().train(training), noise(lens)
    rows, row_lens = frontend(video, video_lens)
    assert rows.shape[:2] == video.shape[:2]
    assert row_lens.tolist() == lens
    assert rows.dtype == torch.float32
    for row, length in zip(rows, lens, strict=True):
        assert torch.isfinite(row).all()
        assert not row[length:].any()
        assert row[:length].any()


@pytest.mark.parametrize("make", FRONTENDS)
def test_padding_has_no_effect(make):
    frontend, (video, lens) = make().eval(), noise([9, 4, 1])
    together, _ = frontend(video, lens)
    for row, length in enumerate(lens.tolist()):
        single, _ = frontend(video[row : row + 1, :length], lens[row : row + 1])
        torch.testing.assert_close(together[row, :length], single[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", FRONTENDS)
def test_padding_is_not_counted_by_batch_norms(make):
    means = []
    for more in (0, 20):
        frontend, (video, lens) = make().train(), noise([6, 6])
        torch.manual_seed(1)
        frontend(F.pad(video, (0, 0, 0, 0, 0, more)), lens)
        means.append(frontend.state_dict()["stem.1.running_mean"])
    torch.testing.assert_close(*means)


@pytest.mark.parametrize("make", FRONTENDS)
def test_a_row_knows_its_frame_and_two_on_either_side(make):
    frontend, (video, lens) = make().eval(), noise([11])
    seen = []
    frontend.stem.register_forward_hook(lambda *args: seen.append(args[2]))
    changed = video.clone()
    changed[0, 5] = changed[0, 5].flip(0)  # mean and variance stay
    changed[0, 5, :4] = video[0, 5, :4]
    with torch.no_grad():
        frontend(video, lens)
        frontend(changed, lens)
    moved = (seen[0] - seen[1]).abs().amax(dim=(1, 2, 3)) > 0.05
    assert moved.nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


def test_the_stem_is_a_convolution_in_three_dimensions():
    stem, pictures = thin_resnet().stem, torch.randn(2, 6, 88, 88)
    ours = stem[0](_neighbourhoods(pictures, torch.arange(12)))
    theirs = F.conv3d(pictures[:, None], stem[0].weight[:, None], stride=(1, 2, 2), padding=(2, 3, 3))
    torch.testing.assert_close(ours, theirs.transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-4)


def test_resnet_18_has_the_layers_of_torchvisions():
    from torchvision.models import resnet18

    def shapes(model):
        return sorted(tuple(weight.shape) for weight in model.parameters() if weight.dim() == 4)

    theirs, ours = shapes(resnet18()), shapes(Conv3dResNet18(output_size=512, flip=0.5))
    theirs.remove((64, 3, 7, 7))
    ours.remove((64, 5, 7, 7))
    assert ours == theirs


def test_a_gradient_reaches_every_weight():
    for make in FRONTENDS:
        frontend = make().train()
        frontend(*noise([5, 3]))[0].square().sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in frontend.parameters())


def test_bf16_stays_close_to_float32():
    frontend, (video, lens) = small().eval(), noise([6])
    rows, _ = frontend(video, lens)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = frontend(video, lens)
    torch.testing.assert_close(rough.float(), rows, rtol=0.1, atol=0.05)


# ---- crops, mirrors, brightness


def test_the_middle_is_cut_outside_of_training():
    video, _ = noise([3])
    crop = CropAndFlip(CROP, flip=1.0).eval()
    assert torch.equal(crop(video), video[:, :, 4:92, 4:92])


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_all_frames_of_an_utterance_lose_the_same_borders_and_are_mirrored_together(seed):
    """Each pixel says where it was."""
    place = (torch.arange(96)[:, None] * 96 + torch.arange(96)).expand(2, 3, 96, 96)
    torch.manual_seed(seed)
    cropped = CropAndFlip(CROP, flip=0.5).train()(place)
    assert cropped.shape == (2, 3, CROP, CROP)
    for utterance in cropped:
        assert torch.equal(utterance, utterance[:1].expand_as(utterance))
        rows, columns = utterance[0] // 96, utterance[0] % 96
        assert (rows.diff(dim=0) == 1).all()
        steps = columns.diff(dim=1)
        assert (steps == 1).all() or (steps == -1).all()


def test_places_and_mirrors_are_drawn_for_each_utterance_and_reach_the_borders():
    torch.manual_seed(0)
    place = (torch.arange(96)[:, None] * 96 + torch.arange(96)).expand(300, 1, 96, 96)
    cropped = CropAndFlip(CROP, flip=0.5).train()(place)[:, 0]
    tops, mirrored = cropped[:, 0, 0] // 96, cropped[:, 0, 0] > cropped[:, 0, 1]
    assert set(tops.tolist()) == set(range(9))
    assert 100 < mirrored.sum() < 200


def test_brightness_and_contrast_of_an_utterance_do_not_matter():
    video = torch.rand(1, 4, 96, 96, generator=torch.Generator().manual_seed(0)) * 100
    lens = torch.tensor([4])
    torch.testing.assert_close(normalise_videos(2 * video + 30, lens), normalise_videos(video, lens))


def test_a_black_video_is_finite():
    rows, _ = small().train()(torch.zeros(1, 4, 96, 96, dtype=torch.uint8), torch.tensor([4]))
    assert torch.isfinite(rows).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"flip: got 1.5, allowed is \[0, 1\]"):
        SmallVisualFrontend(output_size=24, width=4, flip=1.5)
    with pytest.raises(ValueError, match=r"output_size: got 100, allowed are multiples of 8"):
        Conv3dResNet18(output_size=100, flip=0.5)
    message = r"are 64 x 80, the model crops 88 x 88; .*Run `asrsparse prepare` again, which stores 96 x 96"
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(1, 4, 64, 80), torch.tensor([4]))
