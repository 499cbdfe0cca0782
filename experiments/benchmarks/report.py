"""Time that a report takes to open in Chromium, for more and more runs.

    python experiments/benchmarks/report.py [--runs 100 500 2000] [--repeats 3] [--out FOLDER]

The runs are made up: the timelines of the quickstart's variants with losses that fall as they might, at as many
learning rates and seeds as it takes. Every page is opened from a file, in a fresh browser without a display: `open` is
from the call until the first view is drawn, `all drawn` until every section below it is too; medians. It takes chromium
and chromedriver, and the extra `dev`. The pages stay in --out.
"""

import argparse
import dataclasses
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measuring import machine, seconds
from rich.console import Console
from rich.table import Table

from simulator import load, simulate
from simulator.record import RunRecord
from simulator.report.page import write_report

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
GOAL_S = 3.0
SEEDS = 5
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def made_up(timelines: Sequence[RunRecord], count: int) -> list[RunRecord]:
    """Returns so many runs."""
    noise = np.random.default_rng(0)
    records = []
    for number in range(count):
        point, rest = divmod(number, len(timelines) * SEEDS)
        rate, seed, timeline = 1e-4 * (point + 1), rest % SEEDS, timelines[rest // SEEDS]
        table = timeline.evaluations.copy()
        end = 1.6 + 0.2 * abs(math.log(rate / 1e-3)) + 0.05 * (rest // SEEDS) + 0.01 * noise.standard_normal()
        table["loss"] = end + (2.2 - end) * np.exp(-4 * table["local_steps"] / table["local_steps"].max())
        table["perplexity"] = np.exp(table["loss"])
        final = float(table["loss"].iloc[-1])
        own = {
            "seed": seed,
            "overrides": {"inner.learning_rate": rate, "seed": seed},
            "trainer": "batched",
            "final_loss": final,
            "final_perplexity": math.exp(final),
        }
        inner = timeline.experiment["inner"] | {"learning_rate": rate}
        experiment = timeline.experiment | {"seed": seed, "inner": inner}
        changed = {"experiment": experiment, "summary": timeline.summary | own, "evaluations": table}
        records.append(dataclasses.replace(timeline, **changed))
    return records


def opened(file: Path) -> tuple[float, float]:
    """Returns the seconds until a page's first view is drawn, and until everything is."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            start = time.perf_counter()
            driver.get(file.as_uri())
            while not driver.execute_script("return document.documentElement.dataset.ready"):
                time.sleep(0.005)
            first_s = time.perf_counter() - start
            driver.execute_script("Report.drawAll(); return document.body.offsetHeight")
            return first_s, time.perf_counter() - start
        finally:
            driver.quit()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/report-benchmark"))
    arguments = parser.parse_args()
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        raise SystemExit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    timelines = [simulate(point.experiment, trainer="null") for point in load(QUICKSTART)]
    table = Table("runs", "page, MB", "made in, s", f"open, s; goal {GOAL_S:g}", "all drawn, s")
    for count in arguments.runs:
        records, file = made_up(timelines, count), (arguments.out / f"{count}.html").absolute()
        made_s = seconds(lambda records=records, file=file: write_report(records, file))
        first_s, all_s = zip(*(opened(file) for _ in range(arguments.repeats)), strict=True)
        size = f"{file.stat().st_size / 1e6:.1f}"
        median = [f"{statistics.median(each):.2f}" for each in (first_s, all_s)]
        table.add_row(f"{count:,}", size, f"{made_s:.1f}", *median)
    console = Console()
    console.print(table)
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    console.print(f"{machine('plotly', 'selenium')}{busy}")


if __name__ == "__main__":
    main()
