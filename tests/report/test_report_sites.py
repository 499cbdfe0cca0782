"""Names and sites of workers in figures and tables, and that nothing is lost between sites."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from simulator.record import RecordError, RunRecord, labels_of
from simulator.report import ReportError, money, site_rich_table, site_table, trace_events, worker_rich_table
from simulator.report.grouping import group_records
from simulator.report.page import figures
from simulator.report.rows import node_names
from simulator.report.utilization import utilization_table
from simulator.report.worker_bins import worker_bins, worker_labels, workers_of
from tests.record.builders import build_record
from tests.verify.test_verify_sites import network, record_of

FOUR = build_record("a", local_steps=400)


def named(**devices: Any) -> RunRecord:
    return replace(FOUR, experiment=FOUR.experiment | {"cluster": {"devices": devices}})


@pytest.mark.parametrize(
    ("devices", "labels"),
    [
        ({}, ["worker 0", "worker 1", "worker 2", "worker 3"]),
        ({"names": ["H100", "T4", "T4", "A100"]}, ["H100", "T4 1", "T4 2", "A100"]),
        ({"names": {"H100": 1, "T4": 3}, "sites": "east"}, ["H100 in east", *(f"T4 {n} in east" for n in (1, 2, 3))]),
        (
            {"names": "H100", "sites": ["east", "west", "east", "north"]},
            ["H100 1 in east", "H100 in west", "H100 2 in east", "H100 in north"],
        ),
        (
            {"sites": {"east": 3, "west": 1}},
            ["worker 0 in east", "worker 1 in east", "worker 2 in east", "worker 3 in west"],
        ),
        (
            {"accelerators": [{"name": "T4", "count": 3, "site": "a"}, {"name": "L4", "site": "b"}]},
            ["T4 1 in a", "T4 2 in a", "T4 3 in a", "L4 in b"],
        ),
    ],
)
def test_a_worker_is_called_as_its_device_and_its_site(devices: dict[str, Any], labels: list[str]):
    record = named(**devices)
    assert labels_of(record.experiment, 4) == labels
    assert [label.partition(",")[0] for label in worker_labels(workers_of(record))] == labels
    names = node_names(record, [0, 1, 2, 3, -1])
    assert [names(node) for node in (0, 3, -1)] == [labels[0], labels[3], "server"]


def test_labels_of_other_workers_are_refused():
    with pytest.raises(RecordError, match="gives the names of 2 devices for 4 workers"):
        labels_of(named(names=["H100", "T4"]).experiment, 4)


def test_figures_and_tables_show_labels():
    record = named(names=["H100", "T4", "T4", "A100"], sites=["east", "west", "west", "east"])
    bins = worker_bins(group_records(record), "")
    assert bins.full_names == ["H100 in east", "T4 1 in west", "T4 2 in west", "A100 in east"]
    assert bins.labels[1] == "T4 1\nin west\n0.75 s"
    assert set(utilization_table(record)["place"]) == {"0", "1", "2", "all"}  # by which they are found
    assert "T4 2 in west" in figures.staleness_by_worker(group_records(record)[0])["traces"][2]["x"]
    threads = [event["args"]["name"] for event in trace_events(record) if event["name"] == "thread_name"]
    assert "T4 2 in west, 1.51 s/step" in threads
    text = io.StringIO()
    Console(file=text, width=140).print(worker_rich_table(record))
    assert "T4 2 in west" in text.getvalue()


def test_runs_with_other_names_show_numbers():
    bins = worker_bins(group_records([named(names="H100"), named(names="T4")], ["cluster.devices.names"]), "")
    assert bins.full_names == ["worker 0", "worker 1", "worker 2", "worker 3"]


@pytest.mark.parametrize("kind", ["server", "regions", "groups"])
def test_sites_together_have_sent_and_spent_what_the_run_has(kind: str):
    record = record_of(kind, ["a", "b", "c", "b", "a"], network())
    table = site_table(record).set_index("site")
    assert list(table.index) == ["a", "b", "c"]
    assert list(table["workers"]) == [2, 2, 1]
    assert table["bytes"].sum() == record.summary["bytes_sent"] == record.transfers["bytes"].sum()
    assert table["rounds"].sum() == len(record.rounds)
    assert table["money"].sum() == pytest.approx(money(record).total) == pytest.approx(record.summary["money"])
    covered = workers_of(record)["covered_s"].to_numpy()
    of_sites = [covered[[0, 4]].sum(), covered[[1, 3]].sum(), covered[2]]
    assert (table["utilization"] * of_sites).sum() / covered.sum() == pytest.approx(record.summary["utilization"])
    Console(file=io.StringIO()).print(site_rich_table(record))


def test_data_cost_what_the_way_between_their_sites_does():
    record = record_of("server", ["a", "b", "c"], network(server_site="c"))
    sent = record.transfers
    worker = sent["sender"].where(sent["sender"] >= 0, sent["receiver"])
    by_hand = [
        (sent["bytes"][worker == number].sum() * price) / 1e9 for number, price in ((0, 2.0), (1, 7.0), (2, 0.5))
    ]
    assert site_table(record)["data_money"].tolist() == pytest.approx(by_hand)
    assert money(record).parts(1e9)["data"] == pytest.approx(sum(by_hand))


def test_a_run_without_sites_has_no_table_of_them():
    with pytest.raises(ReportError, match=r"its devices have no sites: set cluster\.devices\.sites"):
        site_table(FOUR)
