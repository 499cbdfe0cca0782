import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The rooms, and what each may import of the others.
HOST, FILE = {"host"}, {"host", "experiment"}
ALLOWED = {
    "models": set(),
    "host": set(),
    "record": HOST,
    "experiment": HOST,
    "cluster": FILE,
    "data": FILE,
    "timeline": FILE | {"cluster"},
    "learning": FILE | {"data", "models"},
    "methods": {"experiment"},
    "verify": FILE | {"cluster", "record"},
    "calibration": FILE | {"record"},
    "report": {"host", "record"},
    "progress": FILE | {"learning", "record"},
    "simulation": FILE | {"cluster", "data", "learning", "progress", "record", "timeline"},
    "sweep": FILE | {"learning", "models", "progress", "record", "report", "simulation", "timeline"},
    "api": FILE | {"learning", "progress", "report", "simulation", "sweep"},
    "cli": FILE
    | {
        "calibration",
        "cluster",
        "data",
        "learning",
        "models",
        "progress",
        "record",
        "report",
        "simulation",
        "sweep",
        "verify",
    },
}
FRONT_DOORS = {"__init__.py", "api.py"}  # the only modules that are in no room

# Libraries that must not be loaded by importing a part.
FORBIDDEN = {
    "simulator": {"jax", "simpy", "numpy", "pandas", "matplotlib"},
    "simulator.experiment": {"jax", "simpy", "numpy"},
    "simulator.experiment.schema.json_schema": {"jax", "simpy", "models"},
    "simulator.cluster": {"jax", "simpy"},
    "simulator.data": {"jax", "simpy"},
    "simulator.timeline": {"jax", "optax", "pandas"},
    "simulator.methods": {"jax", "simpy", "numpy"},
    "simulator.learning": {"simpy", "matplotlib"},
    "simulator.record": {"jax", "simpy", "matplotlib", "rich", "orbax"},
    "simulator.report": {"jax", "simpy"},
    "simulator.calibration": {"jax", "simpy", "matplotlib"},
    "simulator.host": {"jax", "numpy", "pandas", "simpy"},
    "simulator.sweep.executors.ray_node": {"jax", "ray"},  # what it finds is decided before JAX is loaded
    "simulator.sweep.executors.task_process": {"jax", "matplotlib"},  # the same, and it draws nothing
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


def room_of(module):
    """The room of a module, None of what is not ours, and of the package itself, which gives names away."""
    package, _, name = module.partition(".")
    if package != "simulator":
        return package if package == "models" else None
    return name.partition(".")[0] or None


def files_of(room):
    if room == "models":
        return sorted((ROOT / "models").rglob("*.py"))
    folder = ROOT / "simulator" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_every_module_is_in_a_room():
    found = {path.name for path in (ROOT / "simulator").iterdir() if path.name != "__pycache__"}
    assert found == {room for room in ALLOWED if room not in ("models", "api")} | FRONT_DOORS


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_rooms_below_it(room):
    files = files_of(room)
    assert files
    used = {room_of(module) for file in files for module in imported(file) if module != "simulator"} - {None, room}
    assert used <= ALLOWED[room]


def test_rooms_stand_above_what_they_import():
    assert list(graphlib.TopologicalSorter(ALLOWED).static_order())  # raises at a circle


@pytest.mark.parametrize("room", sorted(set(ALLOWED) - {"api", "models", "record", "host"}))
def test_modules_of_a_room_import_each_other_in_no_circle(room):
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files_of(room)}
    modules = {name.removesuffix(".__init__"): file for name, file in files.items()}
    uses = {name: set() for name in modules}
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                within = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
                uses[name] |= within or {node.module} & set(modules)
    assert sum(len(used) for used in uses.values()) >= len(modules) // 2
    list(graphlib.TopologicalSorter(uses).static_order())  # raises at a circle, of types alone too


def test_only_the_simulation_knows_both_the_clock_and_training():
    both = [room for room in ALLOWED if {"timeline", "learning"} <= ALLOWED[room]]
    assert both == ["simulation", "sweep"]  # which compares the order of events, and plans by it
    files = [file for room in both for file in files_of(room)]
    both = [file for file in files if {"timeline", "learning"} <= {room_of(module) for module in imported(file)}]
    assert [file.name for file in both] == [
        "run.py",
        "simulate.py",
        "training_learner.py",
        "worker_training.py",
        "reuse_plan.py",
    ]


@pytest.mark.parametrize("module", FORBIDDEN)
def test_importing_a_part_does_not_load_what_it_must_not_need(module):
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    names = set(loaded.split())
    assert module.split(".")[0] in names
    assert not names & FORBIDDEN[module]


RELATIVE = {
    "as",
    "from",
    "how",
    "if",
    "of",
    "that",
    "what",
    "when",
    "where",
    "whether",
    "which",
    "while",
    "who",
    "whom",
    "whose",
    "why",
}


def test_docstrings_begin_with_the_noun_or_verb_that_they_are_about():
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    relative, total = [], 0
    for package in ("experiments", "models", "simulator"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                text = ast.get_docstring(node) if isinstance(node, documented) else None
                total += bool(text)
                if text and text.split()[0].rstrip(",:;.").lower() in RELATIVE:
                    relative.append(f"{file}: {getattr(node, 'name', 'the module')}: {text.splitlines()[0]}")
    assert total > 1000
    assert not relative


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


def test_every_public_class_has_a_name_of_its_own():
    files = [file for package in ("models", "simulator") for file in (ROOT / package).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    assert len(names) > 200
    assert not {name for name, count in names.items() if count > 1}


@pytest.mark.parametrize("command", [[], ["run"], ["validate"], ["explain"], ["data", "prepare"]])
def test_help_loads_nothing_that_it_does_not_show(command):
    code = "import sys; from simulator.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    arguments = [sys.executable, "-c", code, *command, "--help"]
    shown = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    *_, loaded = shown.splitlines()
    assert "Usage" in shown
    assert not set(loaded.split()) & {"jax", "numpy", "pandas", "rich", "simpy", "yaml"}
