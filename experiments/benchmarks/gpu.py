"""Share of an accelerator's peak that the paper's models reach: tokens per second and model FLOP/s, serial and batched.

    python experiments/benchmarks/gpu.py [--presets 20m 60m 150m] [--workers 4 16] [--lanes 4] [--steps 20]
    python experiments/benchmarks/gpu.py --try       # the same code with a tiny model, on any machine

Every worker trains one round with the preset in bfloat16 and fused attention, on 128 sequences of 256 tokens a step.
Model FLOP/s are those of `Model.train_flops`, without what is computed again; the peak is that of the device in
`simulator.cluster.devices`, times the devices that the row uses. Every row is measured in a process of its own, since
the peak of a device's allocator is never reset: the estimate beside it is that row's, and so is the time of compiling,
by how much the first pass took longer than the others.

Goal: 45 % of the peak for 150m; batched at least as fast as serial.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
from batching import QUICKSTART, arm, measured
from measuring import machine
from rich.console import Console
from rich.table import Table

from simulator import Cache, Experiment, Setup, load, use_cpu_cores
from simulator.cluster.devices import PEAK_FLOPS
from simulator.learning.model import tokens_per_step

OTHER_NAMES = {"TPU v5 lite": "TPU v5e", "TPU v6 lite": "TPU v6e", "TPU v5": "TPU v5p"}
TINY = "model={kind: transformer, layers: 2, width: 32, heads: 2, context: 16, vocabulary: 512}"
GOALS = {"150m": 0.45}


def peak_of(device: jax.Device, given: float | None) -> float:
    """Returns the dense 16-bit peak of a device in FLOP/s.

    Raises:
      SystemExit: it is not known and not given.
    """
    if given is not None:
        return given * 1e12
    kind = device.device_kind
    found = [name for name in (*OTHER_NAMES, *PEAK_FLOPS) if name in kind]
    if not found:
        sys.exit(f"the peak of {kind!r} is not known: give it in TFLOP/s with --peak")
    name = max(found, key=len)
    return PEAK_FLOPS[OTHER_NAMES.get(name, name)]


def experiment_of(preset: str, workers: int, lanes: int | None, steps: int, settings: list[str]) -> Experiment:
    """Returns the experiment; preset "tiny" is no preset, but a model that any machine trains at once."""
    chosen = [
        TINY if preset == "tiny" else f"model={{kind: transformer, preset: {preset}}}",
        "model.dtype=bfloat16",
        "model.attention=fused",
        f"inner.batch_size={4 if preset == 'tiny' else 128}",
        f"inner.local_steps={steps}",
        f"data.shards={workers}",
        f"cluster.devices={{profile: none, workers: {workers}}}",
    ]
    if lanes is not None:
        chosen.append(f"compute.lanes={lanes}")
    return load(QUICKSTART, "pretrain.steps=0", *chosen, *settings)[0].experiment


def row_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures one row in this process, whose memory nothing else has used: one preset, trainer and number of lanes."""
    [preset], [workers], [lanes] = arguments.presets, arguments.workers, arguments.lanes or [None]
    kind, cache = arguments.alone, Cache()
    compute = [f"compute.trainer={kind}"]
    experiment = experiment_of(preset, workers, lanes, arguments.steps, [*compute, *arguments.settings])
    setup = Setup(experiment, cache)
    used = len(setup.programs(1 if kind == "serial" else None).devices)
    run = arm(experiment, cache, kind, [arguments.steps] * workers)
    start = time.perf_counter()
    run()
    first_s = time.perf_counter() - start
    taken = measured({kind: run}, arguments.seconds)[kind]
    per_s = workers * arguments.steps / statistics.median(taken)
    stats = jax.local_devices()[0].memory_stats()
    device, flops = jax.local_devices()[0], setup.model.train_flops(experiment.inner.micro_batch)
    return {
        "lanes": 1 if kind == "serial" else setup.lanes,
        "devices": used,
        "steps_per_s": per_s,
        "tokens_per_s": per_s * tokens_per_step(experiment),
        "flops_per_s": per_s * flops,
        "of_peak": per_s * flops / (peak_of(device, arguments.peak) * used),
        "compiling_s": max(0.0, first_s - statistics.median(taken)),
        "device_bytes": stats["peak_bytes_in_use"] if stats else None,
        "estimate_bytes": setup.needs.total,
        "machine": machine("jax", "numpy"),
        "peak": peak_of(device, arguments.peak),
    }


