"""History of a real run: its events, as the simulation has them, and its record."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from machine_load import Used
from real_task import Task

from simulator.host.nodes import SERVER
from simulator.learning import as_used
from simulator.learning.model import tokens_per_step
from simulator.record import RunRecord, perplexity_of, summarize_faults, summarize_rounds
from simulator.simulation.holdings import Holdings
from simulator.simulation.provenance import made_with, parameters_hash
from simulator.simulation.recorder import Recorder
from simulator.simulation.trained import Trained
from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import Accepted, Answered, Dispatched, Evaluation, Event, Finished, Round, Update
from simulator.timeline.causal_hash import CausalHash

PARAMETERS_FILE = "parameters.npz"


class History(NamedTuple):
    """All that was noted in a run, times by the machine's monotonic clock.

    Attributes:
      zero_ns: when all workers were ready.
      served: events at the server.
      farewells: what each worker tells at the end.
      losses: of rounds, by their numbers here, and whether their offers were finite.
      evaluated: parameters of each evaluation.
      params: at the end.
      used: what the machine has used between the two.
    """

    zero_ns: int
    served: list[Event]
    farewells: Mapping[int, Mapping[str, Any]]
    losses: Mapping[int, tuple[float, bool]]
    evaluated: Sequence[Any]
    params: Any
    used: Used

    def write(self, task: Task) -> None:
        """Evaluates, and writes the record, and the parameters at the end beside it."""
        numbers, events = events_of(self)
        evaluate = task.setup.evaluation.evaluator
        losses = [float(evaluate(params)) for params in self.evaluated]
        of_rounds = {numbers[number]: loss for number, loss in self.losses.items() if number in numbers}
        record = _record(task, events, of_rounds, losses)
        replayed_losses = replayed(task, events)
        farewells = self.farewells.values()
        own_s = self.used.own_s + sum(each["cpu_s"] for each in farewells)
        steps = sum(each["steps"] for each in farewells)
        record.summary.update(
            parameters_hash=parameters_hash(self.params),
            replayed_loss=replayed_losses[-1],
            load={
                "busy_cores": self.used.busy_s / self.used.clock_s,
                "own_cores": own_s / self.used.clock_s,
                "late_steps": sum(each["late_steps"] for each in farewells) / steps,
                "seconds_per_step": sum(each["computed_s"] for each in farewells) / steps,
            },
            host_seconds=self.used.clock_s,
        )
        record.write(task.folder)
        np.savez(task.folder / PARAMETERS_FILE, *map(np.asarray, jax.tree.leaves(self.params)))


def events_of(history: History) -> tuple[dict[int, int], list[Event]]:
    """Returns rounds' numbers in order of dispatch by their numbers there, and all events in order, from time zero."""
    zero_ns = history.zero_ns
    told = [(worker, entry) for worker, farewell in history.farewells.items() for entry in farewell["log"]]
    events = [*history.served, *(_told(worker, entry) for worker, entry in told)]
    events.sort(key=lambda event: event.time_ns)  # stable: those of one process stay in their order
    end = next(place for place, event in enumerate(events) if isinstance(event, Finished))
    numbers = {-1: -1}
    rounds: dict[int, Round] = {}
    version, waiting, found = 0, set[int](), list[Event]()
    for event in events[: end + 1]:
        event = event._replace(time_ns=event.time_ns - zero_ns)
        match event:
            case Dispatched(round=round):
                number = numbers[round.id] = len(rounds)
                rounds[number] = round._replace(id=number, version=version if event.start == "own" else round.version)
                event = event._replace(round=rounds[number])
                waiting.discard(round.worker)
            case Update(arrivals=arrivals):
                version = event.version
                moved = tuple(_from_zero(each, zero_ns, rounds[numbers[each.round.id]]) for each in arrivals)
                event = event._replace(arrivals=moved)
                waiting |= {each.round.worker for each in arrivals}
            case Answered():
                event = event._replace(round=numbers[event.round])
            case Accepted():
                sent_ns, arrival_ns = event.sent_ns - zero_ns, event.arrival_ns - zero_ns
                event = event._replace(round=numbers[event.round], sent_ns=sent_ns, arrival_ns=arrival_ns)
            case Finished():
                event = event._replace(waiting=tuple(sorted(waiting)))
        found.append(event)
    return numbers, found


