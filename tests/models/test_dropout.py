import pytest
import torch

from asrsparse.models.dropout import ByteDropout, use_byte_dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_elements_are_dropped_as_probably_and_the_expectation_stays(p):
    torch.manual_seed(0)
    dropped = ByteDropout(p)(torch.ones(1000, 1001))
    assert (dropped == 0).float().mean().item() == pytest.approx(round(256 * p) / 256, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)
    for rows in (dropped[::2], dropped[:, ::8], dropped[:, 7::8]):  # each byte of a word is as random as the others
        assert rows.mean().item() == pytest.approx(1.0, abs=0.01)


def test_the_gradient_is_that_of_the_same_elements():
    values = torch.ones(50, 3, requires_grad=True)
    dropped = ByteDropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize("p", [0.0, 0.001, 1.0])
def test_all_or_nothing_is_pytorchs(p):
    torch.manual_seed(1)
    ours = ByteDropout(p)(torch.ones(999))
    torch.manual_seed(1)
    assert torch.equal(ours, torch.nn.Dropout(p)(torch.ones(999)))


def test_evaluation_changes_nothing_and_a_seed_repeats():
    layer, values = ByteDropout(0.4), torch.randn(9, 9)
    assert layer.eval()(values) is values
    layer.train()
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(layer(values))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_bf16_stays_bf16():
    assert ByteDropout(0.1)(torch.ones(8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_all_dropout_layers_of_a_model_are_replaced_and_nothing_else():
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Dropout1d(0.3))
    )
    use_byte_dropout(model)
    assert [type(m) for m in model[1]] == [ByteDropout, torch.nn.Dropout1d]
    assert model[1][0].p == 0.2
