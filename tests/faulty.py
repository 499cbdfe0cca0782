"""Any faults that a cluster may have, for hypothesis."""

from typing import Any

from hypothesis import strategies as st

SOME_TIME = st.sampled_from(["1s", "4s", "10s", "40s", "2min"])
TIMES = SOME_TIME | st.sampled_from(
    [
        {"kind": "constant", "value": "7s"},
        {"kind": "uniform", "low": "1s", "high": "20s"},
        {"kind": "weibull", "mean": "15s", "shape": 0.7},
        {"kind": "lognormal", "median": "5s", "sigma": 1.0},
        {"kind": "exponential", "mean": "30s"},
    ]
)
RARE_TIMES = st.sampled_from(["15s", "40s", "2min", {"kind": "weibull", "mean": "1min", "shape": 0.8}])


@st.composite
def traces(draw: st.DrawFn, workers: int) -> list[list[Any]]:
    """Events of a trace that can follow each other."""
    rows: list[list[Any]] = []
    for worker in range(workers):
        at = 0.0
        for _ in range(draw(st.integers(0, 3))):
            at += draw(st.sampled_from([0.0, 0.5, 3.0, 10.0, 25.0]))
            kind = draw(st.sampled_from(["crash", "notice", "preempt", "leave", "slow", "disconnect"]))
            length = draw(st.sampled_from([0.0, 1.0, 5.0]))
            match kind:
                case "slow":
                    rows += [
                        [worker, at, f"slow {draw(st.sampled_from([0.5, 2, 10]))}"],
                        [worker, at + length, "normal"],
                    ]
                case "disconnect":
                    rows += [[worker, at, "disconnect"], [worker, at + length, "reconnect"]]
                case "notice":
                    rows += [[worker, at, "notice"], [worker, at + 2, "preempt"], [worker, at + 2 + length, "join"]]
                    at += 2
                case _:
                    rows += [[worker, at, kind], [worker, at + length, "join"]]
            at += length + 0.25
        if draw(st.integers(0, 5)) == 0:
            rows.append([worker, at, draw(st.sampled_from(["crash", "leave", "disconnect"]))])
    if draw(st.integers(0, 15)) == 0:
        rows.append(["server", 7.2, "down"])
    elif draw(st.booleans()):
        rows += [["server", 5.0, "down"], ["server", draw(st.sampled_from([5.5, 12.0])), "up"]]
    return rows


@st.composite
def faults(draw: st.DrawFn, workers: int) -> dict[str, Any]:
    """A `cluster.faults` section for so many workers."""
    some = st.none() | st.lists(st.integers(0, workers - 1), min_size=1, unique=True)
    section: dict[str, Any] = {"inner_state": draw(st.sampled_from(["reset", "keep"]))}
    if draw(st.booleans()):
        section["crashes"] = {
            "time_between": draw(RARE_TIMES),
            "repair": draw(TIMES),
            "in_flight": draw(st.sampled_from(["lost", "delivered"])),
            "workers": draw(some),
        }
    if draw(st.booleans()):
        notice = draw(st.sampled_from([0, "1s", "5s", "30s"]))
        section["preemption"] = {"time_between": draw(RARE_TIMES), "absence": draw(TIMES), "notice": notice}
    if draw(st.integers(0, 3)) == 0:
        section["departures"] = {"after": draw(RARE_TIMES), "workers": draw(some)}
    if draw(st.booleans()):
        section["joins"] = draw(st.lists(st.sampled_from([0, 0, 3, "20s"]), min_size=workers, max_size=workers))
    if draw(st.booleans()):
        factor = draw(st.sampled_from([0.5, 1.5, 4, 30]))
        section["slowdowns"] = {"time_between": draw(TIMES), "duration": draw(TIMES), "factor": factor}
    if draw(st.booleans()):
        section["message_loss"] = {
            "probability": draw(st.sampled_from([0.01, 0.2, 0.6])),
            "timeout": draw(st.sampled_from(["100ms", "3s"])),
            "attempts": draw(st.sampled_from([2, 10])),
        }
    if draw(st.booleans()):
        section["link_outages"] = {"time_between": draw(TIMES), "duration": draw(SOME_TIME), "workers": draw(some)}
    if draw(st.integers(0, 2)) == 0:
        section["server_outages"] = {"time_between": draw(RARE_TIMES), "duration": draw(SOME_TIME)}
    if draw(st.booleans()):
        section["trace"] = draw(traces(workers))
    return section
