"""`tardigrad plot` over records that nothing had to be trained for."""

import io
from dataclasses import replace

import pandas as pd
import pytest

from tests.record.builders import build_record


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
    ],
)
def test_mistakes_end_in_one_clear_message(tardigrad, runs, arguments, message):
    code, out, err = tardigrad("plot", str(runs), *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
