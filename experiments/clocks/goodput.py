"""Goodput of training when chips fail: at which time of a repair do published numbers come out?

    .venv/bin/python experiments/clocks/goodput.py

Decoupled DiLoCo (arXiv 2604.21428) tells of simulated clusters whose chips fail once a year: of data parallel
training, of an elastic one, and of M learners that do not wait for each other. How long a repair is it does not tell.
A learner with an M-th of the chips has a failure every M years / chips in the mean, and stands still for a repair; so
its goodput is 1 / (1 + repair / time between failures), from which the repair follows that gives a published one. The
clock is run at that, with exponential times between failures; what was under way is lost. Results are in
experiments/results/clocks.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from simulator import load, simulate
from simulator.host.text import markdown_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results/clocks"
YEAR_S = 365.25 * 24 * 3600
FAILURES, STEPS = 1500, 100
"""Failures of a simulation, and local steps between two of a learner, in the mean."""


class Claim(NamedTuple):
    """Published goodput.

    Attributes:
      chips: of the cluster.
      training: in words.
      learners: M.
      goodput: share of the time.
    """

    chips: int
    training: str
    learners: int
    goodput: float


PUBLISHED = (
    Claim(2_400_000, "data parallel", 1, 0.18),
    Claim(2_400_000, "elastic data parallel", 1, 0.40),
    Claim(2_400_000, "8 learners", 8, 0.80),
    Claim(2_400_000, "16 learners", 16, 0.86),
    Claim(1_200_000, "elastic data parallel", 1, 0.58),
    Claim(1_200_000, "2 learners", 2, 0.70),
    Claim(1_200_000, "8 learners", 8, 0.88),
    Claim(1_200_000, "16 learners", 16, 0.93),
)
REPAIRS_S = (10, 20, 30, 60)
"""Times of a repair that are swept."""


def between_s(claim: Claim) -> float:
    """Returns the mean time between failures of a learner, seconds."""
    return claim.learners * YEAR_S / claim.chips


def expected(claim: Claim, repair_s: float) -> float:
    """Returns the goodput that theory gives, without what is lost of a step."""
    return 1 / (1 + repair_s / between_s(claim))


def repair_of(claim: Claim) -> float:
    """Returns the time of a repair at which a published number comes out, seconds."""
    return between_s(claim) * (1 / claim.goodput - 1)


def simulated(claim: Claim, repair_s: float, failures: int = FAILURES) -> float:
    """Returns the goodput that the clock gives.

    Args:
      claim: of the learners.
      repair_s: time of a repair.
      failures: of all learners together, in the mean.
    """
    step_s = between_s(claim) / STEPS
    time_s = failures / claim.learners * (between_s(claim) + repair_s)
    [point] = load(
        HERE / "goodput.yaml",
        f"cluster.devices={{seconds_per_step: {step_s}, workers: {claim.learners}}}",
        f"cluster.faults.crashes.time_between.mean={between_s(claim)}",
        f"cluster.faults.crashes.repair.value={repair_s}",
        f"budget.simulated_time={time_s}",
    )
    record = simulate(point.experiment, trainer="null")
    return float(record.summary["goodput"]) * step_s / claim.learners


def collect() -> pd.DataFrame:
    """Returns a row for each published number."""
    rows = []
    for claim in PUBLISHED:
        repair_s = repair_of(claim)
        row = claim._asdict() | {"between_s": between_s(claim), "repair_s": repair_s}
        row["simulated"] = simulated(claim, repair_s)
        rows.append(row | {f"at_{each}_s": expected(claim, each) for each in REPAIRS_S})
    return pd.DataFrame(rows)


def written(file: str) -> str:
    """Returns committed results as a table for a page."""
    heads = ["chips", "training", "published", "comes out at a repair of", "the clock there"]
    lines = [[*heads, *(f"{each} s" for each in REPAIRS_S)], [":--", ":--", *["--:"] * (3 + len(REPAIRS_S))]]
    for row in pd.read_csv(RESULTS / file).to_dict("records"):
        cells = [f"{row['chips'] / 1e6:g} M", row["training"], f"{row['goodput']:.0%}", f"{row['repair_s']:.0f} s"]
        cells += [f"{row['simulated']:.1%}", *(f"{row[f'at_{each}_s']:.0%}" for each in REPAIRS_S)]
        lines.append(cells)
    return markdown_table(lines)


if __name__ == "__main__":
    collect().to_csv(RESULTS / "goodput.csv", index=False, float_format="%.6g")
    print(written("goodput.csv"))
