import pytest
import torch

from asrsparse.masks import saliency
from asrsparse.masks.saliency import (
    ConnectionSensitivity,
    GradientSaliency,
    MagnitudeAndGradientSaliency,
    MagnitudeSaliency,
    RandomSaliency,
    RelativeSaliency,
    SaliencyInputs,
    TaylorSaliency,
)
from asrsparse.masks.weights import Tiling

VALUES = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
GRADIENTS = torch.tensor([[0.5, 0.5], [-1.0, 4.0]])


def inputs(tile, seed=0):
    return SaliencyInputs([VALUES], [GRADIENTS], [Tiling((2, 2), tile)], torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("score", "single", "columns"),
    [
        (MagnitudeSaliency(), [[1.0, 2.0], [3.0, 0.0]], [[2.0, 1.0]]),
        (GradientSaliency(), [[0.5, 0.5], [1.0, 4.0]], [[0.75, 2.25]]),
        (ConnectionSensitivity(), [[0.5, 1.0], [3.0, 0.0]], [[1.75, 0.5]]),
    ],
)
def test_scores_are_means_over_units(score, single, columns):
    assert torch.equal(score(inputs((1, 1)))[0], torch.tensor(single))
    assert torch.equal(score(inputs((2, 1)))[0], torch.tensor(columns))


def test_magnitude_and_gradient_do_not_depend_on_the_scale_of_the_loss():
    scaled = SaliencyInputs([VALUES], [1024.0 * GRADIENTS], [Tiling((2, 2), (1, 1))], torch.Generator())
    assert torch.allclose(MagnitudeAndGradientSaliency()(inputs((1, 1)))[0], MagnitudeAndGradientSaliency()(scaled)[0])
    alone = MagnitudeAndGradientSaliency(gradient_weight=0.0)(inputs((1, 1)))[0]
    assert torch.allclose(alone, VALUES.abs() / VALUES.abs().mean())


def test_taylor_is_the_sensitivity_by_the_size_of_a_unit():
    tilings, sensitivities = [Tiling((2, 2), (2, 1))], [torch.tensor([[3.0, 1.0]])]
    seen = SaliencyInputs([VALUES], [GRADIENTS], tilings, torch.Generator(), sensitivities)
    assert torch.equal(TaylorSaliency()(seen)[0], torch.tensor([[1.5, 0.5]]))


@pytest.mark.parametrize("window", [-0.1, 1.0])
def test_a_window_is_a_share_of_training(window):
    with pytest.raises(ValueError, match=rf"^window: got {window}, allowed is a share of training in \[0, 1\)\.$"):
        TaylorSaliency(window)


def test_relative_scores_compare_weights_of_different_size_and_keep_the_order_within_them():
    tilings, generator = [Tiling((2, 2), (1, 1))] * 2, torch.Generator()
    small, large = RelativeSaliency(MagnitudeSaliency())(SaliencyInputs([VALUES, 50 * VALUES], [], tilings, generator))
    assert torch.equal(small, large)
    assert torch.equal(small, VALUES.abs() / 1.5)
    assert (RelativeSaliency(MagnitudeSaliency()).needs_gradient, RelativeSaliency(TaylorSaliency(0.1)).window) == (
        False,
        0.1,
    )


def test_random_scores_follow_the_generator():
    first, again, other = (RandomSaliency()(inputs((1, 1), seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_old_name_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"saliency.Gradient is an old name, .* Write GradientSaliency\."):
        assert saliency.Gradient is GradientSaliency
    assert all(hasattr(saliency, name) for name in saliency._OLD_NAMES)
    assert not hasattr(saliency, "Value")
