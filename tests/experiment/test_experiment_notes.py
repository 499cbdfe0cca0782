"""Notes on settings that have no effect, or another one than may be thought."""

from typing import Any

import pytest
from experiment_files import experiment

from simulator.experiment.settings_without_effect import notes

FULL = "decides time, bytes and cost; what is learned is as if every number were sent in full"
FAST = {"bandwidth": "1Gbit/s"}


def network(**settings: Any) -> dict[str, Any]:
    return {"cluster__network": FAST | settings}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        (network(bytes_per_parameter=0.5), [f"cluster.network.bytes_per_parameter = 0.5: {FULL}"]),
        (network(bytes_per_parameter=8), []),
        (network(up={"bytes_per_parameter": 2}), [f"cluster.network.up.bytes_per_parameter = 2.0: {FULL}"]),
        (
            network(bytes_per_parameter=2, message_size="1MB"),
            ["cluster.network.bytes_per_parameter = 2.0: has no effect: message_size says what is sent"],
        ),
        (
            network(message_size="1MB", down={"bytes_per_parameter": 2}),
            ["cluster.network.down.bytes_per_parameter = 2.0: has no effect: message_size says what is sent"],
        ),
        (network(up={"message_size": "1MB"}, bytes_per_parameter=8), []),  # which is that of the way down
        (
            {"cluster__network": {"efficiency": 0.5}},
            ["cluster.network.efficiency = 0.5: has no effect: the bandwidth is unlimited"],
        ),
        ({"cluster__network": {"efficiency": 0.5, "up": {"bandwidth": "1MB/s"}}}, []),
        ({"cluster__currency": "EUR"}, ["cluster.currency = 'EUR': has no effect: nothing has a price"]),
        ({"cluster__currency": "EUR", "cluster__server_price_per_hour": 1}, []),
        ({"cluster__currency": "EUR", "cluster__network": {"up": {"price_per_gigabyte": 1}}}, []),
        (
            {"inner__optimizer": "sgd", "inner__state": "reset"},
            ["inner.state = 'reset': has no effect: sgd without momentum has no state"],
        ),
        ({"inner__optimizer": "sgd", "inner__state": "reset", "inner__arguments": {"momentum": 0.9}}, []),
        ({"inner__state": "reset"}, []),
        (
            {"inner__state": "reset", "cluster__faults": {"inner_state": "keep"}},
            ["cluster.faults.inner_state = 'keep': has no effect: workers keep no inner optimizer state"],
        ),
        (
            {"pretrain": {"learning_rate": 0.1, "warmup_steps": 5}},
            [
                "pretrain.learning_rate = 0.1: has no effect: pretrain.steps is 0",
                "pretrain.warmup_steps = 5: has no effect: pretrain.steps is 0",
            ],
        ),
        ({"pretrain": {"steps": 10, "learning_rate": 0.1, "warmup_steps": 5}}, []),
        (
            {"cluster__devices": {"seconds_per_step": [1e-12, 2e-9]}, "inner__local_steps": 5},
            [
                "cluster.devices.seconds_per_step = 1e-12: rounds of 5e-12 s are rounded to whole nanoseconds, "
                "at least one: unequal workers may become equal"
            ],
        ),
        ({"cluster__devices": {"seconds_per_step": [1e-6, 2e-6]}}, []),
        (
            {"schedule": {"composition": "by_size"}},
            ["schedule.composition = 'by_size': has no effect: the model is one fragment"],
        ),
        (
            {"evaluate": {"per_shard": True}},
            ["evaluate.per_shard = True: tells nothing new: shards are alike, and each has the loss of all"],
        ),
    ],
    ids=str,
)
def test_what_is_said_of_settings(settings: dict[str, Any], expected: list[str]):
    assert list(notes(experiment(**settings))) == expected
