"""`tardigrad plot` over records that nothing had to be trained for."""

import io
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from simulator.report import fonts
from tests.record.builders import build_record

pytestmark = pytest.mark.drawn


@pytest.fixture
def runs(tmp_path):
    """A sweep over two axes, of two variants, with prices."""
    folder = tmp_path / "runs"
    for number, (variant, steps, rate) in enumerate(
        (variant, steps, rate) for variant in ("sync", "late") for steps in (50, 100) for rate in (0.1, 0.2)
    ):
        overrides = {"inner.local_steps": steps, "inner.learning_rate": rate}
        record = build_record(variant, local_steps=400, overrides=overrides, barrier=variant == "sync")
        prices = {"cluster": {"devices": {"price_per_hour": 2.0}, "currency": "EUR"}, "inner": {"local_steps": steps}}
        replace(record, experiment=record.experiment | prices).write(folder / str(number))
    return folder


def test_groups_by_keys_and_draws_targets_and_money(tardigrad, runs, tmp_path):
    code, out, err = tardigrad(
        *("plot", str(runs), "--out", "figures", "--by", "inner.local_steps", "--by", "variant"),
        *("--against", "money", "--target", "7", "--target", "1.5", "--baseline", "late", "--table", "csv"),
        *("--figure", "perplexity", "--figure", "utilization"),
    )
    assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "figures/perplexity_vs_money.csv")
    assert set(table["group"]) == {f"local_steps={h}, {v}" for h in (50, 100) for v in ("sync", "late")}
    assert {"money", "perplexity", "variant", "inner.local_steps"} <= set(table.columns)
    spent = pd.read_csv(tmp_path / "figures/time_to_target.csv")
    assert list(spent["target"]) == [7.0] * 4 + [1.5] * 4
    assert list(spent["reached"]) == [2] * 4 + [0] * 4
    assert "never" in out
    assert "EUR" in out
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    drawn = {f"{name}.{end}" for name in ("perplexity_vs_money", "utilization") for end in ("png", "svg", "csv")}
    assert names == drawn | {"time_to_target.csv"}


def test_a_heat_map_and_no_other_figures(tardigrad, runs, tmp_path):
    arguments = ("plot", str(runs), "--out", "figures", "--heatmap", "inner.learning_rate", "inner.local_steps")
    code, _, err = tardigrad(*arguments, "--value", "time_to_target", "--target", "7", "--table", "parquet")
    assert (code, err) == (0, "")
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {f"heat_map_time_to_target.{end}" for end in ("png", "svg", "parquet")}
    table = pd.read_parquet(tmp_path / "figures/heat_map_time_to_target.parquet")
    assert list(table.columns) == ["variant", "inner.local_steps", "0.1", "0.2"]


def test_a_law_of_a_value_over_a_key_and_no_other_figures(tardigrad, runs, tmp_path):
    for number, variant in enumerate(("sync", "late")):
        record = build_record(
            variant, local_steps=400, overrides={"inner.local_steps": 200, "inner.learning_rate": 0.1}
        )
        record.summary["final_loss"] *= 1.25
        record.write(runs / f"more {number}")
    keys = ("--x", "inner.local_steps", "--by", "variant", "--by", "inner.learning_rate")
    code, out, err = tardigrad("plot", str(runs), "--value", "final_loss", *keys, "--out", "figures", "--table", "csv")
    assert (code, err) == (0, "")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"final_loss_vs_local_steps.{end}" for end in ("png", "svg", "csv")
    }
    rate = ("--value", "final_loss", *keys, "--fit", "power")
    code, out, err = tardigrad("plot", str(runs), *rate)
    assert (code, out) == (2, "")
    assert "sync, learning_rate=0.2: inner.local_steps has 2 values (50, 100), and a power law needs 3" in err
    for folder in runs.iterdir():
        if folder.name in ("1", "3", "5", "7"):  # of the other learning rate
            shutil.rmtree(folder)
    code, out, err = tardigrad("plot", str(runs), *rate, "--out", "laws", "--table", "csv")
    assert (code, err) == (0, "")
    laws = pd.read_csv(tmp_path / "laws/power_law_final_loss.csv")
    u, same = np.log([50, 100, 200]), np.log([1, 1, 1.25])
    np.testing.assert_allclose(laws["exponent"], np.polyfit(u, same, 1)[0])
    assert "Student's interval of the regression, 95 %" in " ".join(out.split())
    assert set(pd.read_csv(tmp_path / "laws/final_loss_vs_local_steps.csv")) >= {"law", "law_low", "law_high"}
    code, out, err = tardigrad("plot", str(runs), *rate, "--table", "print")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("#")] == [
        "# final_loss_vs_local_steps",
        "# power_law_final_loss",
    ]


