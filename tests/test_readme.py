"""README and the other pages say what is true: their numbers, files, links, commands and examples."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from simulator import Cache, check, expand
from simulator.cli.main import app
from simulator.experiment import load_document
from simulator.experiment.file import merge
from simulator.host import format as human
from tests.experiments import TINY, outside

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        *(path for folder in ("experiments", "notebooks") for path in (ROOT / folder).rglob("README.md")),
    ]
}
README = PAGES["README.md"]
RESULTS = ROOT / "experiments/results/quickstart"


def blocks(language, page="README.md"):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def every(language):
    """The page and number of every block."""
    return [(page, number) for page in PAGES for number in range(len(blocks(language, page)))]


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


def test_the_two_commands_install_and_run_and_install_and_test():
    run, tests = (block.strip() for block in blocks("bash"))
    install = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv pip install -q -p .venv -e"
    assert run == f"{install} . && .venv/bin/tardigrad run experiments/quickstart.yaml"
    assert tests == f"{install} '.[dev]' && .venv/bin/pytest"
    [found] = re.findall(r"test_command=\$\((awk .*)\)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert (
        subprocess.run(found, shell=True, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip() == tests
    )


def test_the_citation_has_the_present_version():
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    [block] = blocks("bibtex")
    assert re.findall(r"^@(\w+)", block, re.MULTILINE) == ["article", "software"]
    assert f"version = {{{version}}}" in block


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    named = set(re.findall(r"(?:experiments|simulator)/[\w/.]+\w", re.sub(r"\]\([^)]*\)", "", PAGES[page])))
    assert page != "README.md" or len(named) >= 8
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def links(page):
    """The targets of a page's links and pictures in the repository: path and anchor."""
    found = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", PAGES[page])
    for link in (either or other for either, other in found):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            yield Path(os.path.normpath(target)), anchor


def headings(text):
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in headings(path.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_every_page_can_be_reached_from_the_first():
    reached, new = set(), {"README.md"}
    while new:
        reached |= new
        targets = {path / "README.md" if path.is_dir() else path for page in new for path, _ in links(page)}
        new = {page for page in PAGES if ROOT / page in targets} - reached
    assert reached == set(PAGES)


def test_commands_that_are_named_exist():
    groups = {group.name: names_of(group.typer_instance) for group in app.registered_groups}
    commands = names_of(app)
    listed = re.findall(r"^tardigrad (\w+)(?: ([a-z]+))?(?: \| (\w+))?", blocks("text")[0], re.MULTILINE)
    assert {name for first, second, third in listed if not second for name in (first, third) if name} == commands
    assert {first: {second, third} - {""} for first, second, third in listed if second} == groups


def names_of(app):
    return {command.name or command.callback.__name__ for command in app.registered_commands}


def command_lines(page):
    """The lines that call the command, without comments; what is indented below one goes on with it."""
    for block in [*blocks("text", page), *blocks("bash", page)]:
        command = None
        for line in block.split("\n"):
            text = re.split(r"\s#\s", line)[0]
            if text.startswith("tardigrad "):
                command = text
                yield command, text
            elif command and re.match(r"\s+-", text):
                yield command, text


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_of_every_page_exist(page):
    for command, text in command_lines(page):
        found = typer.main.get_command(app)
        for word in command.split()[1:3]:
            found = found.commands[word] if hasattr(found, "commands") else found
        options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)) <= options, text


def test_commands_and_links_are_found_on_the_pages():
    found = {page for page in PAGES if list(command_lines(page))}
    assert found >= {"README.md", *(f"experiments/{name}README.md" for name in ("", "data/", "faults/", "sweeps/"))}
    assert len([text for command, text in command_lines("experiments/README.md") if command != text]) >= 7  # of `run`
    assert [page for page in PAGES if not list(links(page))] == []


METHODS = "experiments/methods/README.md"
OWN = (
    ("README.md", 1),
    (METHODS, 1),
    (METHODS, 2),
    (METHODS, 3),
)  # the files that name methods of one's own, which are tested below


def folder_like(page, folder):
    """Makes a folder in which an example of a page can be a file: what lies beside the page lies there."""
    for beside in (ROOT / page).parent.iterdir():
        (folder / beside.name).symlink_to(beside)
    return folder


