import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning import Audit, DynamicPruner, Random, ScoreTable

IDS = [f"u{number}" for number in range(20)]
TABLE = ScoreTable(IDS, [1.0 + number for number in range(20)])


@given(st.lists(st.integers(0, 19), max_size=60), st.lists(st.booleans(), min_size=20, max_size=20))
def test_an_audit_is_clean_exactly_where_each_kept_utterance_was_seen_once(seen, kept):
    audit = Audit.of(TABLE, np.array(kept), np.array(seen, dtype=np.int64))
    assert audit.is_clean == (sorted(seen) == np.flatnonzero(kept).tolist())
    assert audit.is_clean == (not audit.missing.any() and not audit.repeated.any() and not audit.unexpected.any())
    assert str(audit).endswith("was seen once") == audit.is_clean


def test_an_epoch_that_was_seen_as_planned_is_clean():
    pruner = DynamicPruner(IDS, TABLE.durations, Random(0.5))
    kept = pruner.start_epoch(0)
    assert pruner.audit is None
    pruner.observe([i for i in IDS if i in kept], torch.ones(len(kept)))
    pruner.end_epoch()
    assert pruner.audit.is_clean
    assert str(pruner.audit).startswith(f"each of {len(kept)} kept utterances")
    pruner.end_epoch()  # repeating it changes nothing
    assert pruner.audit.is_clean


def test_what_was_lost_doubled_or_not_asked_for_is_told():
    pruner = DynamicPruner(IDS, TABLE.durations, Random(0.5))
    kept = pruner.start_epoch(0)
    chosen, others = [i for i in IDS if i in kept], [i for i in IDS if i not in kept]
    pruner.observe([*chosen[1:], chosen[1], others[0]], torch.ones(len(kept) + 1))
    pruner.end_epoch()
    assert not pruner.audit.is_clean
    assert "1 (0.00 h) not seen, 1 (0.00 h) more than once, 1 (0.00 h) seen though not kept" in str(pruner.audit)
