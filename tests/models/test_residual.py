import copy
import pickle

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.mask import subsequent_mask
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from micro import make_batch, make_model

from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.models.residual import (
    add_layer_scale,
    fold_layer_scale,
    residual_branches,
    scale_residual_branches,
)

ENCODER_BRANCHES = ["feed_forward_macaron", "self_attn", "conv_module", "feed_forward"]
BRANCHES = [f"encoder.encoders.{block}.{kind}" for block in range(2) for kind in ENCODER_BRANCHES]
BRANCHES += [f"decoder.decoders.0.{kind}" for kind in ("self_attn", "src_attn", "feed_forward")]


def conformer(**options):
    torch.manual_seed(0)
    settings = {"output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 2, "cnn_module_kernel": 3}
    latest = {"rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn"}
    return ConformerEncoder(input_size=80, macaron_style=True, **settings, **latest, **options)


def scaled_model(*overrides):
    """A recogniser whose vectors all differ, as after training."""
    model = make_model("model.layer_scale=0.1", *overrides)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            parameter.data.uniform_(-1.0, 1.0, generator=generator)
    return model


def losses_and_scores(model, batch):
    """What training, evaluation and a decoding of three tokens in two hypotheses give, with the same random numbers."""
    torch.manual_seed(0)
    train = model.train()(batch)
    model.eval()
    with torch.no_grad():
        valid = model(batch)
        encoded, _ = model.encode(batch)
        scores = step_by_step(model.decoder, torch.tensor([[11, 1, 2], [11, 3, 4]]), encoded[:1].expand(2, -1, -1))
    return [train.ctc, train.attention, valid.ctc, valid.attention, scores]


def step_by_step(decoder, tokens, encoded):
    """Log probabilities of the next token after each prefix, by the search's own `batch_score`."""
    states, scores = [None] * len(tokens), []
    for length in range(1, tokens.size(1) + 1):
        score, states = decoder.batch_score(tokens[:, :length], states, encoded)
        scores.append(score)
    return torch.stack(scores, dim=1)


def test_the_branches_of_a_conformer_and_of_its_decoder_are_found():
    branches = residual_branches(make_model())
    assert [branch.name for branch in branches] == BRANCHES
    assert all(branch.last.weight.shape[0] == 32 for branch in branches)


def test_layer_scale_adds_one_vector_for_each_branch_and_leaves_all_else():
    plain, scaled = make_model(), make_model("model.layer_scale=0.1")
    added = {f"{name}.layer_scale" for name in BRANCHES}
    state = scaled.state_dict()
    assert state.keys() - plain.state_dict().keys() == added
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert all(torch.equal(state[name], torch.full((32,), 0.1)) for name in added)
    assert all(type(one) is type(other) for one, other in zip(plain.modules(), scaled.modules(), strict=True))


def test_a_branch_is_multiplied_as_its_last_layer_would_be():
    batch = make_batch([5, 2])
    by_vectors, by_weights = make_model("model.layer_scale=0.1"), make_model("model.residual_scale=0.1")
    assert by_weights.state_dict().keys() == make_model().state_dict().keys()
    pairs = zip(losses_and_scores(by_vectors, batch), losses_and_scores(by_weights, batch), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_branches_that_are_multiplied_by_zero_leave_only_the_last_normalisation():
    model = make_model("model.residual_scale=0")
    block = model.encoder.encoders[0].eval()
    x, positions = torch.randn(2, 9, 32), torch.randn(1, 17, 32)
    (output, _), _ = block((x, positions), None)
    assert torch.equal(output, block.norm_final(x))


def test_branches_that_start_at_zero_learn_from_their_last_layers_on():
    model = make_model("model.residual_scale=0").train()
    model(make_batch([5, 2])).total.mean().backward()
    for branch in residual_branches(model):
        of_last = list(branch.last.parameters())
        before = [weight for weight in branch.module.parameters() if all(weight is not last for last in of_last)]
        assert branch.last.weight.grad.abs().max() > 0, branch.name
        assert len(before) >= 2
        assert all(not weight.grad.any() for weight in before), branch.name


def test_folding_leaves_a_plain_model_that_computes_the_same():
    batch = make_batch([5, 2, 7])
    model, plain = scaled_model(), make_model()
    folded = copy.deepcopy(model)
    fold_layer_scale(folded)
    assert list(folded.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(folded.state_dict())
    before = losses_and_scores(model, batch)
    for after in (folded, plain):
        for one, other in zip(losses_and_scores(after, batch), before, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer_type", ["conv1d", "conv1d-linear"])
def test_folding_knows_convolutional_feed_forward_modules(layer_type):
    encoder = conformer(positionwise_layer_type=layer_type)
    add_layer_scale(encoder, 0.5)
    encoder.eval()
    features, lens = torch.randn(2, 60, 80), torch.tensor([60, 50])
    before, _, _ = encoder(features, lens)
    fold_layer_scale(encoder)
    torch.testing.assert_close(encoder(features, lens)[0], before, rtol=1e-5, atol=1e-5)


def test_decoding_step_by_step_equals_decoding_at_once():
    decoder = scaled_model().decoder.eval()
    tokens, encoded = torch.tensor([[11, 1, 2, 7]]), torch.randn(1, 6, 32)
    at_once, _ = decoder(encoded, torch.tensor([6]), tokens, torch.tensor([4]))
    torch.testing.assert_close(step_by_step(decoder, tokens, encoded), at_once.log_softmax(-1), rtol=1e-4, atol=1e-5)
    last, _ = decoder.forward_one_step(tokens, subsequent_mask(4)[None], encoded)
    torch.testing.assert_close(last, at_once[:, -1].log_softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()  # ESPnet's attention keeps its last weights, and what belongs to a graph cannot be copied
def test_a_copy_is_scaled_by_its_own_vectors_and_folds(copied):
    batch = make_batch([5, 2])
    model = scaled_model().eval()
    before = model(batch).total
    other = copied(model)
    assert torch.equal(other(batch).total, before)
    fold_layer_scale(other)
    torch.testing.assert_close(other(batch).total, before, rtol=1e-5, atol=1e-5)
    for branch in residual_branches(copied(model)):
        branch.module.layer_scale.data.zero_()
    assert torch.equal(model(batch).total, before)


def test_a_compiled_block_computes_the_same():
    torch.compiler.reset()  # which does not check hooks, and would take what it compiled for blocks of other tests
    model = scaled_model().eval()
    block = model.encoder.encoders[0]
    x, positions, pad_mask = torch.randn(2, 9, 32), torch.randn(1, 17, 32), torch.ones(2, 1, 9, dtype=torch.bool)
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert torch.equal(compiled((x, positions), pad_mask)[0][0], block((x, positions), pad_mask)[0][0])
    before = compiled((x, positions), pad_mask)[0][0]
    block.self_attn.layer_scale.data.zero_()
    assert not torch.equal(compiled((x, positions), pad_mask)[0][0], before)


def test_the_vectors_learn_under_masks_and_have_none_themselves():
    model = make_model("model.layer_scale=0.1").train()
    masks = SparseMasks.attach(model, LearnedMask())
    (model(make_batch([5, 2])).total.mean() + masks.penalty()).backward()
    vectors = [branch.module.layer_scale for branch in residual_branches(model)]
    assert all(vector.grad.abs().max() > 0 for vector in vectors)
    without_decay = {id(p) for g in masks.param_groups(1e-3, 0.1) if not g["weight_decay"] for p in g["params"]}
    assert {id(vector) for vector in vectors} <= without_decay
    with pytest.raises(ValueError, match=r"feed_forward_macaron: its last layer is parametrised.*masks\.finish"):
        fold_layer_scale(model)


def test_under_autocast_a_branch_joins_the_stream_in_float32():
    model = make_model("model.layer_scale=0.1")
    seen = []
    model.encoder.encoders[0].self_attn.register_forward_hook(lambda *arguments: seen.append(arguments[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(make_batch([3]))
    assert seen == [torch.float32]


@pytest.mark.parametrize("initial", [0.0, -0.1, float("nan"), float("inf")])
def test_layer_scale_that_is_not_positive_is_refused(initial):
    with pytest.raises(ValueError, match=rf"model.layer_scale: got {initial}, allowed is a positive number, or null"):
        add_layer_scale(conformer(), initial)


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_a_residual_scale_below_zero_is_refused(factor):
    with pytest.raises(ValueError, match=rf"model.residual_scale: got {factor}, allowed are 0 and more; 1 leaves"):
        scale_residual_branches(conformer(), factor)


def test_scaling_twice_and_folding_nothing_are_refused():
    encoder = conformer()
    with pytest.raises(ValueError, match=r"encoders\.0\.feed_forward_macaron has no layer_scale to fold; allowed are"):
        fold_layer_scale(encoder)
    add_layer_scale(encoder, 0.1)
    with pytest.raises(ValueError, match=r"feed_forward_macaron has a layer_scale already; allowed is one\. Call fold"):
        add_layer_scale(encoder, 0.1)


def test_models_without_known_branches_are_refused():
    with pytest.raises(ValueError, match=r"Linear has none that are known; allowed are the layers of ESPnet's"):
        add_layer_scale(torch.nn.Linear(2, 2), 0.1)
    encoder = EBranchformerEncoder(80, output_size=16, attention_heads=2, linear_units=16, cgmlp_linear_units=16)
    with pytest.raises(ValueError, match="EBranchformerEncoder has none that are known"):
        scale_residual_branches(encoder, 0.1)


def test_branches_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"encoders\.0: got concat_after=true, .* allowed is false"):
        add_layer_scale(conformer(concat_after=True), 0.1)
    encoder = conformer()
    encoder.encoders[1].self_attn = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"encoders\.1\.self_attn: got Identity, allowed are branches that end in"):
        add_layer_scale(encoder, 0.1)
