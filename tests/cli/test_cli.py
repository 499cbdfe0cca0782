import importlib
import inspect
import json
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import yaml

from simulator import Cache, read_runs
from simulator.cli import main
from simulator.experiment import Experiment, registry
from simulator.experiment import methods as methods_module
from simulator.experiment.methods import methods
from simulator.sweep.plan import PlannedRun, write_sweep
from tests.data.corpora import topics
from tests.experiments import TINY, outside

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.9}
SHARED = Cache()
DELAYED = {"optimizer": "delayed_nesterov", "learning_rate": 0.5, "momentum": 0.9, "buffer": 4}


def document(**changes):
    """The tiny experiment as a file with two variants."""
    base = {key: value for key, value in TINY.items() if key not in ("synchronization", "outer")}
    variants = {
        "sync": {"synchronization": {"kind": "barrier"}, "outer": NESTEROV},
        "delayed [Nesterov]": {"synchronization": {"kind": "asynchronous", "grace": "0.5s"}, "outer": DELAYED},
    }
    return base | {"budget": {"local_steps": 40}, "evaluate": {"windows": 8}, "variants": variants} | changes


@pytest.mark.drawn
def test_run_leaves_a_table_figures_and_records_that_pandas_opens(tardigrad, tmp_path):
    code, out, err = tardigrad(
        "run", "experiment.yaml", "--out", "results", experiment=document(sweep={"seed": [0, 1]}, pretrain={"steps": 7})
    )
    assert (code, err) == (0, "")  # quiet where standard error is not a terminal
    assert "delayed [Nesterov]" in out
    assert "n = 2" in out
    summary = json.loads((tmp_path / "results/summary.json").read_text())
    assert [(run["variant"], run["seed"], run["overrides"]) for run in summary] == [
        ("sync", 0, {"seed": 0}),
        ("sync", 1, {"seed": 1}),
        ("delayed [Nesterov]", 0, {"seed": 0}),
        ("delayed [Nesterov]", 1, {"seed": 1}),
    ]
    documented = (
        "final_perplexity final_loss simulated_seconds local_steps tokens server_updates mean_staleness max_staleness "
        "utilization bytes_sent host_seconds tokens_per_host_second"
    )
    for run in summary:
        assert all(isinstance(run[key], int | float) for key in documented.split())
    folder = tmp_path / "results/2-sync-seed-1"
    assert len(pd.read_parquet(folder / "events.parquet")) == 8
    assert len(pd.read_parquet(folder / "evaluations.parquet")) == 2
    assert yaml.safe_load((folder / "experiment.yaml").read_text())["seed"] == 1
    for name in ("perplexity_vs_time", "perplexity_vs_local_steps", "staleness", "timeline_sync"):
        for suffix in ("png", "svg"):
            assert (tmp_path / f"results/{name}.{suffix}").stat().st_size > 1000
    assert len(read_runs([tmp_path / "results"])) == 4


def test_settings_of_the_command_line_win_over_every_variant(tardigrad, tmp_path):
    code, *_ = tardigrad(
        "run", "experiment.yaml", "outer.learning_rate=0.125", "seed=5", "--variant", "sync", experiment=document()
    )
    assert code == 0
    resolved = yaml.safe_load((tmp_path / "runs/tiny/1-sync/experiment.yaml").read_text())
    assert (resolved["outer"]["learning_rate"], resolved["seed"], resolved["variant"]) == (0.125, 5, "sync")


def test_results_are_never_overwritten(tardigrad, tmp_path):
    settings = ("experiment.yaml", "--variant", "sync")
    for _ in range(2):
        assert tardigrad("timeline", *settings, experiment=document())[0] == 0
    assert (tmp_path / "runs/tiny-timeline-2/1-sync/events.parquet").exists()
    code, _, err = tardigrad("timeline", *settings, "--out", "runs/tiny-timeline")
    assert code == 2
    message = "the folder is not empty: choose another, or remove it first"
    assert err == f"tardigrad: --out = 'runs/tiny-timeline': {message}\n"


