"""The examples in docstrings, which are what a reader tries first."""

import doctest
import sys
from pathlib import Path

import pytest

from simulator.api import build_experiment, vary
from simulator.experiment import registry
from simulator.experiment.expand import load
from simulator.learning.optimizers.delayed_nesterov import delayed_nesterov
from simulator.learning.optimizers.outer import register_outer
from simulator.simulation.simulate import simulate
from simulator.timeline.policies.registered import (
    register_local_steps,
    register_shard_choice,
    register_synchronization,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "function",
    [
        build_experiment,
        delayed_nesterov,
        load,
        register_local_steps,
        register_outer,
        register_shard_choice,
        register_synchronization,
        simulate,
        vary,
    ],
    ids=lambda function: function.__name__,
)
def test_the_example_of_a_docstring_gives_what_it_says(function, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # examples name files of the repository
    module = sys.modules[function.__module__]
    [example] = doctest.DocTestFinder(recurse=False).find(function, function.__name__, module, globs={})
    assert example.examples
    with registry.emptied():
        result = doctest.DocTestRunner().run(example)
    assert result.failed == 0, capsys.readouterr().out
