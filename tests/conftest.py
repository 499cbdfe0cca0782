"""Settings of every test."""

import importlib.util
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import yaml

hypothesis.settings.register_profile("any machine", deadline=None, max_examples=15)
hypothesis.settings.load_profile("any machine")

# JAX reads these when it is first imported, here and in processes that tests start. JAX_PLATFORMS chooses the platform.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUM_CPU_DEVICES"] = "1"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"

# Processes that tests start load modules that one of them has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def known(flags: list[str]) -> list[str]:
    """Returns those of XLA's flags that its library has: it ends a process that gives it another."""
    spec = importlib.util.find_spec("jaxlib")
    places = spec.submodule_search_locations or [] if spec else []
    for library in (library for place in places for library in Path(place).glob("libjax_common.*")):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [flag for flag in flags if content.find(flag.strip("-").split("=")[0].encode()) >= 0]
    return []


# What tests compute takes no time, but compiling it does: these make it a third.
FAST = ["--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *known(FAST)]).strip()

# Programs that several tests compile are compiled once, also in processes of pytest-xdist. What another process has not
# quite written is compiled again: JAX's lock, used outside of tests, looks through all of these thousands at each.
os.environ["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache entry"
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="tardigrad-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


# A file is for one process: those that take longest come first, so that the last ones end together.
LONGEST = [
    "test_resume",
    "test_real_runs",
    "test_cli",
    "test_simulate",
    "test_notebooks",
    "test_jax_setup",
    "test_exchanges",
    "test_methods",
    "test_paper",
    "test_sweep_processes",
    "test_devices",
    "test_exchange_trainers",
    "test_report_page",
    "test_sweep",
    "test_faults",
    "test_readme",
    "test_report_page_browser",
    "test_transformer",
    "test_memory",
    "test_text_simulation",
    "test_sweep_ray",
    "test_compression",
    "test_cli_resume",
    "test_output",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the longest files first; pytest-xdist takes files in this order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data are kept in a folder of this session, also by processes that tests start."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TARDIGRAD_CACHE"] = str(folder)
    yield folder
    del os.environ["TARDIGRAD_CACHE"]


@pytest.fixture
def mixed_dtypes() -> Iterator[None]:
    """For optax's Adams: they raise a Python float to the power of an int32, which strict promotion refuses."""
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def tardigrad(request, monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder; returns exit code, standard output and standard error.

    Figures are made but not drawn, which took a quarter of these tests' time: their files are empty, unless the test
    has the marker `drawn`.
    """
    from simulator.cli import main

    if request.node.get_closest_marker("drawn") is None:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(main, "_leave", sys.exit)  # the real one ends the process, and the tests with it

    def call(*arguments, experiment=None):
        if experiment is not None:
            text = experiment if isinstance(experiment, str) else yaml.safe_dump(experiment, sort_keys=False)
            (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["tardigrad", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call