def test_timeline_trains_nothing(tardigrad, tmp_path):
    code, out, _ = tardigrad("timeline", "experiment.yaml", experiment=document())
    assert code == 0
    assert "compute" in out
    [first, _] = json.loads((tmp_path / "runs/tiny-timeline/summary.json").read_text())
    assert (first["trainer"], first["final_loss"], first["local_steps"]) == ("null", None, 40)
    assert (tmp_path / "runs/tiny-timeline/timeline_sync.png").exists()
    assert not (tmp_path / "runs/tiny-timeline/perplexity_vs_time.png").exists()


def test_of_many_points_no_timelines_are_drawn_and_it_is_said(tardigrad, tmp_path, monkeypatch):
    monkeypatch.setattr("simulator.cli.run._MOST_TIMELINES", 2)
    many = document() | {"sweep": {"cluster.network.latency": ["1ms", "2ms", "3ms"]}}
    code, out, _ = tardigrad("timeline", "experiment.yaml", "--variant", "sync", experiment=many)
    assert code == 0
    assert "more than 2 timelines are not drawn: name runs to tardigrad plot --figure timeline" in out
    drawn = {path.stem for path in (tmp_path / "runs/tiny-timeline").glob("*.png")}
    assert "utilization" in drawn
    assert not [name for name in drawn if name.startswith("timeline")]


@pytest.mark.drawn
def test_plot_draws_finished_runs_again(tardigrad, tmp_path):
    assert tardigrad("run", "experiment.yaml", "--variant", "sync", experiment=document())[0] == 0
    code, out, _ = tardigrad("plot", "runs/tiny", "--out", "figures")
    assert code == 0
    assert "figures/perplexity_vs_time.png" in out
    assert (tmp_path / "figures/perplexity_vs_time.svg").exists()
    code, _, err = tardigrad("plot", "nowhere")
    assert code == 2
    assert "nowhere: no such folder" in err


def test_compare_lays_results_beside_published_ones(tardigrad, tmp_path):
    reference = {
        "source": "a paper",
        "baseline": "sync",
        "results": [{"values": {"sync": 20.0, "delayed [Nesterov]": 21.0}}],
    }
    experiment = document(reference=reference, sweep={"seed": [0, 1]})
    code, out, _ = tardigrad("run", "experiment.yaml", experiment=experiment)
    assert code == 0
    assert "Published: a paper. Ratios are to sync, of the same seed." in out
    code, out, _ = tardigrad("compare", "experiment.yaml", "runs/tiny", "--markdown")
    assert code == 0
    assert re.search(r"\| delayed \[Nesterov\] \| 21.00 \| 1.050 \| [\d.]+ \| [\d.]+ \| .* \| 2 \|", out)
    code, _, err = tardigrad("compare", "experiment.yaml", "runs", experiment=experiment)
    assert (code, "runs/summary.json: cannot be read" in err) == (2, True)
    code, _, err = tardigrad("compare", "experiment.yaml", "runs/tiny", experiment=document())
    assert (code, "reference: is missing: the file names no published results" in err) == (2, True)


def test_plot_draws_against_what_is_asked(tardigrad, tmp_path):
    assert tardigrad("run", "experiment.yaml", "--variant", "sync", experiment=document())[0] == 0
    for against in ("tokens", "bytes_sent"):
        assert tardigrad("plot", "runs/tiny", "--out", "figures", "--against", against)[0] == 0
        assert (tmp_path / f"figures/perplexity_vs_{against}.png").exists()
    assert not (tmp_path / "figures/perplexity_vs_time.png").exists()


def test_every_mistake_is_reported_at_once(tardigrad):
    faulty = changed(
        seed=-1,
        inner={"optimizer": "adamz", "learning_rate": 0.1, "batch_size": 4},
        cluster={"devices": {"accelerators": [{"name": "A10O"}]}},
        data={"source": "text", "files": "absent/*.txt"},
    )
    code, _, err = tardigrad("validate", "experiment.yaml", "nothing", experiment=faulty)
    assert code == 2
    for part in (
        "seed = -1",
        "inner.optimizer = 'adamz'",
        "'A10O'",
        "matches no file",
        "nothing: a setting is written",
    ):
        assert part in err


