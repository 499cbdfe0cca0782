"""Messages in the background and the servers and meetings that they are for, in spans, figures, pages and traces."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator import Cache, simulate
from simulator.record import TransferLog, UpdateLog, worker_table
from simulator.report import timeline, timeline_table, trace_events, utilization_table
from simulator.report.page import figures
from simulator.report.rows import lanes_of, nodes_of, rows_of
from simulator.report.spans import ABSENT, ANSWER, LOST, MEETING, MESSAGES, OFFER, SPANS, UPDATE, readable_s, spans_of
from simulator.report.worker_bins import workers_of
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.record.builders import round_log, round_row
from tests.report.exchange_records import overlapping_run, peers_run, regional_run
from tests.report.test_report_trace import as_perfetto_imports, check_format

NETWORK = {"latency": "200ms", "bandwidth": "200B/s"}
BARRIER = {"synchronization": {"kind": "barrier"}}
METHODS: dict[str, dict[str, Any]] = {
    "overlap": {"schedule": {"overlap": 2}, **BARRIER},
    "fragments": {
        "schedule": {"fragments": 3, "overlap": 4, "composition": "by_size"},
        "merge": {"kind": "lerp", "mix": 0.5},
    },
    "by the clock": {"schedule": {"seconds": "6s"}, **BARRIER},
    "regions": {
        "topology": {
            "kind": "regions",
            "regions": 2,
            "latency": "1s",
            "outer": {"optimizer": "sgd", "learning_rate": 1.0},
        }
    },
    "pairs": {
        "topology": {"kind": "groups"},
        "offer": {"weights": True},
        "outer": {"optimizer": "noloco", "learning_rate": 0.7, "momentum": 0.5, "weight": 1.0},
        **BARRIER,
    },
    "faults": {
        "schedule": {"fragments": 2, "overlap": 3, "composition": "by_size"},
        "cluster": {
            "faults": {
                "crashes": {"time_between": "40s", "repair": "5s", "in_flight": "delivered"},
                "message_loss": {"probability": 0.1, "timeout": "1s", "attempts": 2},
                "slowdowns": {"time_between": "1min", "duration": "10s", "factor": 2.5},
            }
        },
    },
}


@pytest.fixture(scope="module", params=METHODS)
def simulated(request):
    experiment = tiny(**CLASSIFIER | METHODS[request.param])
    cluster = experiment.cluster.model_dump(exclude_unset=True) | {"network": NETWORK}
    changes = CLASSIFIER | METHODS[request.param] | {"cluster": cluster}
    return simulate(tiny(**changes), trainer="null", cache=Cache())


def rows(table, *names):
    return list(table[list(names)].itertuples(index=False, name=None))


def bars(figure, label):
    """Bars of a figure as (middle of the row, first, last)."""
    (collection,) = [each for each in figure.axes[0].collections if each.get_label() == label]
    corners = [path.vertices[:4] for path in collection.get_paths()]
    return [(float(c[:, 1].mean().round(6)), float(c[:, 0].min()), float(c[:, 0].max())) for c in corners]


def marks(figure, label):
    """Upright lines of a figure as (time, middle)."""
    found = [each for each in figure.axes[0].collections if each.get_label() == label]
    return [(float(line[0, 0]), float(line[:, 1].mean())) for each in found for line in each.get_segments()]


# Spans.


def test_a_worker_that_goes_on_waits_computes_and_never_pushes():
    table = spans_of(overlapping_run())
    own = table[table["what"].isin((*SPANS, LOST))]
    assert rows(own, "worker", "what", "first_s", "last_s", "row") == [
        (0, "pull", 0.0, 2.0, 0),
        (0, "compute", 2.0, 12.0, 0),
        (0, "compute", 12.0, 16.0, 1),
        (0, "wait", 16.0, 20.0, 1),
        (0, "compute", 20.0, 26.0, 1),
        (0, "wait", 26.0, 31.0, 2),
        (0, "pull", 31.0, 33.0, 2),
        (0, "compute", 33.0, 43.0, 2),
    ]
    assert own[["fragment", "sender", "receiver"]].isna().all(axis=None)


def test_messages_in_the_background_are_offers_and_answers_and_no_copy():
    table = spans_of(overlapping_run())
    messages = table[table["what"].isin(MESSAGES)]
    names = ("worker", "what", "first_s", "last_s", "row", "fragment", "sender", "receiver")
    assert rows(messages, *names) == [
        (0, OFFER, 12.0, 15.0, 1, 0, 0, -1),
        (0, ANSWER, 16.0, 20.0, 2, 0, -1, 0),
        (0, OFFER, 26.0, 29.0, 3, 1, 0, -1),
        (0, ANSWER, 31.0, 33.0, 4, 1, -1, 0),
        (0, OFFER, 43.0, 44.0, 5, 0, 0, -1),
    ]
    updates = table[table["what"] == UPDATE]
    assert rows(updates, "worker", "first_s", "row", "fragment") == [
        (-1, 16.0, 0, 0),
        (-1, 31.0, 1, 1),
        (-1, 45.0, 2, 0),
    ]


def test_an_answer_that_was_there_before_it_was_due_is_waited_for_by_nobody():
    record = overlapping_run()
    extra = record.transfers.iloc[[2]].assign(begin_s=16.5, end_s=17.0, used_s=20.0)
    early = replace(record, transfers=pd.concat([record.transfers, extra]))
    waits = spans_of(early)
    waits = waits[(waits["what"] == "wait") & (waits["row"] == 1)]
    assert rows(waits, "first_s", "last_s") == [(16.0, 20.0)]


def test_without_transfers_a_wait_between_steps_is_at_their_end():
    record = replace(overlapping_run(), transfers=TransferLog().frame(), updates=UpdateLog().frame())
    table = spans_of(record)
    of_second = table[(table["row"] == 1) & table["what"].isin(SPANS)]
    assert rows(of_second, "what", "first_s", "last_s") == [("compute", 12.0, 22.0), ("wait", 22.0, 26.0)]
    assert not table["what"].isin(MESSAGES).any()
    assert rows(table[table["what"] == UPDATE], "worker", "first_s") == [(-1, 16.0), (-1, 31.0), (-1, 45.0)]


def test_regions_have_updates_of_every_server_and_messages_between_them():
    table = spans_of(regional_run())
    names = ("worker", "what", "first_s", "last_s", "sender", "receiver")
    assert rows(table[table["what"].isin(MESSAGES)], *names) == [
        (-2, OFFER, 16.0, 21.0, -2, -1),
        (-2, ANSWER, 22.0, 28.0, -1, -2),
    ]
    updates = table[table["what"] == UPDATE]
    assert rows(updates, "worker", "first_s", "row") == [(-3, 26.0, 2), (-2, 16.0, 0), (-1, 22.0, 1)]
    own = table[(table["worker"] == 0) & table["what"].isin(SPANS)]
    assert rows(own, "what", "first_s", "last_s") == [
        ("wait", 0.0, 1.0),
        ("pull", 1.0, 3.0),
        ("compute", 3.0, 13.0),
        ("push", 13.0, 16.0),
    ]


def test_peers_have_meetings_and_offers_to_each_other():
    table = spans_of(peers_run())
    assert rows(table, "worker", "what", "first_s", "last_s", "row") == [
        (0, "compute", 0.0, 10.0, 1),
        (0, "wait", 10.0, 24.0, 1),
        (0, OFFER, 10.0, 14.0, 0),
        (0, MEETING, 24.0, 24.0, 2),
        (1, "compute", 0.0, 20.0, 0),
        (1, OFFER, 20.0, 24.0, 1),
        (1, MEETING, 20.0, 20.0, 0),
    ]
    assert set(spans_of(peers_run(), [1])["worker"]) == {1}


def test_spans_shares_and_traces_of_simulated_runs(simulated):
    table, workers = spans_of(simulated), workers_of(simulated)
    for worker, own in table[table["what"].isin((*SPANS, LOST))].groupby("worker"):
        assert own["first_s"].iloc[0] == 0.0
        np.testing.assert_allclose(own["first_s"].iloc[1:], own["last_s"].iloc[:-1], atol=1e-8)
        assert own["last_s"].iloc[-1] == pytest.approx(workers["covered_s"][worker])
    computed = table[table["what"] == "compute"]
    steps = (computed["last_s"] - computed["first_s"]) / computed["worker"].map(workers["seconds_per_step"])
    if simulated.faults.empty:  # a wait for an answer begins and ends between steps
        np.testing.assert_allclose(steps, steps.round(), atol=1e-6)
    shares = workers.loc[workers["rounds"] > 0, ["pull", "compute", "push", "wait", "lost"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares.to_numpy() > -1e-9).all()
    used = utilization_table([simulated]).set_index("place")
    np.testing.assert_allclose(used[["compute", "pull", "push", "wait", ABSENT, LOST]].sum(axis=1), 1.0)
    assert used.loc["all", "compute"] == pytest.approx(simulated.summary["utilization"], abs=1e-9)
    events = list(trace_events([simulated, simulated]))
    check_format(events)
    flows = as_perfetto_imports(list(trace_events([simulated]))).values()
    assert len(flows) == len(simulated.updates)
    timeline(simulated)


# Shares.


def test_shares_of_a_worker_that_goes_on_by_hand():
    record = overlapping_run()
    [worker] = worker_table(record.rounds, 1, 50.0).to_dict("records")
    assert worker["covered_s"] == 43.0
    spent = {name: worker[name] * 43 for name in ("pull", "compute", "push", "wait", "lost")}
    assert spent == pytest.approx({"pull": 4.0, "compute": 30.0, "push": 0.0, "wait": 9.0, "lost": 0.0})
    assert worker["seconds_per_step"] == 2.0
    of_all = utilization_table([record]).set_index("place").loc["all"]
    assert of_all["wait"] * 43 == pytest.approx(9.0)
    assert of_all["compute"] == pytest.approx(record.summary["utilization"]) == pytest.approx(30 / 43)


# The figure.


def test_nodes_are_in_rows_with_each_region_below_its_workers():
    assert nodes_of(overlapping_run(), [0]) == [0, -1]
    assert nodes_of(regional_run(), [0, 1]) == [0, -2, 1, -3, -1]
    assert nodes_of(regional_run(), [1]) == [-2, 1, -3, -1]
    assert nodes_of(peers_run(), [0, 1]) == [0, 1]


def test_messages_at_once_are_in_lanes_of_their_own():
    table = timeline_table(overlapping_run(), first_s=0.0, last_s=50.0)
    messages = table[table["what"].isin(MESSAGES)]
    assert lanes_of(messages).tolist() == [0, 0, 0, 0, 0]
    late = messages.assign(last_s=messages["last_s"].replace({15.0: 27.0}))  # of the first offer, behind the second
    assert lanes_of(late).tolist() == [0, 0, 1, 0, 0]
    rows_ = rows_of([0, -1], late)
    assert rows_.place.tolist() == pytest.approx([0.0, 1 + 3 * 0.42 + 0.15])
    assert rows_.lane.tolist() == pytest.approx([0.63, 1.47, 1.05, 1.47, 0.63])
    assert rows_.height == pytest.approx(2 + 3 * 0.42 + 0.15)


def test_a_timeline_of_a_worker_that_goes_on():
    figure = timeline(overlapping_run(), first_s=0.0, last_s=50.0)
    assert bars(figure, OFFER) == [(0.63, 12.0, 15.0), (0.63, 26.0, 29.0), (0.63, 43.0, 44.0)]
    assert bars(figure, ANSWER) == [(1.05, 16.0, 20.0), (1.05, 31.0, 33.0)]
    assert [bar[1:] for bar in bars(figure, "wait")] == [(16.0, 20.0), (26.0, 31.0)]
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["worker 0, 2 s/step", "server updates"]
    assert [text.get_text() for text in axes.texts] == ["0", "1", "0", "0", "1", "0", "1", "0"]  # last of the updates
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["wait", "pull", "compute", "offer", "answer"]
    assert "numbered by fragment" in axes.get_title()


def test_a_timeline_of_regions():
    figure = timeline(regional_run(), first_s=0.0, last_s=50.0)
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["worker 0, 2 s/step", "region 0", "worker 1, 4 s/step", "region 1", "upper server"]
    below = 2 * 0.42 + 0.15  # lanes of offers and answers
    places = [0.0, 1.0, 2 + below, 3 + below, 4 + 2 * below]
    assert axes.get_yticks().tolist() == pytest.approx(places)
    assert bars(figure, OFFER) == [(1.63, 16.0, 21.0)]
    assert bars(figure, ANSWER) == [(2.05, 22.0, 28.0)]
    np.testing.assert_allclose(marks(figure, "updates"), [(16.0, 1.0), (26.0, places[3]), (22.0, places[4])])
    np.testing.assert_allclose(marks(figure, "update lines"), [(16.0, 0.0), (26.0, (places[2] + places[3] - 1) / 2)])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["wait", "pull", "compute", "push", "offer", "answer"]


def test_a_timeline_of_peers():
    figure = timeline(peers_run(), first_s=0.0, last_s=50.0)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["worker 0, 2 s/step", "worker 1, 4 s/step"]
    np.testing.assert_allclose(marks(figure, "meetings"), [(24.0, 0.0), (20.0, 1 + 0.42 + 0.15)], atol=1e-9)
    assert [text.get_text() for text in axes.texts] == ["1", "0"]  # receivers
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wait", "compute", "offer", "meeting"]
    assert not [each for each in axes.collections if each.get_label() == "updates"]


def test_an_excerpt_is_as_long_as_three_rounds_of_each_fragment():
    log = round_log([round_row(fragment=fragment, round=fragment) for fragment in range(2)])
    assert readable_s(log.frame()) == 2 * 3 * 16.0  # rounds from 0 s to 16 s


# Page and trace.


def test_the_timeline_of_a_page_has_the_same_bars():
    record = overlapping_run()
    held = figures.timeline(record, workers_of(record))
    traces = {trace["name"]: trace for trace in held["traces"]}
    assert list(traces) == ["wait", "pull", "compute", "absent", "offer", "answer", "round lost", "server update"]
    assert traces["offer"]["base"] == [12, 26, 43]
    assert traces["offer"]["x"] == [3, 3, 1]
    assert traces["offer"]["text"] == ["0", "1", "0"]
    assert traces["answer"]["customdata"] == ["server to worker 0, fragment 0", "server to worker 0, fragment 1"]
    assert "Thin bars: messages on their way, numbered by fragment." in held["note"]
    regions = figures.timeline(regional_run(), workers_of(regional_run()))
    axis = regions["layout"]["yaxis"]
    assert axis["ticktext"] == ["0, 2 s/step", "region 0", "1, 4 s/step", "region 1", "upper server"]
    assert [trace["y"] for trace in regions["traces"] if trace["name"] == "server update"] == [
        [axis["tickvals"][place] for place in (1, 4, 3)]  # by time
    ]
    peers = figures.timeline(peers_run(), workers_of(peers_run()))
    assert [trace["name"] for trace in peers["traces"]] == [
        "wait",
        "compute",
        "absent",
        "offer",
        "round lost",
        "meeting",
    ]


@pytest.mark.parametrize(
    ("record", "processes", "threads", "arrows"),
    [
        (
            overlapping_run(),
            ["server", "workers"],
            ["updates", "worker 0, 2 s/step", "worker 0 offers", "worker 0 answers"],
            {("offer, fragment 0", "update 1"), ("offer, fragment 1", "update 1"), ("offer, fragment 0", "update 2")},
        ),
        (
            regional_run(),
            ["servers", "workers"],
            [
                "upper server",
                "region 0",
                "region 0 offers",
                "region 0 answers",
                "region 1",
                "worker 0, 2 s/step",
                "worker 1, 4 s/step",
            ],
            {("push", "update 1"), ("offer", "update 1")},
        ),
        (
            peers_run(),
            ["meetings", "workers"],
            [
                "evaluations",
                "worker 0",
                "worker 1",
                "worker 0, 2 s/step",
                "worker 0 offers",
                "worker 1, 4 s/step",
                "worker 1 offers",
            ],
            {("compute", "meeting 1"), ("offer to worker 1", "meeting 1"), ("offer to worker 0", "meeting 1")},
        ),
    ],
    ids=["overlap", "regions", "peers"],
)
def test_a_trace_has_threads_for_messages_and_nodes(record, processes, threads, arrows):
    events = list(trace_events(record))
    check_format(events)
    assert [event["args"]["name"] for event in events if event["name"] == "process_name"] == processes
    assert [event["args"]["name"] for event in events if event["name"] == "thread_name"] == threads
    flows = as_perfetto_imports(events).values()
    assert {(source["name"], target["name"]) for source, target in flows} == arrows
    assert len(flows) == len(record.updates)


def test_a_message_of_a_trace_says_what_it_is():
    [offer] = [event for event in trace_events(overlapping_run()) if event["name"] == "offer, fragment 1"]
    assert (offer["ts"], offer["dur"], offer["cat"]) == (26_000_000, 3_000_000, "message")
    assert offer["args"] == {
        "from": "worker 0",
        "to": "server",
        "round": 1,
        "fragment": 1,
        "messages": 1,
        "bytes": 100,
    }
    counters = {event["name"] for event in trace_events(regional_run()) if event["ph"] == "C"}
    assert {"version", "version, region 0", "version, region 1"} <= counters
