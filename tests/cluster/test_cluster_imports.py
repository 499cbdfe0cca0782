import subprocess
import sys

import pytest

PACKAGES = ("simulator.cluster", "simulator.experiment", "simulator.experiment.schema.json_schema")


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_it_loads_neither_jax_nor_simpy(package: str):
    program = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"jax", "jaxlib", "flax", "optax", "simpy", "models"} & set(loaded)


def test_the_experiment_does_not_import_the_cluster():
    program = "import sys, simulator.experiment; print('simulator.cluster' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
