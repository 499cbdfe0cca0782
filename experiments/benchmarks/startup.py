"""Time that the command takes to answer, and a simulation to its first arrival: every figure from fresh processes.

    python experiments/benchmarks/startup.py [--repeats N] [key.path=value ...]

Commands take turns; the table shows medians. On a machine that does other work too, CPU time and the ratio to
`import jax` say more than the time on the clock. Modules are compiled to bytecode and the tokens are prepared
beforehand, as they are from the second time on. `run` ends when the first server update is computed: cold without
compiled programs, warm with those of the run before. Pretraining is left out.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "experiments/quickstart.yaml")
COMMAND = "from simulator.cli.main import main; main()"
FIRST_ARRIVAL = f"""
import os
from simulator.progress import live  # which `run` loads too
def advanced(self, progress):
    import jax
    jax.block_until_ready(jax.live_arrays())
    os._exit(0)
live.RunView.advanced = advanced
{COMMAND}
"""
COLD = "run to the first arrival, cold"
GOAL_S = {"tardigrad --help": 0.5, "tardigrad run --help": 0.5, "tardigrad validate": 0.5}


def environment(folder: Path) -> dict[str, str]:
    """Returns that of the processes: caches of their own, and none of the settings that would turn one off."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_PERSIST"))}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    caches = {"TARDIGRAD_CACHE": str(folder / "cache"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    return own | caches | {"PYTHONPATH": path}


def seconds(arguments: Sequence[str], settings: Mapping[str, str]) -> tuple[float, float]:
    """Returns how long a process takes, and the CPU time of all its threads, in seconds."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], env=settings, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} ended with exit code {process.returncode}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def arms(folder: Path, settings: Sequence[str]) -> dict[str, Callable[[], list[str]]]:
    """Returns what is measured: each prepares a process and returns its arguments."""

    def simulating(*, cold: bool) -> list[str]:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        if cold:
            shutil.rmtree(folder / "cache/programs", ignore_errors=True)
        chosen = ("pretrain.steps=0", *settings)
        return ["-c", FIRST_ARRIVAL, "run", QUICKSTART, *chosen, "--out", str(folder / "runs")]

    return {
        "python -c pass": lambda: ["-c", "pass"],
        "import jax": lambda: ["-c", "import jax"],
        "tardigrad --help": lambda: ["-c", COMMAND, "--help"],
        "tardigrad run --help": lambda: ["-c", COMMAND, "run", "--help"],
        "tardigrad validate": lambda: ["-c", COMMAND, "validate", QUICKSTART, *settings],
        COLD: lambda: simulating(cold=True),
        "run to the first arrival, warm": lambda: simulating(cold=False),
    }


def table(taken: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    """Returns medians and ranges, with the goals."""
    shown = Table("", "time, s (median, range)", "goal, s", "CPU, s", "ratio of CPU to import jax")
    jax_cpu = [cpu for _, cpu in taken["import jax"]]
    for name, times in taken.items():
        wall, cpu = zip(*times, strict=True)
        ratios = [own / base for own, base in zip(cpu, jax_cpu, strict=True)]
        shown.add_row(
            name,
            f"{statistics.median(wall):.2f}  ({min(wall):.2f} to {max(wall):.2f})",
            f"{GOAL_S[name]}" if name in GOAL_S else "",
            f"{statistics.median(cpu):.2f}",
            f"{statistics.median(ratios):.2f}",
        )
    return shown


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tardigrad-startup-") as name:
        folder = Path(name)
        own, measured = environment(folder), arms(folder, arguments.settings)
        seconds(["-c", COMMAND, "data", "prepare", QUICKSTART, *arguments.settings], own)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
        for name in ("tardigrad --help", "tardigrad validate", COLD):
            seconds(measured[name](), own)  # compiles bytecode
        for _ in range(arguments.repeats):
            for name, prepared in measured.items():
                taken[name].append(seconds(prepared(), own))
    console = Console()
    console.print(table(taken))
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "numpy", "pydantic", "typer"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    console.print(f"{packages}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores{load}")


if __name__ == "__main__":
    main()
