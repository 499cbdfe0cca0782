import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part may import of the others.
ALLOWED = {
    "models": set(),
    "simulator.experiment": set(),
    "simulator.cluster": {"simulator.experiment"},
    "simulator.data": {"simulator.experiment"},
    "simulator.timeline": {"simulator.cluster", "simulator.experiment"},
    "simulator.learning": {"models", "simulator.data", "simulator.experiment"},
    "simulator.record": set(),
    "simulator.report": {"simulator.record"},
}

# Libraries that must not be loaded by importing a part.
FORBIDDEN = {
    "simulator": {"jax", "simpy", "numpy", "pandas", "matplotlib"},
    "simulator.experiment": {"jax", "simpy", "numpy"},
    "simulator.cluster": {"jax", "simpy"},
    "simulator.data": {"jax", "simpy"},
    "simulator.timeline": {"jax", "optax", "pandas"},
    "simulator.learning": {"simpy", "matplotlib"},
    "simulator.record": {"jax", "simpy", "matplotlib"},
    "simulator.report": {"jax", "simpy"},
    "simulator.sweep.executors.ray_node": {"jax", "ray"},  # what it finds is decided before JAX is loaded
    "simulator.sweep.executors.processes": {"jax"},
    "simulator.cli.main": {"jax", "simpy", "numpy", "pandas", "matplotlib"},
    "models": {"simpy", "simulator"},
}


def imported(file):
    """Yields every module that a file names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module):
    return next((part for part in ALLOWED if module == part or module.startswith(f"{part}.")), None)


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_parts_below_it(part):
    files = sorted((ROOT / part.replace(".", "/")).rglob("*.py"))
    assert files
    used = {part_of(module) for file in files for module in imported(file)} - {None, part}
    assert used <= ALLOWED[part]


def test_only_the_engine_knows_both_the_clock_and_training():
    both = []
    for file in sorted((ROOT / "simulator").rglob("*.py")):
        parts = {part_of(module) for module in imported(file)}
        if {"simulator.timeline", "simulator.learning"} <= parts:
            both.append(file.relative_to(ROOT).as_posix())
    assert both == ["simulator/simulation/simulate.py"]


@pytest.mark.parametrize("module", FORBIDDEN)
def test_importing_a_part_does_not_load_what_it_must_not_need(module):
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    names = set(loaded.split())
    assert module.split(".")[0] in names
    assert not names & FORBIDDEN[module]


def test_files_and_functions_stay_readable():
    long = []
    for package in ("models", "simulator"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if text.count("\n") > 400:
                long.append(f"{file}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 60:
                    long.append(f"{file}: {node.name} has {node.end_lineno - node.lineno} lines")
    assert not long


@pytest.mark.parametrize("command", [[], ["run"], ["validate"], ["data", "prepare"]])
def test_help_loads_nothing_that_it_does_not_show(command):
    code = "import sys; from simulator.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    arguments = [sys.executable, "-c", code, *command, "--help"]
    shown = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    *_, loaded = shown.splitlines()
    assert "Usage" in shown
    assert not set(loaded.split()) & {"jax", "numpy", "pandas", "rich", "simpy", "yaml"}
