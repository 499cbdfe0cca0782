"""The names that `simulator` gives away."""

import inspect
import subprocess
import sys

import pytest

import simulator


def test_every_name_has_a_home_and_is_listed_in_order():
    assert sorted(simulator.__all__) == sorted(simulator._HOME)
    assert list(simulator._HOME) == sorted(simulator._HOME)


@pytest.mark.parametrize("name", simulator.__all__)
def test_what_is_given_away_is_documented(name):
    found = getattr(simulator, name)
    assert inspect.getdoc(found)
    if inspect.isclass(found):
        functions = [each for each in vars(found).values() if inspect.isfunction(each)]
        own = [each for each in functions if each.__module__ == found.__module__ and each.__name__[0] != "_"]
        assert [each.__name__ for each in own if not inspect.getdoc(each)] == []
    else:
        documented = inspect.getdoc(found)
        assert [each for each in inspect.signature(found).parameters if f"{each}:" not in documented] == []


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'simulator' has no attribute 'smulate'"):
        simulator.smulate  # noqa: B018


def test_registering_a_policy_does_not_load_jax():
    code = "import sys; from simulator import SynchronizationPolicy, load, register_synchronization, vary\n"
    code += "print('jax' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == "False\n"
