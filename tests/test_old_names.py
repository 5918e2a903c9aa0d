from omegaconf import OmegaConf

from asrsparse.config import compose_config, flatten, read_config
from asrsparse.old_names import KEYS, TARGETS, overrides_with_todays_names, with_todays_names


def test_every_new_target_is_there():
    from hydra.utils import get_object

    for target in TARGETS.values():
        assert callable(get_object(target)), target


def test_no_old_target_stands_in_todays_configuration():
    used = set(map(str, flatten(compose_config([])).values()))
    assert used & set(TARGETS.values())
    assert not used & set(TARGETS)


def test_every_new_key_is_known():
    from asrsparse.config import CONF_DIR, _known_keys

    assert set(KEYS.values()) <= set(_known_keys(CONF_DIR))


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


def test_a_run_of_an_older_version_reads_as_one_of_today(tmp_path):
    (tmp_path / "config.yaml").write_text("score: {bootstrap: {_target_: asrsparse.score.Bootstrap, seed: 3}}\n")
    assert read_config(tmp_path).score.bootstrap == {"_target_": TARGETS["asrsparse.score.Bootstrap"], "seed": 3}
    assert read_config(tmp_path / "nowhere") == {}