def test_validate_counts_the_simulations(tardigrad):
    code, out, _ = tardigrad("validate", "experiment.yaml", experiment=document(sweep={"seed": [0, 1, 2]}))
    assert (code, out) == (0, "experiment.yaml: valid; 6 simulations of 2 variants, 3,504 parameters\n")


def test_commands_say_how_many_parameters_there_are_and_which_settings_have_no_effect(tardigrad):
    cluster = TINY["cluster"] | {"network": {"bytes_per_parameter": 0.5}}
    small = document(sweep={"model.width": [16, 32]}, cluster=cluster)
    what = "4 simulations of 2 variants, 3,504 to 13,152 parameters\n"
    note = "note: cluster.network.bytes_per_parameter = 0.5: decides time, bytes and cost; what is learned is as if "
    few = "note: evaluate.windows = 512: there are 249, which are evaluated\n"
    settings = ["budget.local_steps=20", "evaluate.windows=512", "inner.optimizer=sgd"]
    for command in (["validate"], ["timeline"], ["run", "--dry-run", "--rate", "1GFLOP/s"], ["run"]):
        code, out, error = tardigrad(command[0], "experiment.yaml", *settings, *command[1:], experiment=small)
        assert code == 0, error
        start = "valid; " if command == ["validate"] else ""
        assert out.startswith(f"experiment.yaml: {start}{what}{note}")
        assert out.count("note: ") == out.count(note) + out.count(few)
        assert out.count(few) == (command[0] != "timeline")


def test_what_does_not_fit_into_memory_is_said_once_for_every_size_and_refused_by_run_alone(tardigrad, tmp_path):
    topics(tmp_path / "texts", documents=3)
    text = {"source": "text", "files": "texts/*/*.txt", "partition": {"kind": "iid", "sizes": [1, 2, 2, 2]}}
    sizes = {"model.width": [16, 32], "seed": [0, 1]}
    experiment = document(data=text, compute={"memory": "100kB"}, sweep=sizes)
    code, out, err = tardigrad("validate", "experiment.yaml", experiment=experiment)
    first, second, *rest = out.splitlines()
    assert (code, err, first) == (
        0,
        "",
        "experiment.yaml: valid; 8 simulations of 2 variants, 7,360 to 20,864 parameters",
    )
    assert second == "`run` refuses on this machine what does not fit into its memory; `timeline` needs none of it:"
    told = [
        re.fullmatch(r"  (compute\.memory = '100 kB': is too little for a model of [\d,]+ .*)", line) for line in rest
    ]
    assert len(told) == 2
    for command in (["run"], ["run", "--dry-run"]):
        code, out, err = tardigrad(*command, "experiment.yaml")
        assert (code, out) == (2, "")
        line = 1 + yaml.safe_dump(experiment, sort_keys=False).splitlines().index("  memory: 100kB")
        places = re.sub(rf"^(tardigrad: )?experiment\.yaml:{line}: ", "", err, flags=re.MULTILINE).splitlines()
        assert places == [found[1] for found in told if found]
    for command in (["timeline"], ["data", "info"], ["data", "prepare"]):
        assert tardigrad(*command, "experiment.yaml")[::2] == (0, "")


FAST = {"devices": {"accelerators": [{"name": "A100", "count": 2}]}}


@pytest.mark.parametrize(
    ("changes", "amounts"),
    [
        ({"cluster": FAST, "budget": {"simulated_time": "1h"}}, r"up to [\d.]+ [GT] local steps in [\d.]+ [GT] rounds"),
        ({"budget": {"local_steps": 10**8}}, "up to 100 M local steps in 20 M rounds, and 0 evaluations"),
        ({"evaluate": {"every_simulated": "1us"}}, r"up to 40 local steps in 8 rounds, and [\d.]+ M evaluations"),
    ],
)
def test_validate_says_what_takes_very_long_and_refuses_nothing(tardigrad, changes, amounts):
    code, out, err = tardigrad("validate", "experiment.yaml", experiment=document(**changes))
    first, *notes, second = out.splitlines()
    assert all(note.startswith("note: evaluate.windows") for note in notes)
    assert (code, err, first) == (0, "", "experiment.yaml: valid; 2 simulations of 2 variants, 3,504 parameters")
    assert re.match(rf"[12] simulations? may take very long: {amounts}", second)
    assert second.endswith("`run --dry-run` says how long they take here")


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"simulated_time": "1h"}},
        {"cluster": FAST, "budget": {"local_steps": 40}},
        {"cluster": FAST | {"network": {"latency": "1s"}}, "budget": {"simulated_time": "1h"}},
    ],
)
def test_validate_says_nothing_of_what_takes_not_so_long(tardigrad, changes):
    code, out, _ = tardigrad("validate", "experiment.yaml", experiment=document(**changes))
    assert (code, out) == (0, "experiment.yaml: valid; 2 simulations of 2 variants, 3,504 parameters\n")


