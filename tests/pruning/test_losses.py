import numpy as np
import pytest
import torch

from asrsparse.pruning.losses import check_finite, check_losses


def test_one_loss_for_each_id_is_right_also_of_none():
    check_losses(["a", "b"], torch.ones(2))
    check_losses([], torch.ones(0))


def test_a_loss_too_many_dimensions_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"^losses: got the shape \(2, 1\) for 2 ids.*losses.flatten\(\)"):
        check_losses(["a", "b"], torch.ones(2, 1))


def test_losses_that_are_not_finite_are_counted_until_there_are_too_many():
    losses = np.array([1.0, np.nan, np.inf, 2.0])
    assert check_finite(losses, str, epoch=3, most=0.5) == 2
    assert check_finite(np.empty(0), str, epoch=3, most=0.5) == 0
    with pytest.raises(ValueError, match=r"^2 of 4 losses in epoch 3 are NaN or infinite, first .* utterance 1; .*40%"):
        check_finite(losses, str, epoch=3, most=0.4)
