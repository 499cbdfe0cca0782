from typing import Any

import pytest
from experiment_files import experiment, mistakes, tree

ACCELERATORS = [{"name": "A100", "count": 2}, {"name": "T4"}]


def _accelerators(*prices: float | None, **devices: Any) -> dict[str, Any]:
    each = [
        accelerator | ({} if price is None else {"price_per_hour": price})
        for accelerator, price in zip(ACCELERATORS, prices, strict=True)
    ]
    return {"cluster": {"devices": {"accelerators": each, **devices}}}


@pytest.mark.parametrize(
    "devices",
    [
        {"seconds_per_step": [1, 2], "price_per_hour": 2.5},
        {"seconds_per_step": [1, 2], "price_per_hour": [2.5, 0]},
        {"seconds_per_step": 1, "workers": 3, "price_per_hour": [1, 2, 3]},
        {"relative_speed": [1, 2], "price_per_hour": [1, 2]},
        {"profile": "very", "workers": 3, "price_per_hour": [1, 2, 3]},
        {"distribution": {"kind": "uniform", "low": 1, "high": 2}, "workers": 2, "price_per_hour": [1, 2]},
        {"accelerators": ACCELERATORS, "price_per_hour": [1, 2, 3]},
        {"accelerators": [{"name": "A100", "price_per_hour": 3.67, "count": 2}]},
    ],
)
def test_every_form_of_devices_may_have_prices(devices: dict[str, Any]):
    read = experiment(cluster={"devices": devices})
    again = type(read).model_validate(read.model_dump(mode="json"))
    assert again == read


def test_nothing_has_a_price_unless_it_is_given():
    cluster = experiment().cluster
    assert (cluster.devices.price_per_hour, cluster.server_price_per_hour, cluster.currency) == (None, None, "")
    assert cluster.network.direction("up").price_per_gigabyte is None
    priced = experiment(cluster__network={"price_per_gigabyte": 0.1, "down": {"price_per_gigabyte": 0}})
    assert [priced.cluster.network.direction(which).price_per_gigabyte for which in ("down", "up")] == [0, 0.1]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (
            {"cluster": {"devices": {"seconds_per_step": [1, 2], "price_per_hour": [1, 2, 3]}}},
            ("cluster.devices.price_per_hour", "has 3 values for 2 workers: give one for all, or one for each"),
        ),
        ({"cluster__devices__price_per_hour": -1}, ("cluster.devices.price_per_hour", "must be at least 0")),
        ({"cluster__server_price_per_hour": "2 USD"}, ("cluster.server_price_per_hour", "expected a number")),
        (
            _accelerators(3, 1, price_per_hour=2),
            (
                "cluster.devices.price_per_hour",
                "is given here and for each of the accelerators: leave one of them out",
            ),
        ),
        (
            _accelerators(3, None),
            (
                "cluster.devices.accelerators.1.price_per_hour",
                "is missing, and other accelerators have one: give all a price (0 is free)",
            ),
        ),
    ],
)
def test_prices_that_do_not_fit_are_refused(settings: dict[str, Any], found: tuple[str, str]):
    assert mistakes(tree(**settings)) == [found]