def example(page, number, folder, *settings):
    """The points of a YAML example: of a whole file, or of a part that is laid over a tiny experiment.

    Where a block has one key several times, its lines are alternatives.
    """
    block = blocks("yaml", page)[number]
    keys = re.findall(r"^(\w+):", block, re.MULTILINE)
    points = []
    for place, text in enumerate([block] if len(set(keys)) == len(keys) else block.strip().split("\n")):
        part, file = yaml.safe_load(text), folder / f"example{number}_{place}.yaml"
        if "name" not in part:
            part = {"data": {"source": "jsonl", "files": "dump/*.json.gz", **part}} if "partition" in part else part
            whole = merge(TINY, part)
            if "devices" in part.get("cluster", {}):
                whole["cluster"]["devices"] = part["cluster"]["devices"]
            text = yaml.safe_dump(whole)
        file.write_text(text, encoding="utf-8")
        points += expand(load_document(file, settings))
    return points


@pytest.mark.parametrize(("page", "number"), [each for each in every("yaml") if each not in OWN])
def test_yaml_examples_are_valid(page, number, tmp_path):
    assert example(page, number, folder_like(page, tmp_path))


def test_the_examples_of_data_are_what_they_say(tmp_path):
    page = "experiments/data/README.md"
    data = [point.experiment.data for point in example(page, 0, tmp_path)]
    assert [each.source for each in data] == ["text", "jsonl", "parquet", "tfds"]
    assert [each.tokenizer.kind for each in data] == ["bytes", "bpe", "file", "sentencepiece"]
    kinds = [point.experiment.data.partition.kind for point in example(page, 1, tmp_path)]
    assert kinds == ["iid", "grouped", "dirichlet", "routed"]


@pytest.mark.parametrize(
    ("page", "number", "settings", "count"),
    [
        ("README.md", 0, [], 2 * 3),  # variants, seeds
        ("experiments/README.md", 0, [], 2 * 3 * 2),  # variants, seeds, sizes
        ("experiments/README.md", 1, [], 2 * 2),  # variants, latencies
        ("experiments/README.md", 1, ["scale=gpu"], 2 * 2),
    ],
)
def test_the_example_files_are_valid(page, number, settings, count, tmp_path):
    points = example(page, number, folder_like(page, tmp_path), *settings)
    assert len(points) == count
    cache = Cache()
    assert [problem for point in points for problem in check(point.experiment, cache, data=not settings)] == []


def shorter(text):
    """An example with fewer steps, of a smaller model."""
    small = 'pretrain.steps=2", "evaluate.windows=16", "model={layers: 1, width: 16, context: 16}'
    few = {"budget.local_steps=400": "budget.local_steps=60", "pretrain.steps=100": small}
    for long, short in {**few, '["50ms", "2s"]': '["50ms"]'}.items():
        text = text.replace(long, short)
    return text


def test_there_are_python_examples():
    notebooks = [("notebooks/README.md", 0), ("notebooks/README.md", 1)]
    assert every("python") == [("README.md", 0), (METHODS, 0), (METHODS, 1), (METHODS, 2), *notebooks]


@pytest.mark.parametrize(("page", "number"), every("python"))
def test_the_python_examples_run(page, number):
    code = blocks("python", page)[number]
    assert shorter(code) != code or page in ("README.md", METHODS)
    printed = subprocess.run(
        [sys.executable, "-c", shorter(code)], cwd=ROOT, check=True, capture_output=True, text=True, env=outside()
    ).stdout
    if (page, number) == ("notebooks/README.md", 0):
        for variant in ("sync DiLoCo", "async Nesterov", "delayed Nesterov", "delayed Nesterov + DyLU"):
            assert variant in printed
        assert "perplexity_ratio" in printed


TRAINED = """
from simulator import import_plugins, load, simulate

import_plugins("my_methods.py")
small = ["model={layers: 1, width: 16, context: 16}", "data={source: synthetic, tokens: 20000}", "pretrain.steps=2"]
few = ["budget.local_steps=60", "inner.local_steps=5", "evaluate.windows=16"]
*quickstart, own = load("own.yaml", *small, *few)
assert own.variant == "majority + discounted"
print(simulate(own).summary["server_updates"])
"""


