"""What the simulations of a sweep can have from each other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from simulator.experiment import Experiment
from simulator.host.signals import Stopped
from simulator.learning import Workshop
from simulator.simulation.simulate import Simulation
from simulator.sweep.reuse_plan import KEPT_OF_HOST, Order, Reuse, order_of

_Event = TypeVar("_Event")


def sharing(
    experiments: Sequence[Experiment],
    labels: Sequence[str],
    workshop: Workshop,
    stop: Callable[[], bool] = lambda: False,
) -> Reuse:
    """Returns what simulations can have from each other: those with the same learning settings are compared.

    Args:
      experiments: what to simulate, in order.
      labels: what to call them in their records.
      workshop: theirs.
      stop: asked after every event of their timelines whether to stop.

    Raises:
      Stopped: it was asked to stop.
    """
    settings = [_settings(workshop, experiment, f"of {index} alone") for index, experiment in enumerate(experiments)]
    orders: list[Order | None] = [None] * len(experiments)
    for index, experiment in enumerate(experiments):
        if settings.count(settings[index]) > 1:
            orders[index] = _order(workshop, experiment, stop)
    return Reuse(labels, settings, orders, room=KEPT_OF_HOST * workshop.host_bytes)


def _settings(workshop: Workshop, experiment: Experiment, unknown: str) -> str:
    """Returns the learning settings, or that they are unknown: then the simulation itself says why it cannot begin."""
    try:
        return workshop.learning_settings(experiment)
    except Exception:
        return unknown


def _order(workshop: Workshop, experiment: Experiment, stop: Callable[[], bool]) -> Order | None:
    """Returns the order of an experiment's events, None where its simulation is going to fail, which says why."""
    try:
        return order_of(_until(stop, Simulation(experiment, workshop=workshop).timeline))
    except Stopped:
        raise
    except Exception:
        return None


def _until(stop: Callable[[], bool], events: Iterable[_Event]) -> Iterator[_Event]:
    for event in events:
        if stop():
            raise Stopped(0)
        yield event
