"""Fills the tables of README.md at the top and of the pages in the folders here, from the results.

    .venv/bin/python experiments/page.py

A table stands between `<!-- KIND RESULTS... -->` and `<!-- end -->`, where RESULTS are below experiments/results/paper
and KIND is one of by_shard, grids, losses, made, `compare FILE` and `commands FILE`. FILE is an experiment file of
paper, with `:SCALE` behind it where that is not the file's own. Of the benchmark of all methods, `<!-- benchmark
NAME ARGUMENTS... -->` is one of its tables, and of the scaling laws `<!-- scaling NAME SCALE -->`.
`<!-- plan FILE -->` has the tables of a plan below results/clusters. `<!-- real NAME -->` is one of
real runs, `bandwidth` and `agreement` are those of the published clocks, `l40s` and `goodput` those of others.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from clocks import bandwidth, goodput, l40s
from clocks.real import real_tables
from methods import benchmark, scaling
from paper.choose import best, grids, label

from simulator.experiment import load_document
from simulator.experiment.reference import reference_of
from simulator.host.text import markdown_table
from simulator.record import read_json, read_summaries
from simulator.report import comparison, comparison_markdown, plan_markdown

HERE = Path(__file__).resolve().parent
PAPER, RESULTS = HERE / "paper", HERE / "results/paper"
PAGES = (
    HERE.parent / "README.md",
    *(
        HERE / name
        for name in (
            "paper/README.md",
            "data/README.md",
            "faults/README.md",
            "methods/README.md",
            "methods/benchmark.md",
            "clusters/README.md",
            "clocks/README.md",
            "clocks/real/README.md",
        )
    ),
)
_BLOCK = re.compile(r"(<!-- (\w+) ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def files_of(names: Sequence[str]) -> list[Path]:
    """Returns result files, of a folder all that are in it."""
    paths = [RESULTS / name for name in names]
    return [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]


def summaries_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the runs of result files, or of all that are in a folder of them."""
    return read_summaries(files_of(names))


def compare(file: str, *names: str) -> str:
    """Returns the table of an experiment file's question."""
    name, _, scale = file.partition(":")
    document = load_document(PAPER / name, [f"scale={scale}"] if scale else [])
    reference = reference_of(document)
    if reference is None:
        raise ValueError(f"{file} has no reference, or one with mistakes")
    published = reference.model_dump()
    rows = comparison(summaries_of(names), published, variants=document.tree.get("select"))
    return comparison_markdown(rows, published)


def tuned(*names: str) -> str:
    """Returns the perplexity of every method at every outer learning rate, the best in bold."""
    found = grids(summaries_of(names))
    rates = sorted({rate for grid in found.values() for rate in grid})
    lines = [["method", *(f"{rate:g}" for rate in rates)], [":--", *("--:" for _ in rates)]]
    for method, grid in found.items():
        lines.append([label(method), *(_cell(grid, rate) for rate in rates)])
    return markdown_table(lines)


def _cell(grid: Mapping[float, float], rate: float) -> str:
    if rate not in grid:
        return ""
    text = f"{grid[rate]:.2f}" if grid[rate] < 100 else "> 100"
    return f"**{text}**" if rate == best(grid) else text


def by_shard(*names: str) -> str:
    """Returns the perplexity of every shard's own validation documents, the mean over seeds."""
    found = {
        point: [[math.exp(loss) for loss in run["final_shard_losses"]] for run in runs]
        for point, runs in _by_point(summaries_of(names)).items()
    }
    shards = len(next(iter(found.values()))[0])
    lines = [["shards", "variant", *map(str, range(shards))], [":--", ":--", *["--:"] * shards]]
    lines += [
        [*point, *(f"{sum(own) / len(own):.2f}" for own in zip(*runs, strict=True))] for point, runs in found.items()
    ]
    return markdown_table(lines)


