"""Parts that the commands share: arguments, printing, and reading an experiment file."""

import contextlib
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn

import typer

from simulator.host.text import plural, visible

if TYPE_CHECKING:
    from simulator.cluster import Length
    from simulator.experiment import Document, Experiment, Point, Problem
    from simulator.learning import Cache

File = Annotated[Path, typer.Argument(help="experiment file", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Argument(help="settings that win over the file, as key.path=value", show_default=False)
]
Variant = Annotated[str | None, typer.Option(help="only this variant of the file", show_default=False)]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        help="runs this Python file or module first: it can register policies and optimizers; use code that you trust",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(help="output folder; runs/NAME when absent", show_default=False)]

EXIT_BROKEN = 1
EXIT_BAD_INPUT = 2

LookAt = Literal["all", "uneven", "none"]
"""Whose data are looked at; a timeline depends on those of uneven shards."""


def say(text: str) -> None:
    """Prints a line, with control characters escaped."""
    sys.stdout.write(f"{visible(text)}\n")


def note(text: str) -> None:
    """Prints a note on the results to standard error, if any."""
    if text:
        sys.stderr.write(f"tardigrad: note: {visible(text)}\n")


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with a message on standard error."""
    sys.stderr.write(f"tardigrad: {visible(message)}\n")
    sys.exit(code)


def use_plugins(names: Sequence[str] | None) -> None:
    """Runs the plugins that `--plugin` names."""
    if names:
        from simulator.experiment.plugins import import_plugins

        begin_jax()
        import_plugins(names)


@functools.cache
def begin_jax() -> None:
    """Makes JAX choose its platform, and prints it where a driver is missing.

    Raises:
      SettingError: it cannot.
    """
    from simulator.host.platforms import check_platform, cuda_is_avoided

    platform = check_platform()
    if cuda_is_avoided():
        sys.stderr.write(f"tardigrad: no NVIDIA driver was found: JAX computes on the {platform.upper()}\n")


def read_points(
    file: Path,
    settings: Sequence[str] | None,
    variant: str | None,
    *,
    data: LookAt = "all",
    train: bool = False,
    memory: float = 1.0,
) -> "tuple[Document, list[Point], Cache]":
    """Reads a file and reports everything that is wrong, with the data too if asked, before anything is simulated.

    Args:
      file: the experiment file.
      settings: those of the command line.
      variant: only this one.
      data: points whose data are read: "all", those with "uneven" shards, or "none".
      train: whether the points are to be trained: then a lack of memory is a mistake too.
      memory: the host's available memory, as a `Cache` takes it.

    Raises:
      ExperimentError: with everything that is wrong.
    """
    from simulator.experiment import ExperimentError, expand, load_document

    document = load_document(file, settings or ())
    with _looking(data, train=train, memory=memory) as look:
        points = expand(document, variant=variant, check=look.problems)
    shortages = look.shortages.problems()
    if shortages:
        raise ExperimentError(
            document.problem(tuple(each.key.split(".")), each.message, each.value) for each in shortages
        )
    return document, points, look.cache


def say_what(
    file: Path,
    points: "Sequence[Point]",
    parameters: Iterable[int],
    further: Iterable[str] = (),
    *,
    valid: bool = False,
) -> None:
    """Prints the number and the sizes of a file's simulations, and notes on its settings.

    Args:
      file: the experiment file.
      points: its simulations.
      parameters: number of parameters of each model.
      further: further notes.
      valid: whether to say that nothing is wrong.
    """
    from simulator.experiment.notes import notes

    variants = dict.fromkeys(point.variant for point in points)
    sizes = sorted({*parameters})
    several = f"{sizes[0]:,} to " if len(sizes) > 1 else ""
    size = f"{several}{plural(sizes[-1], 'parameter')}"
    what = f"{plural(len(points), 'simulation')} of {plural(len(variants), 'variant')}, {size}"
    say(f"{file}: {'valid; ' if valid else ''}{what}")
    found = [note for point in points for note in notes(point.experiment)]
    for note in dict.fromkeys([*found, *further]):
        say(f"note: {note}")


def few_windows(points: "Iterable[Point]", cache: "Cache") -> Iterator[str]:
    """Yields a note for every point with fewer windows to evaluate on than requested."""
    from simulator.learning import Setup

    for point in points:
        asked = point.experiment.evaluate.windows
        of_all, of_shards = Setup(point.experiment, cache).evaluated_windows
        if of_all < asked:
            yield f"evaluate.windows = {asked}: there are {of_all:,}, which are evaluated"
        if of_shards is not None and min(of_shards) < min(asked, of_all):
            yield f"evaluate.windows = {asked}: shards have {', '.join(f'{own:,}' for own in of_shards)} of their own"


class Checked(NamedTuple):
    """An experiment file without mistakes.

    Attributes:
      document: the file as read.
      points: its simulations.
      parameters: number of parameters of each one's model.
      shortages: simulations that do not fit into memory.
      long: simulations that may take very long, with their lengths.
      few: notes on points with fewer windows to evaluate on than requested; none where memory is short.
    """

    document: "Document"
    points: "list[Point]"
    parameters: list[int]
    shortages: "list[Problem]"
    long: "list[tuple[Point, Length]]"
    few: list[str]


def check_points(file: Path, settings: Sequence[str] | None, variant: str | None, *, data: bool) -> Checked:
    """Checks a file like `read_points` without simulating it: a lack of memory here is no mistake."""
    from simulator.cluster import length_at_most
    from simulator.experiment import expand, load_document
    from simulator.learning import Setup
    from simulator.simulation.checks import cluster_of

    document = load_document(file, settings or ())
    with _looking("all" if data else "none", train=data) as look:
        points = expand(document, variant=variant, check=look.problems)
    costs = [Setup(point.experiment, look.cache).costs for point in points]
    lengths = [
        (point, length_at_most(point.experiment, cluster_of(point.experiment, cost)))
        for point, cost in zip(points, costs, strict=True)
    ]
    long, shortages = [each for each in lengths if each[1].is_long], look.shortages.problems()
    few = list(few_windows(points, look.cache)) if data and not shortages else []
    return Checked(document, points, [cost.parameters for cost in costs], shortages, long, few)


class _Look:
    """Finds mistakes of experiments, and simulations that do not fit into memory."""

    def __init__(self, data: LookAt, cache: "Cache", *, train: bool):
        from simulator.simulation.checks import Shortages

        self._data, self.cache, self._train = data, cache, train
        self.shortages = Shortages(cache)

    def problems(self, experiment: "Experiment") -> "list[Problem]":
        """Returns an experiment's mistakes; if there are none, collects a shortage of memory."""
        from simulator.simulation.checks import check

        even = getattr(getattr(experiment, "data", None), "even", True)
        data = self._data == "all" or (self._data == "uneven" and not even)
        found = check(experiment, self.cache, data=data, memory=False)
        if self._train and not found:
            self.shortages.look(experiment)
        return found


@contextlib.contextmanager
def _looking(data: LookAt, *, train: bool, memory: float = 1.0) -> "Iterator[_Look]":
    """Yields a function that finds every mistake of an experiment; the preparation of data is shown meanwhile."""
    begin_jax()
    from rich.console import Console

    from simulator.learning import Cache
    from simulator.progress.live import PreparationView

    with PreparationView(Console(stderr=True)) as view:
        yield _Look(data, Cache(view, memory=memory), train=train)
