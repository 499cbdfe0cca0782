"""Finds the bandwidth that methods need for a compute utilization, and lays it beside published tables.

    .venv/bin/python experiments/clocks/bandwidth.py

Nothing is trained: the clock runs until the workers' rounds repeat. As in the sources, bandwidths are the points of
`logspace(-1, 3, 50)` in Gbit/s, and what is told is the last one at which the utilization is below its target. Results
are in experiments/results/clocks, a row for each cell of a table.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator import load
from simulator.cluster import MessageShares, build_cluster, seconds
from simulator.experiment import Experiment
from simulator.experiment.schema.described_model import DescribedModel
from simulator.host.text import markdown_table
from simulator.timeline import Update, own_arrivals, timeline_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results/clocks"
GRID = np.logspace(-1, 3, 50)
"""Bandwidths in Gbit/s."""
TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99)
BEYOND = 1000.0
"""Published as "1000+": beyond the grid, whose last point it is here."""
_FIRST, _LAST = 2, 4  # periods of H steps between which nothing changes any more

PUBLISHED = {
    "table4": {
        "1B, data parallel": (86.8, 152.6, 184.2, 222.3, 569.0),
        "1B, DiLoCo": (1.4, 6.2, 13.3, 23.3, 86.8),
        "1B, Streaming": (1.4, 5.2, 9.1, 16.0, 28.1),
        "1B, overlap": (1.4, 4.3, 6.2, 9.1, 11.0),
        "1B, fp4": (0.4, 0.9, 1.7, 2.0, 3.0),
        "10B, data parallel": (104.8, 222.3, 222.3, 268.3, 471.5),
        "10B, DiLoCo": (1.7, 7.5, 16.0, 33.9, 104.8),
        "10B, Streaming": (1.7, 5.2, 9.1, 13.3, 19.3),
        "10B, overlap": (1.7, 3.6, 5.2, 6.2, 7.5),
        "10B, fp4": (0.4, 0.9, 1.4, 1.4, 1.7),
        "100B, data parallel": (184.2, 323.8, 390.7, 390.7, 471.5),
        "100B, DiLoCo": (3.0, 11.0, 23.3, 49.4, 184.2),
        "100B, Streaming": (2.4, 6.2, 9.1, 11.0, 19.3),
        "100B, overlap": (1.7, 3.6, 4.3, 5.2, 5.2),
        "100B, fp4": (0.5, 0.9, 1.1, 1.1, 1.4),
    },
    "table6": {
        "10B, H = 1": (104.8, 184.2, 222.3, 222.3, 390.7),
        "10B, H = 10": (16.0, 49.4, 86.8, 152.6, 222.3),
        "10B, H = 50": (3.0, 11.0, 23.3, 41.0, 126.5),
        "10B, H = 100": (1.4, 6.2, 13.3, 23.3, 86.8),
        "10B, H = 300": (0.5, 2.0, 4.3, 9.1, 41.0),
        "405B, H = 1": (126.5, 222.3, 268.3, 323.8, 323.8),
        "405B, H = 10": (19.3, 72.0, 126.5, 184.2, 268.3),
        "405B, H = 50": (3.6, 13.3, 28.1, 59.6, 184.2),
        "405B, H = 100": (2.0, 7.5, 16.0, 33.9, 126.5),
        "405B, H = 300": (0.7, 3.0, 6.2, 13.3, 59.6),
        "671B, H = 1": (323.8, 569.0, 686.6, 686.6, BEYOND),
        "671B, H = 10": (49.4, 152.6, 268.3, 390.7, 686.6),
        "671B, H = 50": (7.5, 33.9, 72.0, 126.5, 390.7),
        "671B, H = 100": (4.3, 16.0, 41.0, 72.0, 268.3),
        "671B, H = 300": (1.7, 6.2, 13.3, 28.1, 126.5),
    },
}
"""Gbit/s for each of the targets: Table 4 of arXiv 2501.18512, and Table 6 of arXiv 2503.09799."""
OTHER_SIZES = {"10B": ("model.parameters=8.3e9",), "405B": ("model.parameters=365e9",)}
"""Models of 8.3B and 365B parameters, with which more cells of Table 6 come out than with the names' own sizes."""
WHOLE_STEPS = {
    model: (f"cluster.devices.seconds_per_step=[{step_s}, {step_s}]",)
    for model, step_s in {"1B": 0.1, "10B": 0.8, "100B": 4.9, "405B": 26, "671B": 20}.items()
}
"""All of the published time of a step, and not what is left of it without a part of the first layer's."""
READINGS: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]] = {
    "table4": {"own": {}, "whole": WHOLE_STEPS},
    "table6": {"own": {}, "other": OTHER_SIZES, "whole": WHOLE_STEPS},
}
"""Changes of the file of each table, by model."""


