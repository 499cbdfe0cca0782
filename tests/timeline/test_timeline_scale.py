"""Cost of the clock on the host."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import simpy

from simulator.timeline import Asynchronous, Barrier, Proportional
from tests.timeline.builders import arrivals, cluster, events, link, rounds, updates


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Delays of all timeouts that are scheduled."""
    delays: list[int] = []
    original = simpy.events.Timeout.__init__

    def noted(self: Any, env: simpy.Environment, delay: int, value: Any = None) -> None:
        delays.append(delay)
        original(self, env, delay, value)

    monkeypatch.setattr(simpy.events.Timeout, "__init__", noted)
    return delays


@pytest.mark.parametrize("local_steps", [1, 1000])
def test_every_phase_is_one_timeout_however_many_local_steps_it_has(timeouts: list[int], local_steps: int):
    model = cluster([0.1, 0.2, 0.3, 0.4], down=link(4, 0.5), up=link(4, 0.25))
    events(model, synchronization=Barrier(), steps=[local_steps] * 4, budget_updates=10)
    pulls, computations, pushes = [5] * 4, [local_steps * own for own in (1, 2, 3, 4)], [2.5] * 4
    assert sorted(timeouts) == sorted(10**8 * tenths for tenths in 10 * (pulls + computations + pushes))


def test_the_timeline_loads_without_jax():
    script = "import simulator.timeline, sys; print(sorted({'jax', 'simpy', 'flax', 'optax'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['simpy']"


@pytest.mark.parametrize("shared_s", [None, 0.001])
def test_a_thousand_workers_lose_and_invent_no_local_steps(shared_s: float | None):
    workers = 1000
    step_s = np.random.default_rng(0).lognormal(0.0, 0.5, workers)
    transfers = link(workers, 0.05, 0.01, shared_s)
    history = events(
        cluster(step_s, jitter=0.1, down=transfers, up=transfers),
        synchronization=Asynchronous(0.5),
        shard_choice=Proportional(np.ones(4, np.int64)),
        steps=[20] * workers,
        shards=4,
        budget_local_steps=20 * 3 * workers,
    )
    arrived = arrivals(history)
    assert len(arrived) == 3 * workers == len({arrival.round.id for arrival in arrived})
    assert history[-1].local_steps == updates(history)[-1].local_steps == 20 * 3 * workers
    ends = [max(task.first_step for task in rounds(history) if task.shard == shard) + 20 for shard in range(4)]
    assert sum(ends) == 20 * len(rounds(history))
    assert max(ends) - min(ends) <= 20
