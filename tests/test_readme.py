"""What README says is true: its numbers, files, commands and examples."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from simulator import Workshop, check, expand
from simulator.cli.main import app
from simulator.experiment import Experiment, load_document
from simulator.experiment.file import merge
from simulator.experiment.schema.data import Data
from simulator.host import format as human
from tests.experiments import TINY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "experiments/results/quickstart"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def result_rows():
    """The rows that the committed results make."""
    runs = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
    for run in runs:
        cells = (
            run["variant"],
            human.perplexity(run["final_perplexity"]),
            human.ratio(run["final_perplexity"] / runs[0]["final_perplexity"]),
            human.short_duration(run["simulated_seconds"]),
            human.ratio(run["simulated_seconds"] / runs[0]["simulated_seconds"]),
            human.decimal(run["mean_staleness"]),
            human.count(run["max_staleness"]),
            human.percent(run["utilization"]),
        )
        yield f"| {' | '.join(cells)} |"


def test_the_table_shows_the_committed_results():
    head, *rows = re.findall(r"^\| variant .*?\n\n", README, re.MULTILINE | re.DOTALL)[0].strip().split("\n")
    assert head.count("|") == rows[0].count("|")
    assert rows[1:] == list(result_rows())


def test_the_results_are_those_of_the_quickstart_and_in_the_papers_order():
    runs = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
    points = expand(load_document(ROOT / "experiments/quickstart.yaml"))
    assert [run["variant"] for run in runs] == [point.variant for point in points]
    sync, nesterov, delayed, dynamic = runs
    assert dynamic["final_perplexity"] <= 1.02 * sync["final_perplexity"]
    assert dynamic["simulated_seconds"] < 0.4 * sync["simulated_seconds"]
    assert dynamic["final_perplexity"] < delayed["final_perplexity"] < nesterov["final_perplexity"]
    assert nesterov["final_perplexity"] > 1.2 * sync["final_perplexity"]


def test_files_that_are_named_exist():
    named = set(re.findall(r"(?:experiments|simulator)/[\w/.]+\w", README))
    assert len(named) >= 8
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_commands_that_are_named_exist():
    groups = {group.name: names_of(group.typer_instance) for group in app.registered_groups}
    commands = names_of(app)
    listed = re.findall(r"^tardigrad (\w+)(?: ([a-z]+))?(?: \| (\w+))?", blocks("text")[0], re.MULTILINE)
    assert {name for first, second, third in listed if not second for name in (first, third) if name} == commands
    assert {first: {second, third} - {""} for first, second, third in listed if second} == groups


def names_of(app):
    return {command.name or command.callback.__name__ for command in app.registered_commands}


def test_the_examples_of_data_are_valid():
    sources, partitions = (yaml.safe_load_all(blocks("yaml")[number].replace("\n", "\n---\n")) for number in (1, 2))
    read = [TypeAdapter(Data).validate_python(line["data"]) for line in sources if line]
    assert [data.source for data in read] == ["text", "jsonl", "parquet", "tfds"]
    assert [data.tokenizer.kind for data in read] == ["bytes", "bpe", "file", "sentencepiece"]
    changed = [read[1].model_dump() | line for line in partitions if line]
    assert [TypeAdapter(Data).validate_python(each).partition.kind for each in changed] == [
        "iid",
        "grouped",
        "dirichlet",
    ]


def test_the_example_file_is_valid(tmp_path):
    (tmp_path / "example.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    points = expand(load_document(tmp_path / "example.yaml"))
    assert len(points) == 2 * 3 * 2  # variants, seeds, sizes
    workshop = Workshop()
    assert [problem for point in points for problem in check(point.experiment, workshop)] == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_examples_run(number):
    code = blocks("python")[number]
    shorter = code.replace("budget.local_steps=400", "budget.local_steps=60").replace(
        "pretrain.steps=100", "pretrain.steps=2"
    )
    shorter = shorter.replace('["50ms", "2s"]', '["50ms"]')
    assert shorter != code or number == 1
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUMPY_DTYPE_PROMOTION"}
    printed = subprocess.run(
        [sys.executable, "-c", shorter], cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    ).stdout
    if number == 0:
        for variant in ("sync DiLoCo", "async Nesterov", "delayed Nesterov", "delayed Nesterov + DyLU"):
            assert variant in printed
        assert "perplexity_ratio" in printed


def test_the_examples_of_a_search_and_of_prices_are_valid(tmp_path):
    [searched], [priced] = (
        [block for block in blocks("yaml") if word in block] for word in ("search:", "price_per_hour:")
    )
    for number, block in enumerate((searched, priced)):
        changes = merge(TINY, yaml.safe_load(block))
        if number == 1:
            changes["cluster"]["devices"] = yaml.safe_load(block)["cluster"]["devices"]
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    points = expand(load_document(tmp_path / "0.yaml"))
    assert [list(point.searches) for point in points] == [["outer.learning_rate"]] * 3
    [point] = expand(load_document(tmp_path / "1.yaml"))
    assert check(point.experiment, Workshop()) == []
    assert point.experiment.cluster.currency == "USD"


def test_the_example_of_faults_is_valid():
    [block] = [block for block in blocks("yaml") if "faults:" in block]
    changes = yaml.safe_load(block)
    assert changes["cluster"]["faults"]["trace"] == "spot.csv"
    changes["cluster"]["faults"]["trace"] = str(ROOT / "experiments/faults/spot.csv")
    experiment = Experiment.model_validate(merge(TINY, changes))
    faults = experiment.cluster.faults
    assert faults is not None
    assert {name for name, value in faults if value is None} == {"departures", "server_outages"}


def test_the_page_of_the_sweep_has_the_numbers_of_its_results():
    runs = json.loads((ROOT / "experiments/results/sweeps/heterogeneity/summary.json").read_text(encoding="utf-8"))
    assert len(runs) == 64
    found = {}
    for run in runs:
        over = run["overrides"]
        key = over["cluster.devices.workers"], run["variant"], over["cluster.devices.profile"]
        found.setdefault(key, []).append(run)
    levels = ("none", "slight", "moderate", "very")
    page = (ROOT / "experiments/sweeps/README.md").read_text(encoding="utf-8")
    for workers in (4, 8):
        for variant in dict.fromkeys(run["variant"] for run in runs):
            cells = {"perplexity": [], "time": []}
            for level in levels:
                own, sync = found[workers, variant, level], found[workers, "sync DiLoCo", level]
                assert len(own) == 2
                time_s, sync_s = (sum(run["simulated_seconds"] for run in each) / 2 for each in (own, sync))
                cells["perplexity"].append(f"{sum(run['final_perplexity'] for run in own) / 2:.2f}")
                cells["time"].append(f"{time_s / 60:.1f} min ({time_s / sync_s:.2f}\u00d7)")
            for values in cells.values():
                assert f"| {workers} | {variant} | {' | '.join(values)} |" in page
    assert all((ROOT / "experiments/sweeps" / name).exists() for name in re.findall(r"\]\(([^)]+)\)", page))
