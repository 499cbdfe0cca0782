"""How much of an accelerator's peak the paper's models reach: tokens per second and model FLOP/s, serial and batched.

    python experiments/benchmarks/gpu.py [--presets 20m 60m 150m] [--workers 4 16] [--lanes 4] [--steps 20]
    python experiments/benchmarks/gpu.py --try       # the same code with a tiny model, on any machine

Every worker trains one round with the preset in bfloat16 and fused attention, on 128 sequences of 256 tokens a step.
Model FLOP/s are those of `Model.train_flops`, without what is computed again; the peak is that of the device in
`simulator.cluster.devices`. Programs are compiled beforehand, and serial and batched trainers take turns.

Goal: 45 % of the peak for 150m; batched at least as fast as serial.
"""

import argparse
import statistics
import sys
import time

import jax
from batching import QUICKSTART, arm, measured
from measuring import machine
from rich.console import Console
from rich.table import Table

from simulator import Experiment, Workshop, load, use_cpu_cores
from simulator.cluster.devices import PEAK_FLOPS
from simulator.learning.modeling import tokens_per_step

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


def add_rows(table: Table, preset: str, workers: int, arguments: argparse.Namespace, peak: float) -> None:
    """Measures one preset with one number of workers."""
    workshop = Workshop()
    arms, shown = {}, {}
    for lanes in (None, *arguments.lanes):
        experiment = experiment_of(preset, workers, lanes, arguments.steps, arguments.settings)
        lengths = [arguments.steps] * workers
        if lanes is None:
            arms["serial"] = arm(experiment, workshop, "serial", lengths)
            shown["serial"] = 1
        name = "chosen" if lanes is None else "asked for"
        shown[f"{name} {lanes}"] = workshop.lanes(experiment)
        arms[f"{name} {lanes}"] = arm(experiment, workshop, "batched", lengths)
    start = time.perf_counter()
    for run in arms.values():
        run()
    compiling_s = time.perf_counter() - start
    taken = measured(arms, arguments.seconds)
    steps = workers * arguments.steps
    flops = workshop.costs(experiment).flops_per_step
    stats = jax.local_devices()[0].memory_stats()
    device_gb = f"{stats['peak_bytes_in_use'] / 1e9:.1f}" if stats else ""
    for name, times in taken.items():
        per_s = steps / statistics.median(times)
        ratios = [base / own for base, own in zip(taken["serial"], times, strict=True)]
        share = per_s * flops / (peak * (1 if name == "serial" else jax.local_device_count()))
        goal = f"{GOALS[preset]:.0%}" if preset in GOALS else ""
        tokens = f"{per_s * tokens_per_step(experiment):,.0f}"
        cells = (f"{preset}, k = {workers}", f"{name.split()[0]}: {shown[name]}", tokens, f"{per_s * flops / 1e12:.3g}")
        estimate = f"{workshop.needs(experiment).total / 1e9:.2g}"
        ratio = f"{statistics.median(ratios):.2f}"
        table.add_row(*cells, f"{share:.1%}", goal, ratio, f"{compiling_s:.0f}", device_gb, estimate)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--presets", nargs="*", default=["20m", "60m", "150m"])
    parser.add_argument("--workers", type=int, nargs="*", default=[4, 16])
    parser.add_argument("--lanes", type=int, nargs="*", default=[], help="also measure these numbers")
    parser.add_argument("--steps", type=int, default=20, help="local steps of a round")
    parser.add_argument("--seconds", type=float, default=10, help="for each preset and number of workers")
    parser.add_argument("--peak", type=float, help="of the device, in TFLOP/s, where it is not known")
    parser.add_argument("--try", action="store_true", dest="trial", help="a tiny model, on any machine")
    arguments = parser.parse_args()
    if jax.config.jax_platforms == "cpu" or arguments.trial:
        use_cpu_cores()
    if jax.default_backend() == "cpu" and not arguments.trial:
        sys.exit("this is for an accelerator, and JAX has found none: --try runs the same code with a tiny model")
    if arguments.trial:
        arguments.presets, arguments.steps, arguments.seconds = ["tiny"], 2, 1.0
        arguments.peak = arguments.peak or 0.1
    device = jax.local_devices()[0]
    peak = peak_of(device, arguments.peak)
    columns = ("model", "lanes", "tokens/s", "TFLOP/s", "of the peak", "goal", "to serial", "compiling, s", "peak, GB")
    title = f"bfloat16, fused attention, peak {peak / 1e12:g} TFLOP/s a device; goal to serial: 1.0"
    table = Table(*columns, "estimate, GB", title=title)
    for preset in arguments.presets:
        for workers in arguments.workers:
            add_rows(table, preset, workers, arguments, peak)
    console = Console()
    console.print(table)
    console.print(machine("jax", "numpy"))


if __name__ == "__main__":
    main()
