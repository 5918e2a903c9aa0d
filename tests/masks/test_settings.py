"""The arguments of all methods, and what the YAML of each choice says of them."""

import inspect

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from asrsparse.config import CONF_DIR
from asrsparse.masks import RandomMask
from asrsparse.masks.settings import wrong

CHOICES = sorted(path.stem for path in (CONF_DIR / "masks").glob("[!_]*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
def test_yaml_names_no_default_of_the_constructor(choice):
    method = OmegaConf.load(CONF_DIR / "masks" / f"{choice}.yaml").method
    arguments = inspect.signature(get_object(method._target_)).parameters
    for name, value in OmegaConf.to_container(method, resolve=False).items():
        if name != "_target_":
            assert name in arguments
            assert isinstance(value, dict) or value != arguments[name].default, name


def test_the_share_of_a_phase_that_is_done():
    method = RandomMask(start=0.2, until=0.6)
    assert [method.share(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)] == [
        0.0,
        0.0,
        pytest.approx(0.5),
        1.0,
        1.0,
    ]


def test_an_error_begins_with_the_argument():
    assert str(wrong("exit", "warm", "are dense and sparse")) == "exit: got 'warm', allowed are dense and sparse."
