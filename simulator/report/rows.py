"""Rows of a timeline, from above: workers and servers, and below each lanes for its messages."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from simulator.host.nodes import SERVER, region_of
from simulator.record import RunRecord, labels_of, region_sites
from simulator.report.spans import MESSAGES

HALF_BAR = 0.36  # of the height of a row without lanes
LANE = 0.42  # the same of a lane
_GAP = 0.15  # below lanes
_MOST_LANES = 3  # of offers below a bar, and of answers; in the last one messages may cover each other


class Rows(NamedTuple):
    """Heights in a timeline, downwards, in rows without lanes; the first row is around 0.

    Attributes:
        place: Of the middle of each node's bar, by node, from above.
        lane: Of the middle of each message, by its row in the table of spans.
        height: Of all rows together.
    """

    place: "pd.Series[Any]"
    lane: "pd.Series[float]"
    height: float


def nodes_of(record: RunRecord, shown: Sequence[int]) -> list[int]:
    """Returns the nodes of a timeline from above: workers, those of a region above its server, and the server, if any.

    Args:
        record: The run.
        shown: Workers.
    """
    met = record.updates[record.updates["sender"] >= 0]
    if len(met) and met["node"].min() > SERVER:
        return list(shown)
    home = met.drop_duplicates("sender").set_index("sender")["node"].to_dict()
    regions = sorted({node for node in home.values() if node < SERVER}, reverse=True)
    return [
        node
        for server in (*regions, SERVER)
        for node in (*(worker for worker in shown if home.get(worker, SERVER) == server), server)
    ]


def node_names(record: RunRecord, nodes: Sequence[int]) -> Callable[[int], str]:
    """Returns a function from a worker or a server to its name.

    Args:
        record: The run.
        nodes: Of the run, by which the server is the upper one or the only one.
    """
    workers = record.summary["workers"]
    labels, sites = labels_of(record.experiment, workers), region_sites(record.experiment, workers)

    def name(node: int) -> str:
        if node >= 0:
            return labels[node]
        if node == SERVER:
            return "upper server" if min(nodes) < SERVER else "server"
        return f"server in {sites[region_of(node)]}" if sites else f"region {region_of(node)}"

    return name


def rows_of(nodes: list[int], spans: pd.DataFrame) -> Rows:
    """Returns the rows of nodes and the lanes of their messages.

    Args:
        nodes: From above.
        spans: Of these nodes.
    """
    messages = spans[spans["what"].isin(MESSAGES)]
    if messages.empty:
        return Rows(pd.Series(range(len(nodes)), nodes), pd.Series(dtype=float), len(nodes))
    lane = lanes_of(messages).clip(upper=_MOST_LANES - 1)
    below = pd.Series(0, nodes)  # lanes of each
    for of_server in (False, True):
        used = 0
        for what in MESSAGES:
            own = ((messages["worker"] < 0) == of_server) & (messages["what"] == what)
            lane[own] += used
            used = int(lane[own].max()) + 1 if own.any() else used
        below[[node for node in nodes if (node < 0) == of_server and node != SERVER]] = used
    end = (1 + LANE * below + _GAP * (below > 0)).cumsum()
    place = end.shift(fill_value=0.0)
    from_bar = HALF_BAR + 0.06 + LANE * (lane + 0.5)
    return Rows(place, from_bar + place[messages["worker"]].to_numpy(), float(end.iloc[-1]))


def message_numbers(spans: pd.DataFrame) -> tuple["pd.Series[int]", str]:
    """Returns a number for each message, and of what: its fragment if there are several, or its receiving worker."""
    messages = spans[spans["what"].isin(MESSAGES)]
    if (messages["fragment"] > 0).any():
        return messages["fragment"].astype("int64"), "fragment"
    if ((messages["sender"] >= 0) & (messages["receiver"] >= 0)).any():
        return messages["receiver"].astype("int64"), "receiver"
    return pd.Series(dtype="int64"), ""


def lanes_of(messages: pd.DataFrame) -> "pd.Series[int]":
    """Returns a lane for each message, from 0: the first of its node and kind that is free.

    Args:
        messages: Spans, those of a node in order of time.
    """
    busy_until: dict[tuple[int, str], list[float]] = {}
    lanes = []
    for node, what, first_s, last_s in messages[["worker", "what", "first_s", "last_s"]].itertuples(index=False):
        ends = busy_until.setdefault((node, what), [])
        lane = next((number for number, end_s in enumerate(ends) if end_s <= first_s), len(ends))
        ends[lane : lane + 1] = [last_s]
        lanes.append(lane)
    return pd.Series(lanes, messages.index, dtype="int64")
