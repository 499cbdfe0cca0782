"""How long a report takes to open in Chromium, for more and more runs.

    python experiments/benchmarks/report.py [--runs 100 500 2000] [--repeats 3]

The runs are made up: four variants of four workers with 4,000 local steps and 21 evaluations each, at as many sweep
points and seeds as it takes. Each page is opened from a file in a fresh browser, without a display; `open` is from the
call until the first view is drawn, `all drawn` until every section below is too. Medians. Needs chromium and
chromedriver, and the extra `dev`.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine, seconds
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' builders of records
from simulator.record import RunRecord
from simulator.report.page import write_report
from tests.record.builders import build_record
from tests.report.chromium import chromium

GOAL_S = 3.0
VARIANTS: dict[str, dict[str, Any]] = {
    "sync": {"barrier": True},
    "async": {"perplexities": (9.0, 7.0)},
    "dynamic": {"dynamic": True},
    "slow": {"step_s": (1.0, 2.0, 3.0, 4.0)},
}
SEEDS = 5


def made_up(count: int) -> list[RunRecord]:
    """Returns so many runs."""
    records = []
    for number in range(count):
        point, rest = divmod(number, len(VARIANTS) * SEEDS)
        name, seed = list(VARIANTS)[rest // SEEDS], rest % SEEDS
        overrides = {"inner.learning_rate": 1e-3 * (point + 1), "seed": seed}
        records.append(build_record(name, seed=seed, overrides=overrides, **VARIANTS[name]))
    return records


def opened(file: Path) -> tuple[float, float]:
    """Returns the seconds until a page's first view is drawn, and until everything is."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        start = time.perf_counter()
        driver.get(file.as_uri())
        while not driver.execute_script("return document.documentElement.dataset.ready"):
            time.sleep(0.005)
        first_s = time.perf_counter() - start
        driver.execute_script("Report.drawAll(); return document.body.offsetHeight")
        return first_s, time.perf_counter() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        raise SystemExit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    table = Table("runs", "page, MB", "made in, s", f"open, s; goal {GOAL_S:g}", "all drawn, s")
    with tempfile.TemporaryDirectory(prefix="tardigrad-report-") as folder:
        for count in arguments.runs:
            records, file = made_up(count), Path(folder) / f"{count}.html"
            made_s = seconds(lambda records=records, file=file: write_report(records, file))
            taken = [opened(file) for _ in range(arguments.repeats)]
            first_s, all_s = (statistics.median(each) for each in zip(*taken, strict=True))
            size = f"{file.stat().st_size / 1e6:.1f}"
            table.add_row(f"{count:,}", size, f"{made_s:.1f}", f"{first_s:.2f}", f"{all_s:.2f}")
    console = Console()
    console.print(table)
    console.print(machine("plotly", "selenium"))


if __name__ == "__main__":
    main()
