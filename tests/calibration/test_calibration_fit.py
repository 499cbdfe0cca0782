"""Clusters with known values are measured and fitted: the values come back, as exactly as theory allows."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from simulator.calibration import Observations, calibrate, fragment
from simulator.calibration.fit import agreed, fit_link
from simulator.calibration.robust import line, spread, trend
from simulator.calibration.slowdowns import usual
from simulator.cluster import seconds
from simulator.experiment.schema.cluster import Cluster
from tests.calibration.worlds import measured, model_of, noisy

STEP_S = [0.5, 0.5, 1.0, 2.0]
SIGMA, FACTOR, BETWEEN_S, DURATION_S = 0.1, 2.5, 300.0, 90.0
KNOWN: dict[str, Any] = {
    "devices": {"seconds_per_step": STEP_S, "jitter": SIGMA},
    "network": {"latency": "80ms", "bandwidth": "8Mbit/s"},
    "faults": {
        "slowdowns": {"time_between": f"{BETWEEN_S}s", "duration": f"{DURATION_S}s", "factor": FACTOR},
    },
}
HOURS = 8


@pytest.fixture(scope="module")
def known() -> Observations:
    return measured(KNOWN, HOURS * 3600)


def episodes_of(section: dict[str, Any], length_s: float) -> list[tuple[float, float]]:
    """Start and length of the slow-downs that were there, in seconds."""
    model = model_of(section)
    assert model.faults is not None
    found = []
    for worker in range(model.workers):
        for each in itertools.takewhile(lambda each: each.end_ns < 1e9 * length_s, model.faults.slowdowns(worker)):
            found.append((seconds(each.start_ns), seconds(each.end_ns - each.start_ns)))
    return found


def test_step_times_and_jitter_come_back_within_four_standard_errors(known: Observations):
    found = calibrate(known)
    for worker, (step_s, fit) in enumerate(zip(STEP_S, found.steps, strict=True)):
        assert fit.rounds > 300
        error = math.sqrt(math.pi / 2) * SIGMA / math.sqrt(fit.rounds)  # of a median, relative
        assert fit.error == pytest.approx(error, rel=0.1)
        assert found.seconds_per_step(worker) == pytest.approx(step_s, rel=4 * error)
        assert fit.median_s == pytest.approx(step_s * math.exp(-(SIGMA**2) / 2), rel=4 * error)
        assert not fit.drifts
    rounds = sum(fit.rounds for fit in found.steps)
    assert found.jitter == pytest.approx(SIGMA, rel=4 / math.sqrt(2 * rounds))


def test_slow_downs_come_back(known: Observations):
    """The mean of exponential times has the standard error mean / sqrt(episodes)."""
    found, there = calibrate(known).slowdowns, episodes_of(KNOWN, HOURS * 3600)
    assert found is not None
    assert found.workers is None
    assert found.factor == pytest.approx(FACTOR, rel=0.03)  # 0.1 sqrt(pi / 2) / sqrt(500 rounds) is 0.6 %
    error = 4 / math.sqrt(len(there))
    assert found.duration_s == pytest.approx(DURATION_S, rel=error)
    assert found.time_between_s == pytest.approx(BETWEEN_S, rel=error)
    lengths = [length for _, length in there]
    assert found.duration_s == pytest.approx(np.mean(lengths), rel=0.1)  # as they happened to be
    assert 0.7 * len(there) < len(found.episodes) <= 1.02 * len(there)


def test_links_come_back_exactly(known: Observations):
    found = calibrate(known)
    assert set(found.links) == {"down", "up"}
    for link in (link for links in found.links.values() for link in links.values()):
        assert link.told_apart
        assert link.latency_s == pytest.approx(0.08, rel=1e-6)
        assert link.second_per_byte == pytest.approx(1e-6, rel=1e-6)
        assert (link.left, link.waited) == (pytest.approx(0, abs=1e-12), 0)


def test_what_is_written_is_the_cluster(known: Observations):
    text = fragment(calibrate(known))
    section = Cluster.model_validate(yaml.safe_load(text)["cluster"])
    assert section.devices.jitter == pytest.approx(SIGMA, abs=0.005)
    assert section.network.latency == pytest.approx(0.08)
    assert section.network.bandwidth == pytest.approx(1e6)
    assert section.network.down.bandwidth is None
    assert isinstance(section.devices.seconds_per_step, tuple)  # type: ignore[union-attr]
    assert section.faults is not None
    assert section.faults.slowdowns is not None
    assert text.startswith("# Fitted by tardigrad calibrate on ")
    assert "# Slow-downs: " in text


def test_a_calm_cluster_comes_back_to_the_digit():
    calm = {"devices": {"seconds_per_step": 0.75, "workers": 3}, "network": {"up": {"bandwidth": "2Mbit/s"}}}
    found = calibrate(measured(calm, 600))
    assert (found.jitter, found.slowdowns, found.episodes, found.residuals) == (0, None, (), ())
    written = yaml.safe_load(fragment(found))["cluster"]
    assert written["devices"] == {"seconds_per_step": 0.75, "workers": 3}
    assert written["network"]["up"] == {"latency": "0.0s", "bandwidth": "2.0Mbit/s"}
    by_worker = yaml.safe_load(fragment(found, "worker"))["cluster"]
    assert by_worker["devices"] == {"seconds_per_step": [0.75] * 3}
    assert by_worker["network"]["up"]["bandwidth"] == ["2.0Mbit/s"] * 3


def test_workers_with_links_of_their_own_have_lists():
    unlike = {
        "devices": {"seconds_per_step": [1.0, 1.0]},
        "network": {"latency": ["10ms", "60ms"], "bandwidth": ["10Mbit/s", "4Mbit/s"]},
    }
    written = yaml.safe_load(fragment(calibrate(measured(unlike, 600))))["cluster"]
    assert written["devices"] == {"seconds_per_step": 1.0, "workers": 2}
    for direction in ("down", "up"):
        assert written["network"][direction] == {
            "latency": ["0.01s", "0.06s"],
            "bandwidth": ["10.0Mbit/s", "4.0Mbit/s"],
        }


def test_noise_on_transfers_moves_the_line_by_no_more_than_its_errors():
    """Noise |N(0, s)| has the median 0.674 s, which is latency; what is left has a spread of 0.6 s or so."""
    quiet = {"devices": {"seconds_per_step": [1.0]}, "network": {"latency": "50ms", "bandwidth": "8Mbit/s"}}
    found = calibrate(noisy(measured(quiet, 6000), 0.02))
    link = found.links["up"][0]
    assert 400 < link.transfers < 600
    assert link.second_per_byte == pytest.approx(1e-6, abs=4 * link.second_per_byte_error)
    assert link.latency_s == pytest.approx(0.05 + 0.674 * 0.02, abs=4 * link.latency_error)
    assert link.latency_error < 0.0015
    assert 0 < link.left < 0.01


def test_transfers_that_wait_for_others_hardly_move_the_line():
    sizes = np.tile([1e6, 3e6], 100)
    waits = np.where(np.arange(200) % 5 == 0, 30.0, 0.0)
    link = fit_link(sizes, 0.2 + sizes * 1e-6 + waits)
    assert (link.second_per_byte, link.latency_s) == (pytest.approx(1e-6), pytest.approx(0.2))
    assert link.waited == 0.2


def test_messages_of_one_size_have_no_latency_of_their_own():
    link = fit_link(np.full(9, 5e5), np.full(9, 0.6))
    assert (link.told_apart, link.latency_s, link.second_per_byte) == (False, 0, pytest.approx(1.2e-6))


def test_sizes_that_do_not_matter_leave_latency_alone():
    random = np.random.default_rng(3)
    link = fit_link(random.uniform(1, 1000, 300), 0.1 + 1e-4 * random.standard_normal(300))
    assert (link.told_apart, link.second_per_byte) == (True, 0)
    assert link.latency_s == pytest.approx(0.1, rel=1e-3)


def rounds_of(durations_s: list[float], steps: int = 10) -> Observations:
    """One worker whose rounds follow each other."""
    end_s = np.cumsum(durations_s)
    rounds = pd.DataFrame(
        {
            "source": 0,
            "worker": 0,
            "start_s": end_s - durations_s,
            "end_s": end_s,
            "seconds": durations_s,
            "steps": steps,
        }
    )
    empty = pd.DataFrame({name: [] for name in ("source", "worker", "direction", "start_s", "seconds", "bytes")})
    return Observations(("rounds",), ("0",), rounds, empty)


def test_an_episode_worked_out_by_hand():
    """Steps take three times as long from 25 s to 85 s: rounds of 10 s end at 20, 40, 70 and 90."""
    found = calibrate(rounds_of([10.0] * 2 + [20.0, 30.0, 20.0] + [10.0] * 30))
    [episode] = found.episodes
    assert (episode.worker, episode.start_s, episode.length_s) == (0, pytest.approx(25), pytest.approx(60))
    assert found.slowdowns is None  # of one episode there is no rate
    assert "1 episode, too few for a rate" in fragment(found)


def test_the_rate_of_slow_downs_worked_out_by_hand():
    """Four episodes of 60 s in 1,440 s, of which 1,200 are as usual; without jitter 5 % of a round is seen."""
    found = calibrate(rounds_of(([10.0] * 23 + [20.0, 30.0, 20.0]) * 4 + [10.0] * 24)).slowdowns
    assert found is not None
    assert (found.factor, found.duration_s) == (pytest.approx(3), pytest.approx(60, rel=0.02))
    assert found.shortest_s == pytest.approx(10 * 0.05 / (2 / 3))
    assert found.time_between_s == pytest.approx(1200 / 4, rel=0.02)


def test_drift_is_told_where_it_is_more_than_noise():
    random = np.random.default_rng(0)
    noise = np.exp(0.02 * random.standard_normal(400))
    steady, warming = 10 * noise, 10 * noise * np.exp(0.1 * np.arange(400) * 10 / 3600)  # by 10 % an hour
    [fit] = calibrate(rounds_of(steady.tolist())).steps
    assert not fit.drifts
    found = calibrate(rounds_of(warming.tolist()))
    assert found.steps[0].drifts
    assert found.steps[0].drift == pytest.approx(0.1, abs=4 * 0.1 / found.steps[0].drift_ratio)
    assert found.jitter == pytest.approx(0.02, rel=0.15)
    assert "# Drift that is more than noise, and that no setting has (replay a trace): worker 0 by +" in fragment(found)


@pytest.mark.parametrize("rounds", [6, 50])
def test_noise_alone_drifts_in_one_of_370_workers(rounds: int):
    random = np.random.default_rng(1)
    ratios = [trend(np.arange(float(rounds)), random.standard_normal(rounds))[1] for _ in range(2000)]
    assert sum(abs(ratio) > 3 for ratio in ratios) <= 5.4 + 4 * math.sqrt(5.4)
    assert np.std(ratios) == pytest.approx(1, abs=4 / math.sqrt(2 * 2000))


def test_rounds_that_are_alike_in_succession_are_told():
    random, x = np.random.default_rng(2), 0.0
    durations = []
    for _ in range(500):
        x = 0.8 * x + 0.02 * random.standard_normal()
        durations.append(10 * math.exp(x))
    found = calibrate(rounds_of(durations))
    assert found.correlation == pytest.approx(0.8, abs=4 * math.sqrt((1 - 0.8**2) / 500))
    assert "successive rounds of a worker are alike" in fragment(found)
    assert math.isnan(calibrate(rounds_of((10 * np.exp(0.02 * random.standard_normal(500))).tolist())).correlation)


def test_the_share_that_is_left_and_the_largest_factors():
    """Two kinds of rounds of one worker, 10 s and 10.2 s: nothing but the median is known of them."""
    found = calibrate(rounds_of([10.0, 10.2] * 20 + [10.0]))
    assert found.left > 0.9
    assert [residual.factor for residual in found.residuals] == [pytest.approx(1.02)] * 5
    later = found.observations.rounds.assign(start_s=lambda rounds: rounds["start_s"] + 1e9)
    again = calibrate(found.observations._replace(rounds=later)).residuals
    assert [each.start_s for each in again] == pytest.approx([each.start_s for each in found.residuals], abs=1e-6)


def test_values_that_agree_within_noise():
    assert agreed([1.0, 1.001, 0.9995], [0, 0, 0]) == 1.0
    assert agreed([1.0, 1.01], [0, 0]) is None
    assert agreed([1.0, 1.01], [0.002, 0.002]) == pytest.approx(1.005)
    assert agreed([1.0, 1.02], [0.002, 0.002]) is None
    assert agreed([3.0], [0.0]) == 3.0


def test_robust_statistics():
    random = np.random.default_rng(4)
    normal = random.standard_normal(4000)
    assert spread(np.append(normal, np.full(400, 50.0))) == pytest.approx(1, abs=0.2)
    assert spread(normal) == pytest.approx(1, abs=4 * 1.17 / math.sqrt(4000))
    assert line(np.ones(5), np.arange(5.0)) is None
    found = line(np.arange(5.0), np.array([1.0, 3, 5, 7, 70]))  # six of ten pairs have the slope 2
    assert found is not None
    assert (found.slope, found.intercept) == (2, 1)
    assert line(np.append(np.zeros(2000), 1.0), np.append(np.full(2000, 2.0), 5.0)) is not None
    median, slow = usual(np.log([1.0, 1, 1, 2, 1, 3, 1]), 0.0)
    assert (median, slow.tolist()) == (0, [False, False, False, True, False, True, False])