def _told(worker: int, entry: Sequence[Any]) -> Dispatched | Accepted:
    """Returns the event that a worker tells of."""
    match entry:
        case ["begin", time_ns, round, start]:
            return Dispatched(time_ns, Round(*round), start, SERVER if start == "copy" else worker)
        case ["accept", time_ns, round, after, sent_ns, arrival_ns, version]:
            return Accepted(time_ns, worker, round, 0, after, sent_ns, arrival_ns, 1, version)
    raise ValueError(f"worker {worker} tells of {entry!r}")


def _from_zero(arrival: Any, zero_ns: int, round: Round) -> Any:
    names = "ready_ns", "pull_start_ns", "compute_start_ns", "push_start_ns", "arrival_ns"
    times = {name: getattr(arrival, name) - zero_ns for name in names}
    return arrival._replace(round=round, **times)


def _record(
    task: Task, events: Sequence[Event], losses_of: Mapping[int, tuple[float, bool]], evaluations: Sequence[float]
) -> RunRecord:
    """Returns the record, as a simulation's is made; its seconds are those of the clock on the wall.

    Args:
      task: of the run.
      events: of it.
      losses_of: rounds by number, and whether their offers were finite.
      evaluations: losses, in order.
    """
    experiment, known = task.experiment, task.known
    recorder = Recorder(
        experiment.budget,
        known,
        tokens_per_step(experiment),
        None,
        shares=task.shares,
        waits=task.config.schedule.waits,
    )
    order, left, end_s = CausalHash(), iter(evaluations), 0.0
    for event in events:
        order.add([event])
        match event:
            case Update(arrivals=arrivals):
                losses, finite = zip(*(losses_of[arrival.round.id] for arrival in arrivals), strict=True)
                recorder.update(event, Trained(losses, finite, True))
            case Accepted() | Answered():
                recorder.exchange(event)
            case Evaluation():
                recorder.evaluation(event, next(left))
            case Finished():
                recorder.finish(event)
                end_s = event.time_ns / 1e9
    tables = (log.frame() for log in (recorder.rounds, recorder.evaluations, recorder.faults))
    rounds, curve, faults = tables
    updates, transfers = recorder.updates.frame(), recorder.transfers.frame()
    dataset, variant = task.setup.dataset, f"{experiment.variant or experiment.name}, real"  # beside its prediction
    summary = {
        "variant": variant,
        "seed": experiment.seed,
        "overrides": {},
        "final_perplexity": perplexity_of(evaluations[-1]),
        "final_loss": evaluations[-1],
        "best_loss": dataset.best_loss,
        **summarize_rounds(rounds, known.workers, end_s),
        "server_updates": recorder.server_updates,
        "bytes_sent": int(transfers["bytes"].sum()),
        **summarize_faults(rounds, faults, end_s),
        "tokens": recorder.tokens,
        "host_seconds": end_s,
        "tokens_per_host_second": recorder.tokens / end_s,
        "parameters": task.setup.costs.parameters,
        "message_shares": {"offers": list(task.shares.offers), "answers": list(task.shares.answers)},
        "causal_hash": order.hexdigest(),
        **made_with("serial", task.setup.loaded.content_hash, 1),
    }
    return RunRecord(as_used(experiment) | {"variant": variant}, summary, rounds, curve, faults, updates, transfers)


def replayed(task: Task, events: Sequence[Event]) -> list[float]:
    """Returns the losses of the evaluations that the simulation's own training finds, given the order of events.

    Raises:
      NewsError: an event uses a value that its node has not received.
    """
    learner, holdings, losses = TrainingLearner(task.setup, "serial", None), Holdings(), list[float]()
    for event in events:
        holdings.follow(event)
        match event:
            case Dispatched():
                learner.dispatch(event)
            case Update():
                learner.update(event)
            case Accepted() | Answered():
                learner.exchange(event)
            case Evaluation():
                losses.append(float(learner.evaluate()[0]))
    return losses
