"""Predicts runs of four real machines from a few of them, and lays the predictions beside all others.

    .venv/bin/python experiments/clocks/l40s.py

The runs are in l40s.csv: synchronous DiLoCo on four single-GPU machines (L40S), 30,846,720 parameters in float32, a
ring over TCP that was shaped to a rate, which was measured before each run (github.com/Adnan082/diloco-measured,
Apache-2.0; facts only). The file numbers all three repeats of a setting 0; they are counted in its order here, which is
that of the measured rates. Results are in experiments/results/clocks, a row for each setting.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from simulator import load, simulate
from simulator.host.text import markdown_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results/clocks"
CALIBRATED_ON = 32
"""H of the runs to calibrate on, the first repeat of each rate."""
RATES = (50, 200, 1000, 5000)
"""Rates in Mbit/s that links were shaped to; those measured are up to 1 % less."""
FAST_BITS_PER_S = 5e8
"""Rate above which a run's total tells what is waited for: below, it is less than what transfers differ by."""
ROUNDS = 300
"""Rounds of a prediction in which they differ."""
LEAST_UTILIZATION = 0.02
"""Below which utilizations are not compared: a difference of them is one of next to nothing."""


def measured() -> pd.DataFrame:
    """Returns the measured runs, each with the nearest of `RATES`, the number of its repeat, and its use."""
    runs = pd.read_csv(HERE / "l40s.csv")
    runs["rate"] = [min(RATES, key=lambda rate: abs(rate - each / 1e6)) for each in runs["link_bits_per_s"]]
    runs["repeat"] = runs.groupby(["local_steps", "rate"]).cumcount()
    return runs.assign(calibrates=(runs["local_steps"] == CALIBRATED_ON) & (runs["repeat"] == 0))


def calibrated(runs: pd.DataFrame) -> dict[str, Any]:
    """Returns the settings of the cluster that follow from the runs to calibrate on.

    Args:
      runs: measured, see `measured`.

    Returns:
      `seconds_per_step`, the median; `efficiency` of the link by its rate; and `jitter`, from what the totals of fast
      links have beside steps and synchronizations: taken for what the slowest worker is waited for, in proportion to
      the time of a round.
    """
    chosen = runs[runs["calibrates"]].sort_values("link_bits_per_s")
    [point] = load(HERE / "l40s.yaml")
    parameters, workers = point.experiment.model.parameters, point.experiment.cluster.workers
    sent_bits = 2 * (workers - 1) / workers * 4 * 8 * parameters
    rates, step_s = chosen["link_bits_per_s"], chosen["compute_s_per_step"]
    efficiency = (sent_bits / (rates * chosen["synchronization_s"])).set_axis(rates)
    more_s = chosen["total_s"] - chosen["steps"] * step_s - chosen["outer_steps"] * chosen["synchronization_s"]
    waited = (more_s / (chosen["outer_steps"] * CALIBRATED_ON * step_s))[rates > FAST_BITS_PER_S].mean()
    slowest_of_four = 1.0294  # mean of the largest of four standard normal numbers
    return {
        "seconds_per_step": float(step_s.median()),
        "efficiency": [[f"{rate} bit/s", float(each)] for rate, each in efficiency.items()],
        "jitter": float(waited / slowest_of_four),
    }


def predicted(run: Any, settings: dict[str, Any], *, waits: bool) -> tuple[float, float]:
    """Returns what the clock says of a run: seconds of an all-reduce, and the share of the time that is computed.

    Args:
      run: row of the measured runs.
      settings: as calibrated.
      waits: whether rounds differ from each other, and the slowest worker is waited for.
    """
    rounds = ROUNDS if waits else run.outer_steps
    [point] = load(
        HERE / "l40s.yaml",
        f"cluster.devices.seconds_per_step={settings['seconds_per_step']}",
        f"cluster.devices.jitter={settings['jitter'] if waits else 0.0}",
        f"cluster.network.bandwidth={run.link_bits_per_s} bit/s",
        f"cluster.network.efficiency={settings['efficiency']}",
        f"inner.local_steps={run.local_steps}",
        f"budget.rounds={rounds}",
    )
    record = simulate(point.experiment, trainer="null")
    collectives = record.transfers.query("sender >= 0")
    round_s = record.summary["simulated_seconds"] / rounds
    computed_s, in_rounds = run.steps * settings["seconds_per_step"], run.outer_steps * run.local_steps
    total_s = run.outer_steps * round_s + (run.steps - in_rounds) * settings["seconds_per_step"]
    return float((collectives["end_s"] - collectives["begin_s"]).median()), computed_s / total_s


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each setting: means of what was measured in the repeats, and of what is predicted of them."""
    settings, rows = calibrated(runs), []
    for (steps, rate), own in runs[~runs["calibrates"]].groupby(["local_steps", "rate"]):
        row = {
            "local_steps": steps,
            "rate": rate,
            "repeats": len(own),
            "synchronization_s": own["synchronization_s"].mean(),
            "utilization": own["compute_utilization"].mean(),
        }
        for waits, name in ((False, "utilization_alone"), (True, "utilization_waiting")):
            told = [predicted(run, settings, waits=waits) for run in own.itertuples()]
            row["all_reduce_s"], row[name] = (sum(each) / len(told) for each in zip(*told, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def written(file: str) -> str:
    """Returns committed results as a table for a page; in bold what is off by more than 5 %."""
    heads = ["H", "Mbit/s", "synchronization", "all-reduce", "utilization", "all-reduce alone", "with waiting"]
    lines = [heads, ["--:"] * len(heads)]
    for row in pd.read_csv(RESULTS / file).itertuples():
        cells = [
            f"{row.synchronization_s:.3f} s",
            _beside(row.all_reduce_s, row.synchronization_s, f"{row.all_reduce_s:.3f} s"),
        ]
        cells.append(f"{row.utilization:.2%}")
        for own in (row.utilization_alone, row.utilization_waiting):
            is_compared = row.utilization > LEAST_UTILIZATION
            cells.append(_beside(own, row.utilization, f"{own:.2%}") if is_compared else f"{own:.2%}")
        lines.append([str(row.local_steps), f"{row.rate:,}", *cells])
    return markdown_table(lines)


def _beside(own: float, measured: float, text: str) -> str:
    off = own / measured - 1
    return f"**{text}, {off:+.1%}**" if abs(off) > 0.05 else f"{text}, {off:+.1%}"


if __name__ == "__main__":
    compared(measured()).to_csv(RESULTS / "l40s.csv", index=False, float_format="%.6g")
    print(written("l40s.csv"))