def test_the_method_of_ones_own_runs_beside_the_quickstarts(tmp_path):
    folder_like("README.md", tmp_path)
    (tmp_path / "my_methods.py").write_text(blocks("python")[0], encoding="utf-8")
    (tmp_path / "own.yaml").write_text(blocks("yaml")[OWN[0][1]], encoding="utf-8")
    [arguments] = re.findall(r"`tardigrad run (own.yaml .*?)`", README)
    validate = ["from simulator.cli.main import main; main()", "validate", *arguments.split()]
    valid, updates = (
        subprocess.run(
            [sys.executable, "-c", *call], cwd=tmp_path, check=True, capture_output=True, text=True, env=outside()
        ).stdout
        for call in (validate, [TRAINED])
    )
    assert "valid; 5 simulations of 5 variants" in valid
    assert int(updates) == 60 / 5


SMALL = [
    "model={kind: mlp, hidden: [8]}",
    "data={source: gaussian-clusters, dimension: 5, evaluation_points: 64}",
    "pretrain.steps=0",
    "budget.local_steps=360",
]


def printed_by(code, folder):
    """The words that a process prints which runs code beside the files of a folder."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=outside()).stdout.split()


def test_a_method_of_ones_own_is_found_through_its_file(tmp_path):
    folder_like(METHODS, tmp_path)
    (tmp_path / "my_methods.py").write_text(blocks("python", METHODS)[0], encoding="utf-8")
    (tmp_path / "halfway.yaml").write_text(blocks("yaml", METHODS)[1], encoding="utf-8")
    code = f"""
from simulator import load, simulate
[own] = load({str(tmp_path / "halfway.yaml")!r}, *{SMALL})
record = simulate(own)
print(own.experiment.schedule.overlap, record.summary["server_updates"])
"""
    assert printed_by(code, tmp_path) == ["10", str(360 // 30 // 4)]


def test_a_view_of_ones_own_reads_what_its_outer_optimizer_remembers(tmp_path):
    folder_like(METHODS, tmp_path)
    (tmp_path / "last_two.py").write_text(blocks("python", METHODS)[1], encoding="utf-8")
    (tmp_path / "last-two.yaml").write_text(blocks("yaml", METHODS)[2], encoding="utf-8")
    code = f"""
from simulator import load, simulate
points = load({str(tmp_path / "last-two.yaml")!r}, *{SMALL})
points += load({str(tmp_path / "last-two.yaml")!r}, *{SMALL}, "view={{kind: parameters}}", variant="last two")
print(*(simulate(point).summary["final_loss"] for point in points))
"""
    diloco, last_two, without = map(float, printed_by(code, tmp_path))
    assert last_two != diloco
    assert without == pytest.approx(diloco, rel=1e-6)


def test_slots_of_ones_own_are_found_through_their_file(tmp_path):
    folder_like(METHODS, tmp_path)
    (tmp_path / "my_slots.py").write_text(blocks("python", METHODS)[2], encoding="utf-8")
    (tmp_path / "growing.yaml").write_text(blocks("yaml", METHODS)[3], encoding="utf-8")
    code = f"""
from simulator import load, simulate
from simulator.verify import verify
[own] = load({str(tmp_path / "growing.yaml")!r}, *{SMALL})
record = simulate(own)
print(*record.rounds["local_steps"][::4], own.experiment.offer.kind, verify(record))
"""
    assert printed_by(code, tmp_path) == ["5", "10", "20", "30", "30", "direction", "[]"]


def test_the_examples_of_a_search_and_of_prices_are_what_they_say(tmp_path):
    points = example("experiments/sweeps/README.md", 0, tmp_path)
    assert [list(point.searches) for point in points] == [["outer.learning_rate"]] * 3
    [point] = example("experiments/README.md", 2, tmp_path)
    assert check(point.experiment, Cache()) == []
    assert point.experiment.cluster.currency == "USD"


def test_the_example_of_faults_has_every_kind_but_two(tmp_path):
    page = "experiments/faults/README.md"
    [point] = example(page, 0, folder_like(page, tmp_path))
    faults = point.experiment.cluster.faults
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
