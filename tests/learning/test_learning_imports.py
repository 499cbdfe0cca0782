import subprocess
import sys

LOADED_WITHOUT = (
    "simpy",
    "simulator.timeline",
    "simulator.simulation.simulate",
    "simulator.record",
    "simulator.report",
)


def test_learning_is_loaded_without_the_simulated_world():
    program = "import sys, simulator.learning; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = finished.stdout.split()
    assert {"jax", "simulator.learning"} <= set(modules)
    assert not set(LOADED_WITHOUT) & set(modules)
