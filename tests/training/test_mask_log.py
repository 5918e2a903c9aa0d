from contextlib import nullcontext
from types import SimpleNamespace

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import MICRO, make_batch, make_model
from safetensors.torch import load_file
from torch import nn

from asrsparse.config import compose_config
from asrsparse.files import read_json
from asrsparse.masks import LearnedMask, SparseMasks
from asrsparse.masks.layers import maskable_layers
from asrsparse.reports.masked_run import read_masked_run
from asrsparse.training.lightning_module import ASRLightningModule
from asrsparse.training.mask_log import NUM_BINS, MaskLog, changed_share, measure, packed_bits, weight_histograms
from asrsparse.training.train import train

EPOCHS = 2
SYSTEMS = {
    "dense": ["masks=dense"],
    "learned": ["masks=learned", "masks.method.until=0.4", "masks.method.exit=sparse", "pruning=random"],
}


def config_of(tiny_corpus, exp_dir, system):
    common = [f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", f"trainer.num_epochs={EPOCHS}", "name=run"]
    more = ["trainer.batch_seconds=8", "trainer.save_every_steps=1", "trainer.accelerator=cpu"]
    return compose_config([*MICRO, *common, *more, *SYSTEMS[system], "pruning.plan.final_epochs=0"])


@pytest.fixture(scope="module", params=SYSTEMS)
def trained(request, tmp_path_factory, tiny_corpus):
    """A system's name, and the folder of its run."""
    exp_dir = tmp_path_factory.mktemp(request.param)
    train(config_of(tiny_corpus, exp_dir, request.param), "test")
    return request.param, exp_dir / "run"


def logs(run_dir):
    """All that the log wrote, by file."""
    tables = {path.name: pq.read_table(path) for path in (run_dir / "masks").glob("*.parquet")}
    plain = {name: (table.to_pydict(), table.schema.metadata) for name, table in tables.items()}
    return plain | {"flops": read_json(run_dir / "masks" / "flops.json")}


def weights(run_dir):
    return {name: value.numpy().tobytes() for name, value in load_file(run_dir / "model.safetensors").items()}


def test_the_log_changes_nothing_of_the_training(trained, tiny_corpus, tmp_path, monkeypatch):
    system, run_dir = trained
    monkeypatch.setattr("asrsparse.training.fit.MaskLog", lambda folder: L.Callback())
    train(config_of(tiny_corpus, tmp_path, system), "test")
    assert not (tmp_path / "run" / "masks").exists()
    assert weights(tmp_path / "run") == weights(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["learned"], indirect=True)
@pytest.mark.parametrize("num_steps", [3, 8])
def test_a_run_in_two_sittings_has_the_log_of_one_in_one(num_steps, trained, tiny_corpus, tmp_path, monkeypatch):
    system, run_dir = trained
    step = ASRLightningModule.training_step

    def fail(module, *arguments):
        if module.position.steps == num_steps:
            raise RuntimeError("killed")
        return step(module, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ASRLightningModule, "training_step", fail)
        with pytest.raises(RuntimeError, match="killed"):
            train(config_of(tiny_corpus, tmp_path, system), "test")
    train(config_of(tiny_corpus, tmp_path, system), "test")
    assert logs(tmp_path / "run") == logs(run_dir)


def test_each_quarter_of_an_epoch_and_the_first_update_are_measured(trained):
    _, run_dir = trained
    record = read_json(run_dir / "train.json")
    tables = [pq.read_table(run_dir / "masks" / f"epoch_{epoch:03d}.parquet") for epoch in range(EPOCHS)]
    num_layers = len(read_json(run_dir / "masks" / "flops.json")["layers"])
    steps = [np.unique(table["step"]).tolist() for table in tables]
    assert [len(of_epoch) for of_epoch in steps] == [5, 4]
    assert (steps[0][0], steps[-1][-1]) == (1, record["steps"])
    assert [len(table) for table in tables] == [5 * num_layers, 4 * num_layers]
    progress = np.concatenate([np.unique(table["progress"]) for table in tables])
    assert (np.diff(progress) > 0).all()
    assert progress[-1] == 1.0
    assert float(tables[-1].schema.metadata[b"hours_heard"]) == record["hours_heard"]


def test_all_layers_are_in_the_log_under_the_names_of_the_state_dict(trained):
    _, run_dir = trained
    state = load_file(run_dir / "model.safetensors")
    table = pq.read_table(run_dir / "masks" / "epoch_000.parquet").to_pydict()
    sizes = dict(zip(table["layer"], table["size"], strict=True))
    matrices = {name: value.numel() for name, value in state.items() if name.endswith(".weight") and value.dim() >= 2}
    assert sizes == {name: size for name, size in matrices.items() if name != "decoder.embed.0.weight"}


def test_densities_and_phases_are_those_of_the_masks(trained):
    system, run_dir = trained
    table = pq.read_table(run_dir / "masks" / "epoch_001.parquet")
    last = table.slice(len(table) - len(set(table["layer"].to_pylist()))).to_pydict()
    masked = np.array(last["masked"])
    size, density = np.array(last["size"]), np.array(last["density"])
    assert (density[~masked] == 1.0).all()
    assert not any(name.startswith(("encoder.embed.", "ctc.")) for name in np.array(last["layer"])[masked])
    if system == "dense":
        assert not masked.any()
        assert set(last["phase"]) == {"dense"}
    else:
        exit_density = read_json(run_dir / "train.json")["density_at_exit"]
        assert np.average(density[masked], weights=size[masked]) == pytest.approx(exit_density, abs=1e-6)
        assert set(last["phase"]) == {"sparse"}
        assert set(last["changed"]) == {0.0}
        assert last["grad_norm"] == last["grad_norm_kept"]


def test_the_first_measurement_knows_no_change_and_masks_change_later(trained):
    system, run_dir = trained
    table = pq.read_table(run_dir / "masks" / "epoch_000.parquet").to_pydict()
    changed = {step: set() for step in table["step"]}
    for step, share in zip(table["step"], table["changed"], strict=True):
        changed[step].add(share)
    assert changed.pop(1) == {None}
    most = max(max(shares) for shares in changed.values())
    assert most > 0.1 if system == "learned" else most == 0.0


def test_histograms_hold_all_weights_and_zeros_apart(trained):
    system, run_dir = trained
    table = pq.read_table(run_dir / "masks" / "histogram_001.parquet").to_pydict()
    rows = pq.read_table(run_dir / "masks" / "epoch_001.parquet").to_pylist()
    sizes = {row["layer"]: row["size"] for row in rows}
    for name, zeros, counts in zip(table["layer"], table["zeros"], table["counts"], strict=True):
        assert len(counts) == NUM_BINS
        assert zeros + sum(counts) == sizes[name]
    assert (max(table["zeros"]) > 0) == (system == "learned")


def test_flops_are_those_of_the_model(trained):
    _, run_dir = trained
    flops = read_json(run_dir / "masks" / "flops.json")
    assert flops["dense"] == pytest.approx(sum(flops["layers"].values()) + flops["rest"])
    assert flops["parameters"] == read_json(run_dir / "train.json")["parameters"]


def test_flops_are_those_of_all_views(tmp_path):
    precision = SimpleNamespace(train_step_context=nullcontext)
    trainer = SimpleNamespace(is_global_zero=True, precision_plugin=precision)
    for choice in ("none", "cr_ctc"):
        module = SimpleNamespace(model=make_model(f"consistency={choice}"), masks=SimpleNamespace(num_parameters=1))
        MaskLog(tmp_path / choice).on_train_batch_start(trainer, module, make_batch([3, 2]), 0)
    one, two = (read_json(tmp_path / choice / "flops.json")["dense"] for choice in ("none", "cr_ctc"))
    assert two == pytest.approx(2 * one)


def test_other_ranks_write_and_measure_nothing(tmp_path):
    log, other = MaskLog(tmp_path / "masks"), SimpleNamespace(is_global_zero=False)
    kept = SimpleNamespace(kept=SimpleNamespace(seconds=1.0))
    module = SimpleNamespace(pruner=kept, position=SimpleNamespace(epoch=0, epoch_seconds=1.0))
    log.on_train_batch_start(other, module, None, 0)
    log.on_before_optimizer_step(other, module, None)
    log.on_train_epoch_end(other, module)
    assert log.state_dict() == MaskLog(tmp_path).state_dict()
    assert not list(tmp_path.iterdir())


def soft_masked():
    """A model under masks that are being learned, after a backward pass; half of the first layer is masked out."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Conv1d(4, 2, 1))
    masks = SparseMasks.attach(model, LearnedMask(exclude=["2.*"]))
    with torch.no_grad():
        model[0].parametrizations.weight[0].logits[:, ::2] = -1.0
    model[2](model[1](model[0](torch.randn(3, 6))).t()[None]).square().sum().backward()
    return model, masks


def test_norms_are_of_the_weights_that_the_model_computes_with_and_of_the_gradients_that_it_trains_with():
    model, masks = soft_masked()
    first, second = measure(model, masks.weight_masks())
    trained = model[0].parametrizations.weight.original
    assert [row["layer"] for row in (first, second)] == ["0.weight", "2.weight"]
    assert (first["density"], second["density"]) == (0.5, 1.0)
    assert first["weight_norm"] == pytest.approx(model[0].weight.norm().item())
    assert first["weight_norm"] != pytest.approx(trained.norm().item())
    assert first["grad_norm"] == pytest.approx(trained.grad.norm().item())
    assert first["grad_norm_kept"] == pytest.approx(trained.grad[:, 1::2].norm().item())
    assert second["grad_norm"] == second["grad_norm_kept"] == pytest.approx(model[2].weight.grad.norm().item())


def test_a_layer_without_gradient_has_no_norm_of_it():
    (row,) = measure(nn.Linear(2, 2), {})
    assert row["grad_norm"] is row["grad_norm_kept"] is None
    assert row["density"] == 1.0


def test_histograms_are_of_the_weights_that_the_model_computes_with():
    model, _ = soft_masked()
    limits = {row["layer"]: row["limit"] for row in weight_histograms(model)}
    assert limits == {name: layer.weight.abs().max().item() for name, layer in maskable_layers(model).items()}


@pytest.mark.parametrize(("fill", "zeros", "counted"), [(0.0, 4, 0), (float("nan"), 0, 0), (1.0, 0, 4)])
def test_a_histogram_of_any_weights_can_be_made(fill, zeros, counted):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, fill)
    (row,) = weight_histograms(layer)
    assert (row["zeros"], sum(row["counts"])) == (zeros, counted)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_changed_bits_are_counted_as_they_differ(pairs):
    before, now = torch.tensor(pairs).T
    size = len(pairs)
    share = (before != now).float().mean().item()
    assert changed_share(packed_bits(before), packed_bits(now), size) == pytest.approx(share)
    assert changed_share(None, packed_bits(now), size) == pytest.approx((~now).float().mean().item())
    assert changed_share(packed_bits(now), None, size) == changed_share(None, packed_bits(now), size)
    assert changed_share(None, None, size) == 0.0


def test_the_report_reads_what_the_log_wrote(trained):
    system, run_dir = trained
    run = read_masked_run(run_dir)
    assert len(run.steps) == 9
    assert len(run.histograms) == EPOCHS
    assert (run.flops_effective < run.flops_dense) == (system == "learned")
    assert run.overall_density[-1] == pytest.approx(read_json(run_dir / "train.json")["density"])
