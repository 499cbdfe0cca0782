"""Mistakes of an experiment file: `validate`."""

from pathlib import Path

from simulator.cli.output import say
from simulator.cli.plugins import use_plugins
from simulator.cli.reading import Reading, few_windows, read_file, say_size
from simulator.cluster import length_at_most
from simulator.host.format import short_count
from simulator.host.text import plural
from simulator.learning import Setup
from simulator.learning.model import tokens_per_step
from simulator.simulation.checks import cluster_of


def validate(
    file: Path, settings: list[str] | None, variant: str | None, *, data: bool, plugin: list[str] | None
) -> None:
    """Reports every mistake of a file; a lack of memory here is none."""
    use_plugins(plugin)
    reading = read_file(file, settings, variant, data="all" if data else "none", train=data)
    others = () if settings else reading.document.scales  # settings may be meant for one scale only
    for scale in others:
        if scale != reading.points[0].experiment.scale:  # which has been checked, with its data
            read_file(file, [f"scale={scale}"], variant, data="none")
    say_size(file, reading, few_windows(reading) if data and not reading.shortages else (), valid=True)
    if reading.shortages:
        say("`run` refuses on this machine what does not fit into its memory; `timeline` needs none of it:")
        for shortage in reading.shortages:
            say(f"  {shortage}")
    _say_length(reading)


def _say_length(reading: Reading) -> None:
    """Prints how long the longest of the simulations that may take very long is, and the remedy."""
    experiments = [(point, point.experiment) for point in reading.points]
    lengths = [
        (length_at_most(each, cluster_of(each, Setup(each, reading.cache).costs), tokens_per_step(each)), point)
        for point, each in experiments
    ]
    long = [each for each in lengths if each[0].is_long]
    if not long:
        return
    length, point = max(long, key=lambda each: each[0])
    steps, rounds, evaluations = map(short_count, length)
    say(
        f"{plural(len(long), 'simulation')} may take very long: up to {steps} local steps in {rounds} rounds, and "
        f"{evaluations} evaluations, of {point.label}; use a smaller budget, slower devices, a larger model, or fewer "
        "evaluations; `run --dry-run` says how long they take here"
    )