def test_data_that_do_not_fit_into_memory_leave_the_file_valid(tardigrad):
    clusters = {"source": "gaussian-clusters", "points": 1000, "dimension": 2**31 - 1, "evaluation_points": 10}
    experiment = document(model={"kind": "mlp", "hidden": [2]}, data=clusters)
    code, out, _ = tardigrad("validate", "experiment.yaml", experiment=experiment)
    assert (code, out.count("\n")) == (0, 3)
    assert "  out of memory: " in out
    assert tardigrad("timeline", "experiment.yaml")[0] == 0
    code, _, err = tardigrad("run", "experiment.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "out of memory: " in err


@pytest.mark.parametrize("command", ["profiles", "models", "schema", "--help", "--version"])
def test_listing_commands(tardigrad, command):
    expected = {
        "profiles": "0.58, 0.75, 1.51, 3.33",
        "models": "150,034,304",
        "schema": "variants",
        "--help": "validate",
        "--version": f"tardigrad {version('tardigrad')}\n",
    }
    code, out, _ = tardigrad(command)
    assert code == 0
    assert expected[command] in out


def changed(**changes):
    return document() | changes


BAD_INPUT = {
    "misspelt key": (changed(sed=0), "sed = 0: unknown key; did you mean 'seed'?"),
    "wrong unit": (
        changed(cluster={"devices": TINY["cluster"]["devices"], "network": {"latency": "50mss"}}),
        "cluster.network.latency = '50mss': 'mss' is not a unit of duration; did you mean 'ms'?",
    ),
    "negative speed": (
        changed(cluster={"devices": {"seconds_per_step": [1.0, -2.0]}}),
        "cluster.devices.seconds_per_step.1 = -2.0: must be above 0",
    ),
    "N = 0": (
        changed(variants={"v": {"synchronization": {"kind": "barrier"}, "outer": DELAYED | {"buffer": 0}}}),
        "variants.v.outer.buffer = 0: must be at least 1",
    ),
    "c > 1/N": (
        changed(variants={"v": {"synchronization": {"kind": "barrier"}, "outer": DELAYED | {"c": 0.3}}}),
        "c = 0.3: is above 1/buffer = 0.25",
    ),
    "more shards than documents": (
        changed(data={"source": "text", "files": "three/*.txt", "shards": 8}),
        "data.shards = 8",
    ),
    "an empty corpus": (changed(data={"source": "text", "files": "empty.txt"}), "data.files"),
    "no such file": (changed(data={"source": "text", "files": "absent/*.txt"}), "matches no file"),
    "a context longer than the documents": (
        changed(
            data={"source": "text", "files": "three/*.txt", "shards": 2},
            model={"kind": "transformer", "layers": 1, "width": 16, "heads": 2, "context": 5000},
        ),
        "model.context = 5000",
    ),
    "not a mapping": ("- 1\n- 2\n", "expected a mapping"),
    "not YAML": ("name: [1, 2\n", "not valid YAML"),
    "an unknown optimizer": (
        changed(inner={"optimizer": "adamz", "learning_rate": 0.1, "batch_size": 4}),
        "inner.optimizer = 'adamz': no such optimizer; did you mean 'adam",
    ),
}


COMMANDS = (
    ("validate",),
    ("run",),
    ("run", "--dry-run"),
    ("timeline",),
    ("data", "prepare"),
    ("data", "info"),
)
LEFT_OUT = object()
NESTED = {
    "name": "",
    "description": [],
    "variant": {},
    "scale": 1,
    "seed": -1,
    "model": {"kind": "transformr"},
    "data": {"source": "text", "files": []},
    "cluster": {"devices": {"seconds_per_step": [1, -1]}},
    "inner": TINY["inner"] | {"batch_size": 0},
    "local_steps": {"kind": "dynamik"},
    "shard_choice": {"kind": "fixd"},
    "synchronization": {"kind": "asynchronous", "grace": -1},
    "outer": {"optimizer": "nesterov"},
    "method": {"kind": "diloko"},
    "schedule": {"fragments": 0},
    "topology": {"kind": "sever"},
    "offer": {"weights": "maybe"},
    "compression": {"kind": "fp3"},
    "aggregation": {"kind": "meen"},
    "view": {"kind": "look"},
    "merge": {"kind": "eagr"},
    "pretrain": {"steps": -1},
    "budget": {"local_steps": 0},
    "evaluate": {"windows": 0},
    "compute": {"memory": "many"},
    "checkpoint": {"keep": 0},
}


@pytest.mark.parametrize("section", Experiment.model_fields)
def test_a_mistake_in_a_section_ends_in_one_clear_message_in_every_command(tardigrad, tmp_path, monkeypatch, section):
    monkeypatch.setattr(Cache, "once", SHARED.once)
    topics(tmp_path / "texts", documents=3)
    valid = TINY | {
        "data": {"source": "text", "files": "texts/*/*.txt", "partition": {"kind": "iid", "sizes": [1, 2, 2, 2]}},
        "inner": TINY["inner"] | {"optimizer": "sgd", "schedule": {"kind": "cosine", "warmup_steps": 2}},
        "pretrain": {"steps": 5, "optimizer": "sgd"},
    }
    required = Experiment.model_fields[section].is_required()
    for mistake in (NESTED[section], 3.5, *([None, LEFT_OUT] if required else [])):
        others = {name: value for name, value in valid.items() if name != section}
        said = []
        for command in COMMANDS:
            given = others if mistake is LEFT_OUT else others | {section: mistake}
            code, out, err = tardigrad(*command, "experiment.yaml", experiment=given)
            assert (code, out) == (2, "")
            said.append(err)
        [message] = set(said)
        assert message.startswith("tardigrad: experiment.yaml:")
        assert f" {section}" in message
        assert message.count("\n") == 1


@pytest.mark.parametrize("name", BAD_INPUT)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_bad_input_ends_in_one_clear_message(tardigrad, tmp_path, command, name):
    experiment, message = BAD_INPUT[name]
    (tmp_path / "three").mkdir()
    for index in range(3):
        (tmp_path / f"three/{index}.txt").write_text(f"document {index}. " * 40)
    (tmp_path / "empty.txt").write_text("")
    code, out, err = tardigrad(command, "experiment.yaml", experiment=experiment)
    assert (code, out) == (2, "")
    assert err.startswith("tardigrad: ")
    assert message in err
    assert "Traceback" not in err
    assert "pydantic" not in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_mistake_is_placed_at_its_line(tardigrad):
    text = yaml.safe_dump(changed(inner={"optimizer": "adamz", "learning_rate": 0.1, "batch_size": 4}), sort_keys=False)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "adamz" in row)
    _, _, err = tardigrad("validate", "experiment.yaml", experiment=text)
    assert f"experiment.yaml:{line}: inner.optimizer" in err


