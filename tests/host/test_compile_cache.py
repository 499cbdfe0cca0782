"""Programs that are compiled once and kept for later processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIMULATES = """
import sys
from simulator.host.compile_cache import keep_compiled_programs
keep_compiled_programs()
from simulator import simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER
short = {"budget": {"local_steps": 10}, "evaluate": {"every_local_steps": None}}
summary = simulate(Experiment.model_validate(merge(merge(TINY, CLASSIFIER), short))).summary
print(summary["parameters_hash"], summary["final_loss"])
"""


KEEPS = "from simulator.host.compile_cache import keep_compiled_programs as keep; keep()"


def simulated(cache: Path, code: str = SIMULATES, **settings: str) -> tuple[str, str]:
    """Returns what a process of its own prints, and what it says on standard error."""
    of_tests = ("JAX_COMPILATION_CACHE", "PYTHONWARNINGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(of_tests)}
    environment |= {"TARDIGRAD_CACHE": str(cache), "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def entries(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((cache / "programs").glob("*/*-cache"))}


def test_what_is_read_does_the_same_as_what_is_compiled_and_what_is_damaged_is_compiled_anew(tmp_path: Path):
    compiled, _ = simulated(tmp_path)
    made = entries(tmp_path)
    assert any("init" in name for name in made)
    used = {path: path.read_bytes() for path in (tmp_path / "programs").glob("*/*-atime")}
    assert len(used) == len(made)

    read, _ = simulated(tmp_path)
    assert read == compiled
    assert entries(tmp_path) == made
    assert all(path.read_bytes() != before for path, before in used.items())  # every program was read

    for path in (tmp_path / "programs").glob("*/*-cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    anew, said = simulated(tmp_path)
    assert anew == compiled
    assert "Error reading persistent compilation cache entry" in said


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path):
    simulated(tmp_path, KEEPS)
    (folder,) = (tmp_path / "programs").iterdir()
    for name in ("torn-cache", "whole-cache", "whole-atime", "empty-cache", "alone-atime"):
        (folder / name).write_bytes(b"12345678")
    (folder / "empty-atime").touch()
    simulated(tmp_path, KEEPS)
    assert {path.name for path in folder.iterdir()} - {".lockfile"} == {"whole-cache", "whole-atime"}


PRINTS = """
import os, sys
import {imported}
from simulator.host.compile_cache import keep_compiled_programs
keep_compiled_programs()
import jax
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("imported", ["jax", "numpy"])  # options are set in JAX, or for when it is imported
def test_settings_of_the_user_go_before(tmp_path: Path, imported: str):
    code = PRINTS.format(imported=imported)
    assert Path(simulated(tmp_path, code)[0].strip()).parent == tmp_path / "programs"
    chosen = str(tmp_path / "own")
    assert simulated(tmp_path, code, JAX_COMPILATION_CACHE_DIR=chosen)[0].strip() == chosen


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs").chmod(0o777)
    printed, said = simulated(tmp_path, PRINTS.format(imported="numpy"))
    assert printed.strip() == "None"
    assert "compiled programs are not kept (others may write to it" in said


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "programs").write_text("a file")
    printed, said = simulated(tmp_path, PRINTS.format(imported="numpy"))
    assert printed.strip() == "None"
    assert "compiled programs are not kept (" in said
