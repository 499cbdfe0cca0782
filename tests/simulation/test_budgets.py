"""Budgets in tokens and in rounds: training stops where the timeline does."""

from typing import Any, ClassVar

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.record import RunRecord
from tests.experiments import tiny

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

CACHE = Cache()
CLOCK = ["round", "worker", "local_steps", "micro_batches", "update_s"]


def both(**changes: Any) -> tuple[RunRecord, RunRecord]:
    """A run that trains, and its timeline alone."""
    experiment = tiny(**changes)
    return simulate(experiment, cache=CACHE), simulate(experiment, cache=CACHE, trainer="null")


def limited(**budget: int) -> dict[str, Any]:
    return {"budget": {"local_steps": None} | budget, "evaluate": {"every_local_steps": None}}


def assert_same_end(trained: RunRecord, alone: RunRecord) -> None:
    assert trained.rounds[CLOCK].equals(alone.rounds[CLOCK])
    for name in ("simulated_seconds", "tokens", "server_updates", "causal_hash"):
        assert trained.summary[name] == alone.summary[name]
    assert np.isfinite(trained.evaluations["loss"]).all()


def test_tokens_end_training_with_the_update_that_reaches_them():
    trained, alone = both(**limited(tokens=1000))  # 5 steps of 4 * 8 tokens are 160 a round
    assert trained.summary["tokens"] == 7 * 160
    assert_same_end(trained, alone)


def test_tokens_of_all_micro_batches_count():
    section = {"inner": {"micro_batches": {"start": 2}}}
    trained, alone = both(**limited(tokens=1000), **section)
    assert trained.summary["tokens"] == 4 * 320
    assert_same_end(trained, alone)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}},
        {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}, "topology": {"kind": "groups"}},
    ],
    ids=["each arrival", "barrier", "pairs"],
)
def test_rounds_end_it_when_workers_have_had_so_many_on_average(changes: dict[str, Any]):
    alone = simulate(tiny(**limited(rounds=3), **changes), cache=CACHE, trainer="null")
    assert len(alone.rounds) == 12
    assert alone.summary["local_steps"] == 12 * 5


def test_a_round_of_a_model_in_fragments_is_over_when_each_was_offered():
    changes = {
        "model": {"layers": 2},
        "synchronization": {"kind": "barrier"},
        "outer": {"weight": 1.0},
        "schedule": {"fragments": 2},
        "inner": {"local_steps": 6},
    }
    alone = simulate(tiny(**limited(rounds=3), **changes), cache=CACHE, trainer="null")
    assert len(alone.rounds) == 2 * 12
    offers = alone.updates.groupby("fragment").size()
    assert offers.tolist() == [12, 12]


def test_progress_is_that_of_the_limit_that_comes_first():
    class Watch:
        fractions: ClassVar[list[float]] = []

        def pretrained(self, steps: int, of: int, loss: float) -> None:
            """Nothing is pretrained."""

        def advanced(self, progress: Any) -> None:
            self.fractions.append(progress.fraction)

    changes = limited(rounds=3, tokens=160 * 100)
    simulate(tiny(**changes), cache=CACHE, trainer="null", observer=Watch())
    assert Watch.fractions == pytest.approx([done / 12 for done in range(1, 13)])