def test_tables_are_printed_alone(tardigrad, runs, tmp_path):
    code, out, err = tardigrad("plot", str(runs), "--figure", "perplexity", "--against", "tokens", "--table", "print")
    assert (code, err) == (0, "")
    name, _, text = out.partition("\n")
    assert name == "# perplexity_vs_tokens"
    assert len(pd.read_csv(io.StringIO(text))["group"].unique()) == 8
    assert not list(runs.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--by", "inner.lokal_steps"),
            "no run has a key 'inner.lokal_steps'; did you mean 'inner.local_steps' or 'local_steps'",
        ),
        (("--target", "0"), "target is 0, but a perplexity to reach is a number above 0"),
        (("--target", "7", "--baseline", "snyc"), "baseline 'snyc' is not among the variants 'sync', 'late'"),
        (("--heatmap", "variant", "seed", "--value", "time_to_target"), "time_to_target needs a target"),
        (("--fit", "power"), "--fit power needs a key along which: give it, such as --x parameters"),
        (
            ("--x", "variant"),
            "all runs: variant of a run is sync, and an axis has finite numbers: choose another key, such as",
        ),
    ],
)
def test_mistakes_end_in_one_clear_message(tardigrad, runs, arguments, message):
    code, out, err = tardigrad("plot", str(runs), *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_runs_of_other_settings_are_told_apart_and_the_table_follows_by(tardigrad, tmp_path):
    for number, rate in enumerate((0.01, 0.5, 0.5)):
        record = build_record("base", local_steps=400)
        replace(record, experiment=record.experiment | {"rate": rate}).write(tmp_path / f"runs/{number}")
    code, out, _ = tardigrad("plot", "runs", "--figure", "perplexity", "--out", "figures")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line.startswith("rate=")] == ["rate=0.01", "rate=0.5"]
    assert "n = " not in out
    assert "1 run has the settings and the seed of another: counted once" in out
    code, out, err = tardigrad("plot", "runs", "--figure", "perplexity", "--out", "figures", "--by", "variant")
    assert (code, out.count("n = 2"), "rate=" in out) == (0, 1, False)
    code, out, err = tardigrad("plot", "runs", "--table", "print", "--figure", "perplexity")
    assert err == "tardigrad: note: 1 run has the settings and the seed of another: counted once\n"
    assert "base, rate=0.5" in out.replace('"', "")


def test_no_table_is_cut_in_a_narrow_terminal(tardigrad, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = tardigrad("plot", str(runs), "--out", "figures", "--figure", "utilization", "--target", "7")
    assert code == 0
    assert "…" not in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("figures/")) <= 40
    for text in ("utili-", "tokens/", "perplexity", "learning_", "money", "EUR"):
        assert text in out


def test_characters_that_no_font_has_are_said_in_one_line(tardigrad, tmp_path, monkeypatch):
    build_record("\u4e2d" * 3, local_steps=400).write(tmp_path / "runs/one")
    monkeypatch.setattr(fonts, "_said", [])
    monkeypatch.setattr(fonts, "_installed", lambda: {"of nothing": frozenset()})
    with pytest.warns(UserWarning, match="no installed font has \u4e2d: figures write escapes") as said:
        code, _, err = tardigrad("plot", "runs", "--out", "figures")
    assert (code, err, len(said)) == (0, "", 1)
    assert (tmp_path / "figures/perplexity_vs_time.png").exists()
    shown = warnings.formatwarning(said[0].message, said[0].category, said[0].filename, said[0].lineno)
    assert shown == f"tardigrad: note: {said[0].message}\n"
    assert "DeprecationWarning: old" in warnings.formatwarning("old", DeprecationWarning, "file", 1, "code")