def utilization(experiment: Experiment, gbit_per_s: float) -> float:
    """Returns the share of the time that a worker computes, once its rounds repeat.

    Args:
      experiment: of workers that go on while a layer is reduced.
      gbit_per_s: of the link.
    """
    section, schedule, steps = experiment.cluster, experiment.schedule, experiment.inner.local_steps
    network = section.network.model_copy(update={"bandwidth": gbit_per_s * 1e9 / 8})
    section = section.model_copy(update={"network": network})
    assert isinstance(experiment.model, DescribedModel)
    parameters = experiment.model.parameters
    model = build_cluster(section, parameters=parameters, flops_per_step=1.0, seed=0, topology=experiment.topology)
    full = 8 * network.bytes_per_parameter
    share = experiment.compression.bits(full) / full / schedule.fragments
    shares = MessageShares((share,) * schedule.fragments, (share,) * schedule.fragments)
    ends_ns: list[float] = []
    for event in timeline_of(experiment, model, shares=shares):
        if isinstance(event, Update):
            ends_ns += [each.push_start_ns for _, each in own_arrivals(event) if each.round.worker == 0]
            if len(ends_ns) > _LAST * schedule.fragments:
                break
    first, last = (seconds(ends_ns[period * schedule.fragments]) for period in (_FIRST, _LAST))
    return (_LAST - _FIRST) * steps * float(model.step_s[0]) / (last - first)


def needed(utilization_at: Callable[[int], float], target: float) -> int:
    """Returns the number of the last point of the grid at which the utilization is below a target; -1 for none."""
    low, high = -1, len(GRID)  # below the target, and not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if utilization_at(middle) < target else (low, middle)
    return low


def place(gbit_per_s: float) -> int:
    """Returns the number of the grid's point that a published bandwidth is."""
    return int(np.abs(np.log(GRID / gbit_per_s)).argmin())


def utilization_of(table: str, variant: str, changes: Sequence[str] = ()) -> Callable[[int], float]:
    """Returns a function from a point of the grid to the utilization there.

    Args:
      table: whose experiment file.
      variant: of it.
      changes: of settings.
    """
    [point] = load(HERE / f"{table}.yaml", *changes, variant=variant)
    return functools.cache(lambda number: utilization(point.experiment, float(GRID[number])))


def cell(table: str, variant: str, target: float, at: Callable[[int], float]) -> dict[str, Any]:
    """Returns published and own bandwidth in Gbit/s, and how many points of the grid they are apart.

    Args:
      table: of the cell.
      variant: of its experiment file.
      target: utilization.
      at: that at a point of the grid.
    """
    published, found = PUBLISHED[table][variant][TARGETS.index(target)], needed(at, target)
    own = float(f"{GRID[found]:.2f}") if found >= 0 else 0.0
    return {"target": target, "published": published, "found": own, "apart": found - place(published)}


def collect(table: str) -> pd.DataFrame:
    """Returns all cells of a table, in each of its readings; those that a reading does not change are left out."""
    rows = []
    for reading, changes in READINGS[table].items():
        for variant in PUBLISHED[table]:
            own = changes.get(variant.partition(",")[0], ())
            if own or reading == "own":
                at = utilization_of(table, variant, own)
                told = {"reading": reading, "variant": variant}
                rows += [told | cell(table, variant, target, at) for target in TARGETS]
    return pd.DataFrame(rows)


def read(table: str, reading: str) -> pd.DataFrame:
    """Returns the committed cells of a table, of those that a reading does not change its own."""
    found = pd.read_csv(RESULTS / f"{table}.csv")
    rows = found[found["reading"].isin(["own", reading])]
    return rows.drop_duplicates(["variant", "target"], keep="last").sort_index()


def written(table: str, reading: str = "own") -> str:
    """Returns a table for a page: published and own bandwidths, in bold where they are not the same point."""
    lines = [["model and method", *(f"{target:.0%}" for target in TARGETS)], [":--"] + ["--:"] * len(TARGETS)]
    found = read(table, reading).set_index("variant")
    lines += [[variant, *map(_cell, found.loc[variant].itertuples())] for variant in PUBLISHED[table]]
    return markdown_table(lines)


def _cell(row: Any) -> str:
    published = "1000+" if row.published == BEYOND else f"{row.published:g}"
    return f"{published} / {row.found:g}" if not row.apart else f"**{published} / {row.found:g}**"


def counted(table: str, reading: str = "own") -> str:
    """Returns in words how many cells agree."""
    apart = read(table, reading)["apart"].abs()
    return f"{(apart == 0).sum()} of {len(apart)} cells are the same point, {(apart <= 1).sum()} at most one apart.\n"


if __name__ == "__main__":
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        collect(name).to_csv(RESULTS / f"{name}.csv", index=False)
        for each in READINGS[name]:
            print(name, each, counted(name, each), end="")