def in_own_process(kind: str, preset: str, workers: int, lanes: int | None, arguments: argparse.Namespace) -> Any:
    """Returns a row's numbers; exits where its process does."""
    command = [sys.executable, __file__, *arguments.settings, "--alone", kind, "--presets", preset]
    command += ["--workers", str(workers), "--steps", str(arguments.steps), "--seconds", str(arguments.seconds)]
    command += ["--lanes", str(lanes)] if lanes else []
    command += ["--peak", str(arguments.peak)] if arguments.peak else []
    command += ["--try"] if arguments.trial else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def add_rows(table: Table, preset: str, workers: int, arguments: argparse.Namespace) -> Any:
    """Adds the rows of one preset with one number of workers; returns the numbers of the last."""
    arms = [("serial", None, "serial"), ("batched", None, "chosen")]
    serial: Any = None
    for kind, lanes, name in [*arms, *(("batched", lanes, f"asked for {lanes}") for lanes in arguments.lanes)]:
        found = in_own_process(kind, preset, workers, lanes, arguments)
        serial = serial or found
        goal = f"{GOALS[preset]:.0%}" if preset in GOALS else ""
        rate = (f"{found['tokens_per_s']:,.0f}", f"{found['flops_per_s'] / 1e12:.3g}", f"{found['of_peak']:.1%}", goal)
        memory = f"{found['device_bytes'] / 1e9:.2g}" if found["device_bytes"] else ""
        lanes_shown = f"{name}: {found['lanes']} on {found['devices']}"
        ratio = f"{found['steps_per_s'] / serial['steps_per_s']:.2f}"
        compiling, estimate = f"{found['compiling_s']:.1f}", f"{found['estimate_bytes'] / 1e9:.2g}"
        table.add_row(f"{preset}, k = {workers}", lanes_shown, *rate, ratio, compiling, memory, estimate)
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--presets", nargs="*", default=["20m", "60m", "150m"])
    parser.add_argument("--workers", type=int, nargs="*", default=[4, 16])
    parser.add_argument("--lanes", type=int, nargs="*", default=[], help="also measure these numbers")
    parser.add_argument("--steps", type=int, default=20, help="local steps of a round")
    parser.add_argument("--seconds", type=float, default=10, help="for each row, once it is compiled")
    parser.add_argument("--peak", type=float, help="of the device, in TFLOP/s, where it is not known")
    parser.add_argument("--alone", choices=("serial", "batched"), help=argparse.SUPPRESS)
    parser.add_argument("--try", action="store_true", dest="trial", help="a tiny model, on any machine")
    arguments = parser.parse_args()
    if arguments.trial:
        arguments.presets, arguments.steps, arguments.seconds = ["tiny"], 2, 1.0
        arguments.peak = arguments.peak or 0.1
    if arguments.alone:
        if jax.config.jax_platforms == "cpu" or arguments.trial:
            use_cpu_cores()
        if jax.default_backend() == "cpu" and not arguments.trial:
            sys.exit("this is for an accelerator, and JAX has found none: --try runs the same code with a tiny model")
        print(json.dumps(row_of(arguments)))
        return
    columns = ("model", "lanes on devices", "tokens/s", "TFLOP/s", "of the peak", "goal", "to serial", "compiling, s")
    table = Table(*columns, "device's\npeak, GB", "estimate, GB")
    for preset in arguments.presets:
        for workers in arguments.workers:
            found = add_rows(table, preset, workers, arguments)  # in processes: this one leaves the device alone
    table.title = f"bfloat16, fused attention, peak {found['peak'] / 1e12:g} TFLOP/s a device; goal to serial: 1.0"
    console = Console()
    console.print(table)
    console.print(found["machine"])


if __name__ == "__main__":
    main()
