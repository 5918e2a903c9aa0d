import shutil

import pytest
from omegaconf import OmegaConf

from asrsparse.config import CONF_DIR, compose_config, flatten, read_config
from asrsparse.old_names import DROPPED, KEYS, TARGETS, VALUES, overrides_with_todays_names, with_todays_names


def test_every_new_target_is_there():
    from hydra.utils import get_object

    for target in TARGETS.values():
        assert callable(get_object(target)), target


def test_no_old_target_stands_in_todays_configuration():
    used = set(map(str, flatten(compose_config([])).values()))
    assert used & set(TARGETS.values())
    assert not used & set(TARGETS)


def test_every_new_key_is_known():
    from asrsparse.config import _known_keys

    assert {*KEYS.values(), *VALUES} <= set(_known_keys(CONF_DIR))
    assert not set(DROPPED) & set(_known_keys(CONF_DIR))


def test_a_saved_configuration_gets_todays_names_and_stays_as_it_is_itself(monkeypatch):
    monkeypatch.setitem(KEYS, "masks.method.old", "masks.method.new")
    saved = OmegaConf.create(
        {"n": 3, "masks": {"method": {"old": "${n}"}}, "parts": [{"_target_": "asrsparse.score.Bootstrap"}]}
    )
    todays = with_todays_names(saved)
    assert OmegaConf.to_container(todays) == {
        "n": 3,
        "masks": {"method": {"new": "${n}"}},
        "parts": [{"_target_": "asrsparse.scoring.bootstrap.Bootstrap"}],
    }
    assert "old" in saved.masks.method


def test_an_old_override_works_and_says_so(caplog):
    assert overrides_with_todays_names(["seed=1", "+x._target_=asrsparse.decode.GreedyCTC"]) == [
        "seed=1",
        "+x._target_=asrsparse.decoding.decoders.GreedyCTC",
    ]
    assert "is an old name, which the next release will not know. Write +x._target_=asrsparse.decoding" in caplog.text
    assert len(caplog.records) == 1


def test_an_old_value_of_an_option_works_and_says_so(caplog):
    assert compose_config(["recipe=kaldi", "corpus.video=films"]).corpus.video == "faces"
    assert (
        "corpus.video=films is an old name, which the next release will not know. Write corpus.video=faces"
        in caplog.text
    )
    saved = OmegaConf.create({"corpus": {"video": "mouths"}})
    assert with_todays_names(saved) == {"corpus": {"video": "mouth_regions"}}
    assert with_todays_names(OmegaConf.create({"corpus": {"video": True}})) == {"corpus": {"video": True}}


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_dropped_option_is_ignored_and_says_so(caplog, tokenizer):
    override = f"corpus.cuts.tokenizer={tokenizer}"
    config = compose_config(["recipe=kaldi", override, "corpus.cuts.vocab_size=null"])
    assert config.corpus.cuts.vocab_size is None
    assert "tokenizer" not in config.corpus.cuts
    assert f"{override} is not needed, and the next release will refuse it: corpus.cuts.vocab_size" in caplog.text


def test_a_dropped_option_in_a_yaml_of_the_user_is_ignored_and_says_so(tmp_path, caplog):
    shutil.copytree(CONF_DIR, tmp_path / "conf")
    path = tmp_path / "conf" / "corpus" / "mini.yaml"
    path.write_text(path.read_text().replace("  vocab_size: null", "  tokenizer: char\n  vocab_size: null"))
    config = compose_config(["recipe=mini"], tmp_path / "conf")
    assert "tokenizer" not in config.corpus.cuts
    assert "corpus.cuts.tokenizer is not needed, and the next release will refuse it" in caplog.text


def test_a_saved_configuration_is_read_without_a_dropped_option():
    saved = OmegaConf.create({"corpus": {"cuts": {"tokenizer": "bpe", "vocab_size": 5000}}})
    assert with_todays_names(saved) == {"corpus": {"cuts": {"vocab_size": 5000}}}
    assert with_todays_names(OmegaConf.create({"corpus": {"name": "grid"}})) == {"corpus": {"name": "grid"}}


def test_a_run_of_an_older_version_reads_as_one_of_today(tmp_path):
    (tmp_path / "config.yaml").write_text("score: {bootstrap: {_target_: asrsparse.score.Bootstrap, seed: 3}}\n")
    assert read_config(tmp_path).score.bootstrap == {"_target_": TARGETS["asrsparse.score.Bootstrap"], "seed": 3}
    assert read_config(tmp_path / "nowhere") == {}
