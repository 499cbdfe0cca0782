"""The timeline against a literal transcription of the paper's task scheduling (Algorithm 2)."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import nanoseconds
from simulator.timeline import Asynchronous
from tests.timeline.algorithm_2 import Reference, algorithm_2
from tests.timeline.builders import cluster, events, starts, updates


def simulated(step_s: list[float], steps: list[int], tau_grace: float, t_max: int) -> Reference:
    history = events(cluster(step_s), synchronization=Asynchronous(tau_grace), steps=steps, budget_local_steps=t_max)
    return Reference(
        [
            (update.arrivals[0].arrival_ns, update.arrivals[0].round.worker, update.staleness[0], update.local_steps)
            for update in updates(history)
        ],
        [(nanoseconds(time_s), workers) for time_s, workers in starts(history)],
    )


# They tie often, and exactly.
step_times = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 0.1, 0.3, 0.58, 0.75, 1.51, 3.33]) | st.floats(0.01, 10.0)
graces = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, math.inf]) | st.floats(0.0, 20.0)


@settings(max_examples=400)
@given(
    workers=st.lists(st.tuples(step_times, st.integers(1, 6)), min_size=1, max_size=8),
    tau_grace=graces,
    t_max=st.integers(1, 300),
)
def test_arrivals_staleness_and_restarts_equal_the_pseudo_code(workers, tau_grace, t_max):
    step_s, steps = [own for own, _ in workers], [count for _, count in workers]
    expected = algorithm_2(step_s, steps, tau_grace, t_max)
    assert sum(steps[worker] for _, worker, _, _ in expected.arrivals) >= t_max
    assert simulated(step_s, steps, tau_grace, t_max) == expected


@settings(max_examples=100)
@given(
    workers=st.integers(2, 8),
    step_s=step_times,
    steps=st.lists(st.sampled_from([1, 2, 3, 4]), min_size=8, max_size=8),
    tau_grace=st.sampled_from([0.0, 0.5, math.inf]),
)
def test_ties_among_equal_devices_equal_the_pseudo_code(workers, step_s, steps, tau_grace):
    arguments = [step_s] * workers, steps[:workers], tau_grace, 100
    assert simulated(*arguments) == algorithm_2(*arguments)


def test_the_transcription_reacts_to_the_grace_period():
    by_grace = [algorithm_2([1.0, 1.5, 4.0], [1, 1, 1], grace_s, 30).starts for grace_s in (0.0, 0.5, 3.0)]
    assert by_grace[0] != by_grace[1] != by_grace[2] != by_grace[0]


def test_the_transcription_gives_the_first_arrivals_of_the_authors_toy():
    reference = algorithm_2([0.58, 0.75, 1.51, 3.33], [20] * 4, 0.5, 400)
    workers = [worker for _, worker, _, _ in reference.arrivals]
    assert workers == [0, 1, 0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 0, 1]
