import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["simpy", "simulator.timeline", "simulator.engine", "simulator.record"])
def test_learning_is_loaded_without(module: str):
    program = f"import sys, simulator.learning; print('jax' in sys.modules, {module!r} in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["True", "False"]