def test_paths_of_options_may_begin_with_a_home_folder(tardigrad, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me").mkdir()
    (tmp_path / "me/e.yaml").write_text(yaml.safe_dump(document()))
    (tmp_path / "me/own.py").write_text("")
    assert tardigrad("timeline", "~/e.yaml", "--out=~/[runs]", "--plugin=~/own.py", "--variant", "sync")[0] == 0
    assert tardigrad("trace", "~/[runs]", "--out=~/trace.json")[0] == 0
    assert tardigrad("verify", "~/[runs]")[0] == 0
    assert (tmp_path / "me/[runs]/1-sync/events.parquet").exists()
    assert (tmp_path / "me/trace.json").exists()
    assert not list(tmp_path.glob("~*"))


@pytest.mark.parametrize("out", ["occupied", "occupied/below"])
def test_an_unwritable_output_folder_is_refused_before_anything_runs(tardigrad, tmp_path, out):
    (tmp_path / "occupied").write_text("a file")
    code, _, err = tardigrad("run", "experiment.yaml", "--out", out, experiment=document())
    assert code == 2
    assert err.startswith(f"tardigrad: {out}: ")
    assert err.count("\n") == 1


def test_an_unknown_variant_names_the_nearest(tardigrad):
    code, _, err = tardigrad("run", "experiment.yaml", "--variant", "snyc", experiment=document())
    assert (code, "did you mean 'sync'?" in err) == (2, True)


def test_a_run_in_which_nothing_arrives_ends_in_a_table(tardigrad, tmp_path):
    short = document(budget={"simulated_time": "1s"})
    code, out, err = tardigrad("timeline", "experiment.yaml", "--out", "results", experiment=short)
    assert (code, err) == (0, "")
    assert "2 timelines and 0 figures" in out


def test_methods_lists_all_and_explains_one(tardigrad, tmp_path):
    code, out, _ = tardigrad("methods")
    assert code == 0
    assert set(methods()) <= set(out.split())
    code, out, _ = tardigrad("methods", "heloco")
    assert code == 0
    for part in ("arXiv 2606.00271", r"\bar\theta = \theta - \epsilon \mu m", "synchronization, view, outer", "0.7"):
        assert part in out
    code, _, err = tardigrad("methods", "helocco")
    assert (code, "no such method; did you mean 'heloco'?" in err) == (2, True)


def test_a_method_of_ones_own_is_listed_too(tardigrad, tmp_path, monkeypatch):
    monkeypatch.setattr(methods_module, "_REGISTERED", {})
    (tmp_path / "own.py").write_text(
        "from simulator import register_method\n"
        "def later(overlap: int):\n"
        '    """Everything later."""\n'
        "    return {'schedule': {'overlap': overlap}}\n"
        "register_method('later', later)\n"
    )
    code, out, _ = tardigrad("methods", "later", "--plugin", "own.py")
    assert (code, "Everything later." in out, "overlap" in out) == (0, True, True)


def test_the_committed_page_of_methods_is_current(tardigrad, tmp_path):
    assert tardigrad("methods", "--page", "page.md")[0] == 0
    made = (Path(__file__).parents[2] / "experiments/methods/methods.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == made, "make it anew with tardigrad methods --page FILE"


def test_many_runs_have_a_row_each(tardigrad, tmp_path):
    rates = {"inner.learning_rate": [round(0.001 * number, 3) for number in range(1, 8)]}
    code, out, err = tardigrad("timeline", "experiment.yaml", "--out", "results", experiment=document(sweep=rates))
    assert (code, err) == (0, "")
    assert "14 timelines" in out
    assert {path.name for path in (tmp_path / "results").glob("staleness*.png")} == {"staleness.png"}


def test_an_interruption_while_jax_computes_ends_without_a_crash(tmp_path):
    text = yaml.safe_dump(document(budget={"local_steps": 10**7}), sort_keys=False)
    (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", "from simulator.cli.main import main; main()", "run", "experiment.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, env=outside(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 60
        while not (tmp_path / "runs/tiny").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    stands = r"tardigrad: stopped by SIGINT; sync stands after [\d,]+ server updates?: go on with --resume .*\n"
    assert re.fullmatch(stands, err)


def test_runs_that_finished_survive_an_interruption(tardigrad, tmp_path, monkeypatch):
    from simulator.sweep import task as module

    simulate = module.simulate

    def interrupted(experiment, **kwargs):
        if experiment.variant != "sync":
            raise KeyboardInterrupt
        return simulate(experiment, **kwargs)

    monkeypatch.setattr(module, "simulate", interrupted)
    code, _, err = tardigrad("run", "experiment.yaml", experiment=document())
    assert (code, err) == (130, "tardigrad: interrupted; what had been written down is kept\n")
    assert len(json.loads((tmp_path / "runs/tiny/summary.json").read_text())) == 1
    assert len(read_runs([tmp_path / "runs/tiny"])) == 1


PRICES = {"devices": {**TINY["cluster"]["devices"], "price_per_hour": 36.0}, "currency": "EUR"}


def test_a_timeline_shows_what_it_costs(tardigrad, tmp_path):
    code, out, _ = tardigrad("timeline", "experiment.yaml", "--out", "results", experiment=document(cluster=PRICES))
    assert code == 0
    assert re.search(r"data +money\n.*sent +EUR\n", out)
    [first, _] = json.loads((tmp_path / "results/summary.json").read_text())
    assert first["currency"] == "EUR"
    assert first["money"] == pytest.approx(4 * 36.0 * first["simulated_seconds"] / 3600)
    assert f"{first['money']:.2f}" in out
    assert tardigrad("verify", "results")[0] == 0
    without = tardigrad("timeline", "experiment.yaml", "--out", "free", experiment=document())[1]
    assert "money" not in without


def test_compare_says_where_results_were_made_with_other_settings(tardigrad, tmp_path):
    reference = {"source": "a paper", "baseline": "sync", "results": []}
    sizes = {"small": {"inner.batch_size": 2}, "large": {"inner.batch_size": 4}}
    experiment = document(reference=reference, sweep={"size": sizes, "seed": [0]}, budget={"local_steps": 20})
    assert tardigrad("run", "experiment.yaml", "--out", "as-it-is", experiment=experiment)[0] == 0
    assert tardigrad("run", "experiment.yaml", "--out", "other", "inner.learning_rate=0.5", "sweep.seed=[1]")[0] == 0
    code, out, err = tardigrad("compare", "experiment.yaml", "as-it-is", "--markdown")
    assert (code, err) == (0, "")
    assert "| size=small | sync |" in out
    code, out, err = tardigrad("compare", "experiment.yaml", "as-it-is", "other", "other/summary.json", "--markdown")
    assert code == 0
    assert "| size=small, learning_rate=0.5 | sync |" in out
    first, second = err.splitlines()
    assert first == "tardigrad: note: 4 runs have the settings and the seed of another: counted once"
    assert second == (
        "tardigrad: note: sync, size=small; sync, size=large; delayed [Nesterov], size=small; delayed [Nesterov], "
        "size=large: made with other settings than experiment.yaml has: inner.learning_rate is 0.5, there 0.01"
    )
    smaller = document(reference=reference, sweep={"size": {"small": sizes["small"]}})
    _, _, err = tardigrad("compare", "experiment.yaml", "as-it-is", "--markdown", experiment=smaller)
    assert "size=large: made with other settings than experiment.yaml has: sweep.size has no value 'large'; " in err
    assert "budget.local_steps is 20, there 40" in err
    (tmp_path / "alone.json").write_bytes((tmp_path / "as-it-is/summary.json").read_bytes())
    _, _, err = tardigrad("compare", "experiment.yaml", "alone.json", "--markdown", experiment=experiment)
    assert err == (
        "tardigrad: note: of 4 runs there are summaries alone, which do not say whether the settings are those of "
        "experiment.yaml\n"
    )


def test_explain_says_what_a_key_is_and_below_which_kinds(tardigrad):
    code, out, err = tardigrad("explain", "synchronization.grace")
    assert (code, err) == (0, "")
    assert [re.sub("  +", "  ", line).strip() for line in out.splitlines()] == [
        "synchronization.grace  (synchronization.kind is asynchronous)",
        "meaning  tau_grace; infinite makes every group a full round",
        "value  a duration or infinite",
        "unit  s, or as written: ns, us, µs, ms, s, min, h, d",
        "default  0.0",
        "example  synchronization: {kind: asynchronous, grace: 2s}",
    ]
    code, out, _ = tardigrad("explain")
    assert code == 0
    assert all(f"\n{section}: " in out for section in ("model", "data", "cluster", "outer", "budget", "sweep"))
    code, out, err = tardigrad("explain", "outer.momentm")
    assert (code, out, err) == (2, "", "tardigrad: outer.momentm: unknown key; did you mean 'momentum'?\n")


def test_explain_knows_what_a_plugin_registers(tardigrad, tmp_path):
    (tmp_path / "own.py").write_text(
        "import optax\nfrom simulator import register_outer\n"
        "def explained_own(learning_rate, share: float = 0.25):\n    'Steps by a share.'\n"
        "    return optax.sgd(learning_rate * share)\n"
        "register_outer('explained_own', explained_own)\n"
    )
    with registry.emptied():
        code, out, _ = tardigrad("explain", "outer", "--plugin", "own.py")
        assert code == 0
        assert "explained_own    Steps by a share." in out
        code, out, _ = tardigrad("explain", "outer.arguments.share", "--plugin", "own.py")
    assert code == 0
    assert "outer.optimizer is explained_own" in out
    assert "outer: {optimizer: explained_own, learning_rate: 0.7, arguments: {share: 0.25}}" in out


@pytest.mark.parametrize("command", [["explain"], ["explain", "cluster.devices"], ["explain", "data.tokenizer.path"]])
def test_explanations_are_whole_in_a_narrow_terminal(tardigrad, monkeypatch, command):
    wide = tardigrad(*command)[1]
    monkeypatch.setenv("COLUMNS", "40")
    code, narrow, _ = tardigrad(*command)
    assert code == 0
    assert max(map(len, narrow.splitlines())) <= 40
    short = {word for word in re.findall(r"\w+", wide) if len(word) <= 12}  # which have to be broken nowhere
    assert len(short) > 20
    assert short - set(re.findall(r"\w+", narrow)) == set()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("extends=other.yaml", "extends = 'other.yaml': cannot be set here: write into the file what it extends"),
        ("outer.optimizer=Nesterov", "outer.optimizer = 'Nesterov': unknown optimizer; did you mean 'nesterov'?"),
        (
            "outer={optimizer: Delayed-Nesterov}",
            "outer.optimizer = 'Delayed-Nesterov': unknown optimizer; did you mean",
        ),
    ],
)
def test_a_name_is_told_before_what_it_lacks(tardigrad, setting, message):
    code, _, err = tardigrad("validate", "experiment.yaml", setting, experiment=document())
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"tardigrad: {message}")


def test_validate_says_where_there_are_fewer_windows_than_are_asked_for(tardigrad):
    code, out, _ = tardigrad("validate", "experiment.yaml", "evaluate.windows=500000", experiment=document())
    assert code == 0
    assert re.search(r"^note: evaluate\.windows = 500000: there are [\d,]+, which are evaluated$", out, re.MULTILINE)


@pytest.mark.parametrize("command", [["profiles"], ["models"], ["sweep", "status", "results"]])
def test_lists_are_whole_in_a_narrow_terminal(tardigrad, tmp_path, monkeypatch, command):
    plan = [PlannedRun(0, "sync, inner.learning_rate=0.125, seed=1234567", "1", {}, {})]
    write_sweep(tmp_path / "results", "x", plan)
    wide = tardigrad(*command)[1]
    monkeypatch.setenv("COLUMNS", "40")
    code, narrow, _ = tardigrad(*command)
    assert code == 0
    assert max(map(len, narrow.splitlines())) <= 40
    numbers = re.findall(r"\d[\d,.]*\d", wide)
    assert numbers
    assert [number for number in numbers if number not in narrow] == []


def test_the_points_of_a_dry_run_are_whole_in_a_narrow_terminal(tardigrad, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    experiment = document(budget={"local_steps": 12_345})
    code, out, _ = tardigrad("run", "experiment.yaml", "--dry-run", "--rate", "1TFLOP/s", experiment=experiment)
    assert code == 0
    table = out.partition("2 points")[0].partition("\n")[2]  # behind what is simulated
    assert max(map(len, table.splitlines())) <= 40
    for text in ("12,345", "395 k", "memory,", "cost", "delayed", "[Nesterov]"):
        assert text in table


@pytest.mark.parametrize(("name", "module", "options"), [command[1:] for command in main.COMMANDS])
def test_a_command_passes_on_all_of_its_options_and_nothing_else(name, module, options):
    function = getattr(importlib.import_module(f"simulator.cli.{module}"), options.__name__)
    inspect.signature(function).bind(**dict.fromkeys(inspect.signature(options).parameters))
