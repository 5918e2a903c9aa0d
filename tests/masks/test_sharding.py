"""Two processes under DDP and under FSDP2 (gloo): one set of masks, and the weights of one process on whole batches."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sharding_program as program
import torch

PROGRAM = Path(program.__file__)
DATA_PARALLEL = ["ddp", "fsdp"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
ids = "-".join
pytestmark = pytest.mark.slow  # starts the ranks as processes of their own


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank found, in one launch."""
    folder = tmp_path_factory.mktemp("ranks")
    words = [[sys.executable, str(PROGRAM), str(rank), str(folder)] for rank in range(program.NUM_RANKS)]
    started = [subprocess.Popen(w, env=ONE_THREAD, stderr=subprocess.PIPE, text=True) for w in words]
    for process in started:
        _, messages = process.communicate(timeout=150)
        assert process.returncode == 0, messages[-3000:]
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(program.NUM_RANKS)]


@pytest.fixture(scope="module")
def reference():
    return {case: program.train(program.methods(case[1])[case[0]], program.alone) for case in program.CASES}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def close(one, other):
    pairs = [(one[key], other[key]) for key in one]
    return one.keys() == other.keys() and all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in pairs)


@pytest.mark.parametrize("case", program.CASES, ids=ids)
@pytest.mark.parametrize("parallel", DATA_PARALLEL)
class TestAsOneProcess:
    def test_all_ranks_choose_the_masks_of_one_process_at_every_step(self, ranks, reference, parallel, case):
        for rank in ranks:
            assert rank[(parallel, *case)]["fingerprints"] == reference[case]["fingerprints"]
            assert rank[(parallel, *case)]["phase"] == case[1]

    def test_all_ranks_end_with_the_weights_of_one_process(self, ranks, reference, parallel, case):
        one, other = (rank[(parallel, *case)]["weights"] for rank in ranks)
        assert same(one, other)
        assert close(one, reference[case]["weights"])
        program.build().load_state_dict(one, strict=True)

    def test_zeros_stay_zeros(self, ranks, parallel, case):
        found = ranks[0][(parallel, *case)]
        for name, kept in found["weight_masks"].items():
            assert found["weights"][name][~kept].count_nonzero() == 0
        kept = torch.cat([kept.flatten() for kept in found["weight_masks"].values()])
        assert kept.all() if case[1] == "dense" else kept.float().mean() < 0.9
        assert min(found["densities"]) < 0.9

    def test_the_masks_state_is_of_plain_tensors(self, ranks, reference, parallel, case):
        assert shapes(ranks[1][(parallel, *case)]["masks"]) == shapes(reference[case]["masks"])


def shapes(state):
    """The types, and the shapes of tensors, in a nested state."""
    if isinstance(state, dict):
        return {key: shapes(value) for key, value in state.items()}
    if isinstance(state, list):
        return [shapes(value) for value in state]
    return tuple(state.shape) if type(state) is torch.Tensor else type(state)


@pytest.mark.parametrize("case", program.RESUMED, ids=lambda case: "-".join(map(str, case)))
def test_a_sharded_run_is_resumed_with_masks_loaded_before_the_shards(ranks, case):
    for rank in ranks:
        resumed, whole = rank[("resumed", *case)], rank[("fsdp", *case[:2])]
        assert resumed["fingerprints"] == whole["fingerprints"]
        assert same(resumed["weights"], whole["weights"])


@pytest.mark.parametrize("name", ["learned", "rigl", "srste"])
def test_a_checkpoint_of_a_sharded_model_has_the_plain_names(ranks, name):
    assert ranks[0]["saved"][name] == list(program.build().state_dict())


@pytest.mark.parametrize("wrap", ["with_ddp", "with_fsdp"])
def test_gradients_of_accumulated_batches_choose_the_same_masks(ranks, reference, wrap):
    for rank in ranks:
        assert rank[("accumulated", wrap)]["fingerprints"] == reference["rigl", "sparse"]["fingerprints"]
        assert close(rank[("accumulated", wrap)]["weights"], reference["rigl", "sparse"]["weights"])


def test_logits_that_come_late_are_trained_on_all_ranks_in_a_new_wrapper(ranks):
    alone = program.train(program.LATE, program.alone)
    assert all(rank["late"]["fingerprints"] == alone["fingerprints"] for rank in ranks)
    assert close(ranks[0]["late"]["weights"], alone["weights"])


def test_ddp_that_finds_unused_parameters_outlives_the_logits(ranks, reference):
    found = [rank["unused"] for rank in ranks]
    assert all(each["fingerprints"] == reference["learned", "dense"]["fingerprints"] for each in found)
    assert same(found[0]["weights"], found[1]["weights"])
    assert close(found[0]["weights"], reference["learned", "dense"]["weights"])


class TestBadInput:
    @pytest.mark.parametrize("name", ["seeds", "sharded seeds"])
    def test_masks_of_different_seeds(self, ranks, name):
        message = r"RuntimeError: The masks differ between ranks \(rank 0: \w{8}, rank 1: \w{8}\), and from here .*"
        assert_matches(ranks, name, message + r"All ranks must attach the same method with the same seed")

    @pytest.mark.parametrize("name", ["late learned", "late srste", "attached late"])
    def test_masks_before_weights_that_are_sharded(self, ranks, name):
        message = r"ValueError: 0.weight: got a weight that fully_shard has sharded before its mask was there; allowed"
        assert_matches(ranks, name, message + r".* Call SparseMasks.attach before fully_shard, and use start=0\.")


def assert_matches(ranks, name, message):
    for rank in ranks:
        assert re.match(message, rank["errors"][name]), rank["errors"][name]
