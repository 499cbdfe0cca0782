"""Reading of an experiment file by a command, and what is said of its simulations."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console

from simulator.cli.output import say
from simulator.cli.plugins import begin_jax, use_plugins
from simulator.experiment import Document, Experiment, Point, Problem, expand, load_document
from simulator.experiment.settings_without_effect import notes
from simulator.host.output import outlast_readers
from simulator.host.text import plural
from simulator.learning import Cache, Setup
from simulator.learning.model import is_described
from simulator.progress.live import PreparationView
from simulator.simulation.checks import Shortages, check


class Reading(NamedTuple):
    """Experiment file without mistakes.

    Attributes:
      document: the file as read.
      points: its simulations.
      cache: their data and models.
      shortages: simulations that are to be trained and do not fit into memory.
    """

    document: Document
    points: list[Point]
    cache: Cache
    shortages: list[Problem]


def read_file(
    file: Path,
    settings: Sequence[str] | None,
    variant: str | None,
    *,
    data: Literal["all", "uneven", "none"] = "all",
    train: bool = False,
    trains: bool = False,
    memory: float = 1.0,
) -> Reading:
    """Reads a file and reports everything that is wrong, before anything is simulated.

    Args:
      file: the experiment file.
      settings: those of the command line.
      variant: only this one.
      data: points whose data are read; a timeline depends on those of "uneven" shards.
      train: whether they could be trained here is looked at, as far as memory goes.
      trains: whether they are to be trained, which is a mistake where a model is only described.
      memory: the host's available memory, as a `Cache` takes it.

    Raises:
      ExperimentError: with everything that is wrong.
    """
    document = load_document(file, settings or ())
    begin_jax()
    with PreparationView(Console(stderr=True)) as view:
        cache = Cache(view, memory=memory)
        shortages = Shortages(cache)

        def mistakes(experiment: Experiment) -> list[Problem]:
            even = getattr(getattr(experiment, "data", None), "even", True)
            looked_at = data == "all" or (data == "uneven" and not even)
            found = check(experiment, cache, data=looked_at, memory=False, train=trains)
            if train and not found:
                shortages.look(experiment)
            return found

        points = expand(document, variant=variant, check=mistakes)
    return Reading(document, points, cache, shortages.problems())


def say_size(file: Path, reading: Reading, further: Iterable[str] = (), *, valid: bool = False) -> None:
    """Prints the number and the sizes of a file's simulations, with notes on its settings and further ones."""
    points = reading.points
    variants = {point.variant for point in points}
    sizes = sorted({Setup(point.experiment, reading.cache).costs.parameters for point in points})
    several = f"{sizes[0]:,} to " if len(sizes) > 1 else ""
    size = f"{several}{plural(sizes[-1], 'parameter')}"
    what = f"{plural(len(points), 'simulation')} of {plural(len(variants), 'variant')}, {size}"
    say(f"{file}: {'valid; ' if valid else ''}{what}")
    found = [note for point in points for note in notes(point.experiment)]
    for note in dict.fromkeys([*found, *further]):
        say(f"note: {note}")


def read_for_the_clock(
    file: Path, settings: Sequence[str] | None, variant: str | None, plugin: Sequence[str] | None
) -> Reading:
    """Reads a file of which the clock alone is asked, and says what it has; what is searched has its first value."""
    outlast_readers()
    use_plugins(plugin)
    reading = read_file(file, settings, variant, data="uneven")
    say_size(file, reading)
    for path, search in reading.points[0].searches.items():
        say(f"{path} is searched: these are timelines at {search.ends[0]}")
    return reading._replace(points=[dataclasses.replace(point, searches={}) for point in reading.points])


def few_windows(reading: Reading) -> Iterator[str]:
    """Yields a note for every point with fewer windows to evaluate on than requested."""
    for point in reading.points:
        if is_described(point.experiment):
            continue
        asked = point.experiment.evaluate.windows
        evaluation = Setup(point.experiment, reading.cache).evaluation
        of_all, of_shards = evaluation.windows, evaluation.known_shard_windows
        if of_all < asked:
            yield f"evaluate.windows = {asked}: there are {of_all:,}, which are evaluated"
        if of_shards is not None and min(of_shards) < min(asked, of_all):
            yield f"evaluate.windows = {asked}: shards have {', '.join(f'{own:,}' for own in of_shards)} of their own"
