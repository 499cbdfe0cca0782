"""Money: every amount is worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from simulator.record import RunRecord, TransferLog
from simulator.report import ReportError, has_prices, money, money_table, perplexity_table, time_to_target
from tests.record.builders import build_record, fault_log, round_log, round_row

BASE = build_record("a", local_steps=400)
HOUR_S = 3600.0


def _record(cluster, *, rows=(), faults=(), workers=2, end_s=2 * HOUR_S, **changes):
    summary = BASE.summary | {"workers": workers, "simulated_seconds": end_s} | changes
    experiment = BASE.experiment | {"cluster": cluster}
    rounds = round_log([round_row(**row) for row in rows]).frame()
    return RunRecord(experiment, summary, rounds, BASE.evaluations, fault_log(faults).frame())


def _with_prices(record, price, **cluster):
    return replace(record, experiment=record.experiment | {"cluster": {"devices": {"price_per_hour": price}} | cluster})


@pytest.mark.parametrize(
    ("devices", "per_hour"),
    [
        ({"price_per_hour": 3.0}, 6.0),
        ({"price_per_hour": [1.0, 2.5]}, 3.5),
        ({"accelerators": [{"price_per_hour": 3.0, "count": 2}], "price_per_hour": None}, 6.0),
        ({"accelerators": [{"price_per_hour": 3.0, "count": 1}, {"price_per_hour": 0.5}]}, 3.5),
        ({"accelerators": [{"price_per_hour": 0.5, "each": 4}, {"price_per_hour": 1.0}]}, 3.0),  # two workers
    ],
)
def test_workers_cost_from_the_start_to_the_end(devices, per_hour):
    bill = money(_record({"devices": devices}))
    np.testing.assert_allclose(bill([0.0, 1800.0, 7200.0]), [0.0, per_hour / 2, 2 * per_hour])
    assert bill.total == pytest.approx(2 * per_hour)


def test_absent_workers_are_not_paid_unless_they_have_crashed():
    faults = [
        (0.0, 0, "late"),
        (1800.0, 0, "return"),  # half an hour unpaid
        (3600.0, 1, "crash"),
        (3600.0, 2, "preemption"),
        (4500.0, 2, "return"),  # a quarter of an hour unpaid
        (5400.0, 1, "return"),
        (5400.0, 2, "departure"),  # half an hour unpaid
    ]
    bill = money(_record({"devices": {"price_per_hour": [1.0, 10.0, 100.0]}}, faults=faults, workers=3))
    np.testing.assert_allclose(bill(1800.0), 110 / 2)
    np.testing.assert_allclose(bill(3600.0), 111 - 0.5)
    np.testing.assert_allclose(bill([4500.0, 5400.0]), [110.5 + 11 / 4, 110.5 + 11 / 4 + 111 / 4])
    np.testing.assert_allclose(bill.total, 2 * 1 - 0.5 + 2 * 10 + 1.25 * 100)


def test_a_worker_that_never_joins_costs_nothing():
    record = _record({"devices": {"price_per_hour": [1.0, 7.0]}}, faults=[(0.0, 1, "late")])
    assert money(record).total == pytest.approx(2)


def test_server_and_data_cost_too():
    rows = [
        {"round": 0, "arrival_s": 1000.0, "update_s": 1000.0, "bytes_down": 10**9, "bytes_up": 2 * 10**9},
        {"round": 1, "worker": 1, "arrival_s": 3000.0, "update_s": 3000.0, "bytes_down": 10**9, "bytes_up": 10**9},
    ]
    faults = [(2000.0, 1, "lost", {"bytes_down": 4 * 10**9, "bytes_up": 0})]
    network = {"price_per_gigabyte": 0.5, "up": {"price_per_gigabyte": 2.0}, "down": {"price_per_gigabyte": None}}
    record = _record({"network": network, "server_price_per_hour": 36.0}, rows=rows, faults=faults)
    bill = money(record)
    np.testing.assert_allclose(bill.parts([999.0, 1000.0, 2000.0, 3000.0])["data"], [0.0, 4.5, 6.5, 9.0])
    np.testing.assert_allclose(bill(100.0), 1.0)
    (row,) = money_table([record]).to_dict("records")
    assert (row["workers"], row["server"], row["data"]) == (0.0, pytest.approx(72.0), pytest.approx(9.0))
    assert row["money"] == row["money_low"] == row["money_high"] == pytest.approx(81.0)


def test_every_message_costs_its_way():
    """Offers and answers of a worker, between regions' servers, and between workers."""
    messages = [(0, -2, 10.0, 1e9), (-2, 0, 20.0, 2e9), (-2, -1, 30.0, 4e9), (-1, -2, 40.0, 8e9), (0, 1, 50.0, 16e9)]
    transfers = TransferLog()
    for sender, receiver, end_s, size in messages:
        transfers.append(
            sender=sender,
            receiver=receiver,
            fragment=0,
            round=-1,
            begin_s=0.0,
            end_s=end_s,
            used_s=end_s,
            version=0,
            messages=1,
            bytes=int(size),
        )
    network = {"up": {"price_per_gigabyte": 1.0}, "down": {"price_per_gigabyte": 100.0}}
    record = replace(_record({"network": network}), transfers=transfers.frame())
    paid = money(record).parts([5.0, 10.0, 20.0, 30.0, 40.0, 50.0])["data"]
    np.testing.assert_allclose(paid, np.cumsum([0, 1, 200, 4, 800, 16]))


def test_what_has_no_prices_costs_no_money():
    assert not has_prices(BASE)
    assert has_prices(_with_prices(BASE, 0.0))
    message = r"a: its experiment gives no prices, so it costs no money: set cluster.devices.price_per_hour"
    for draw in (lambda: money(BASE), lambda: perplexity_table([BASE], against="money"), lambda: money_table([BASE])):
        with pytest.raises(ReportError, match=message):
            draw()
    with pytest.raises(ReportError, match=r"a: cluster.devices gives 2 prices for 4 workers"):
        money(_with_prices(BASE, [1.0, 2.0]))


def test_currencies_are_not_mixed():
    records = [_with_prices(BASE, 1.0, currency=currency) for currency in ("USD", "EUR")]
    for table in (lambda: money_table(records), lambda: time_to_target(records, 7.0)):
        with pytest.raises(ReportError, match=r"prices are in EUR and USD: choose runs whose cluster.currency"):
            table()
    assert money(records[0]).currency == "USD"


def test_perplexity_against_money_is_that_of_the_evaluations():
    record = _with_prices(BASE, 1.0)
    table = perplexity_table([record], against="money")
    np.testing.assert_allclose(table["money"], record.evaluations["simulated_s"] * 4 / HOUR_S)
    np.testing.assert_allclose(table["perplexity"], record.evaluations["perplexity"])