def _by_point(runs: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Returns runs by sweep point, seeds aside, and variant."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        point = (str(value) for axis, value in run["overrides"].items() if axis != "seed")
        found.setdefault((*point, run["variant"]), []).append(run)
    return found


def losses(*names: str) -> str:
    """Returns what every method reached, how much work was of use, and how much was lost; means over seeds."""
    runs_of_all = summaries_of(names)
    axes = [axis for axis in runs_of_all[0]["overrides"] if axis != "seed"]
    numbers = ["perplexity", "simulated time", "useful steps/s", "work lost or dropped", "rounds lost", "seeds"]
    lines = [[*axes, "variant", *numbers], [":--"] * (len(axes) + 1) + ["--:"] * len(numbers)]
    for key, runs in _by_point(runs_of_all).items():
        means = {
            name: sum(run[name] for run in runs) / len(runs)
            for name in (
                "final_perplexity",
                "simulated_seconds",
                "goodput",
                "lost_steps",
                "dropped_steps",
                "lost_rounds",
            )
        }
        computed = sum(run["local_steps"] + run["lost_steps"] for run in runs) / len(runs)
        lost = (means["lost_steps"] + means["dropped_steps"]) / computed
        cells = [f"{means['final_perplexity']:.2f}", f"{means['simulated_seconds'] / 60:.0f} min"]
        cells += [f"{means['goodput']:.2f}", f"{100 * lost:.1f} %", f"{means['lost_rounds']:.0f}", str(len(runs))]
        lines.append([*key, *cells])
    return markdown_table(lines)


def made(*names: str) -> str:
    """Returns what made the results: versions, content of the data, and how long it took."""
    runs = summaries_of(names)
    versions = sorted({", ".join(f"{name} {version}" for name, version in run["versions"].items()) for run in runs})
    pythons = sorted({run["data"]["python_version"] for run in runs if "python_version" in run["data"]})
    backends = sorted({run["backend"] for run in runs})
    hashes = sorted({f"{run['data_hash'][:16]}…" for run in runs})
    hours = sum(run["host_seconds"] for run in runs) / 3600
    software = f"Python {', '.join(pythons)}, {'; '.join(versions)}"
    return (
        f"{len(runs)} runs, {hours:.1f} hours of one {'/'.join(backends)} core; {software}; "
        f"sha256 of the data {', '.join(hashes)}.\n"
    )


def commands(file: str, *names: str) -> str:
    """Returns what runs the results again: one command for each result file."""
    lines = []
    for result in files_of(names):
        runs = read_summaries([result])
        axes = {axis: list(dict.fromkeys(run["overrides"][axis] for run in runs)) for axis in runs[0]["overrides"]}
        sweep = ", ".join(f"{axis}: [{', '.join(map(str, values))}]" for axis, values in axes.items())
        chosen = ", ".join(f'"{variant}"' for variant in dict.fromkeys(run["variant"] for run in runs))
        seed = "" if "seed" in axes else f" seed={runs[0]['seed']}"
        lines.append(f"tardigrad run experiments/paper/{file}{seed} 'select=[{chosen}]' 'sweep={{{sweep}}}'")
    return "```text\n" + "\n".join(lines) + "\n```\n"


def benchmarked(name: str, *arguments: str) -> str:
    """Returns a table of the benchmark of all methods."""
    return benchmark.TABLES[name](pd.read_csv(HERE / "results/methods/benchmark.csv"), *arguments)


def scaled(name: str, scale: str) -> str:
    """Returns a table of the scaling laws."""
    return scaling.TABLES[name](pd.read_csv(HERE / "results/methods/scaling.csv"), scale)


def planned(file: str) -> str:
    """Returns the tables of a plan."""
    return plan_markdown(read_json(HERE / "results/clusters" / file, Any, "Make the plan again")["variants"])


def really_run(name: str) -> str:
    """Returns a table of real runs and what was predicted of them."""
    return real_tables.TABLES[name](pd.read_csv(HERE / "results/clocks/real.csv"))


_TABLES: Mapping[str, Callable[..., str]] = {
    "agreement": bandwidth.counted,
    "bandwidth": bandwidth.written,
    "benchmark": benchmarked,
    "by_shard": by_shard,
    "commands": commands,
    "compare": compare,
    "goodput": goodput.written,
    "grids": tuned,
    "l40s": l40s.written,
    "losses": losses,
    "made": made,
    "scaling": scaled,
    "plan": planned,
    "real": really_run,
}


def filled(text: str) -> str:
    """Returns a page with its tables made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_TABLES[block[2]](*block[3].split())}{block[4]}", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
