import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from simulator.report import ReportError, results_table, worker_rich_table
from tests.record.builders import build_record


def _cells(table):
    """The table's rows as plain text, one list of cells per row."""
    columns = [[getattr(cell, "plain", cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _summary(variant="a", **changes):
    return build_record(variant, local_steps=400).summary | changes


def test_results_by_hand():
    synchronous = _summary("sync", final_perplexity=5.0, simulated_seconds=3330.0, max_staleness=0, mean_staleness=0.0)
    late = _summary(
        "async",
        final_perplexity=5.5,
        simulated_seconds=1014.0,
        max_staleness=14,
        mean_staleness=2.5,
        local_steps=4025,
        server_updates=80,
        utilization=0.95,
        bytes_sent=64_000_000,
        tokens_per_host_second=12_345.0,
    )
    table = results_table([late, synchronous])
    times = "\u00d7"
    assert _cells(table)[0] == [
        "async",
        f"5.500\n1.10{times}",
        f"16.9 min\n0.30{times}",
        f"4,025\n10.06{times}",
        "80",
        "2.50\nmax 14",
        "95.0 %",
        "64 MB",
        "12.3 k",
    ]
    assert _cells(table)[1][1] == f"5.000\n1.00{times}"


def test_seeds_are_one_row_with_half_the_range():
    summaries = [_summary(seed=seed, final_perplexity=5.0 + 0.2 * seed) for seed in range(3)]
    table = results_table(summaries)
    (row,) = _cells(table)
    assert row[0] == "a\nn = 3"
    assert row[1] == "5.200\n± 0.200"
    assert str(table.caption) == "±: half the range over n runs"
    assert results_table(summaries[:1]).caption is None


def test_each_sweep_point_has_its_own_baseline():
    summaries = [
        _summary(
            variant, overrides={"seed": 0, "devices.profile": profile}, final_perplexity=value, max_staleness=stale
        )
        for profile, variant, value, stale in [
            ("none", "async", 6.0, 3),
            ("none", "sync", 5.0, 0),
            ("very", "async", 8.0, 9),
            ("very", "sync", 4.0, 0),
        ]
    ]
    rows = _cells(results_table(summaries))
    assert [row[0] for row in rows] == [f"{v}\nprofile={p}" for p in ("none", "very") for v in ("async", "sync")]
    assert [row[1].split("\n")[1][:-1] for row in rows] == ["1.20", "1.00", "2.00", "1.00"]
    named = _cells(results_table(summaries, baseline="async"))
    assert [row[1].split("\n")[1][:-1] for row in named] == ["1.00", "0.83", "1.00", "0.50"]
    with pytest.raises(ReportError, match="baseline 'none' is not among the variants 'async', 'sync'"):
        results_table(summaries, baseline="none")


def test_without_a_synchronous_variant_the_first_is_the_baseline():
    summaries = [_summary(v, final_perplexity=p, max_staleness=2) for v, p in (("a", 4.0), ("b", 6.0))]
    assert [row[1].split("\n")[1][:-1] for row in _cells(results_table(summaries))] == ["1.00", "1.50"]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_unknown_values_are_dashes(unknown):
    keys = ("mean_staleness", "max_staleness", "utilization", "tokens_per_host_second")
    (row,) = _cells(results_table([_summary(**dict.fromkeys(keys, unknown))]))
    dash = "\u2013"
    assert [row[5], row[6], row[8]] == [dash] * 3


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_training_without_a_finite_perplexity_diverged(unknown):
    rows = _cells(results_table([_summary("sync", max_staleness=0), _summary("async", final_perplexity=unknown)]))
    assert [row[1] == "diverged" for row in rows] == [False, True]


def test_a_timeline_alone_has_no_columns_of_training():
    untrained = _summary(trainer="null", final_perplexity=None, tokens_per_host_second=None)
    headers = [str(column.header) for column in results_table([untrained]).columns]
    assert [header.replace("\n", " ") for header in headers] == [
        "variant",
        "simulated time",
        "local steps",
        "server updates",
        "staleness",
        "utili- zation",
        "data sent",
    ]


def test_it_says_how_many_seeds_have_a_value():
    summaries = [_summary(seed=0, final_perplexity=5.0), _summary(seed=1, final_perplexity=None)]
    assert _cells(results_table(summaries))[0][1] == "5.000\n1 of 2"


def test_no_summaries():
    with pytest.raises(ReportError, match="no records given"):
        results_table([])


def test_markup_in_names_is_shown_as_it_is_and_numbers_fit_80_columns():
    summaries = [_summary(name) for name in ("[red]delayed Nesterov[/red]", "")]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table(summaries, title="[b]title[/b]"))
    text = console.export_text()
    assert "[red]" in text
    assert "(unnamed)" in text
    assert "[b]title[/b]" in text
    assert "…" not in text


def test_worker_table_by_hand():
    record = build_record(transfer_s=0.0, barrier=True)
    table = worker_rich_table(record)
    rows = _cells(table)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[1] for row in rows] == ["0.58", "0.75", "1.51", "3.33"]
    assert [row[2:4] for row in rows] == [["20", "1,000"]] * 4
    assert rows[3][4:] == ["100.0 %", "0.0 %", "0.0 %", "0.0 %", "0.0 %", "0.00 / 0"]
    assert rows[0][4] == "17.4 %"  # 0.58 / 3.33
    assert rows[0][7] == "82.6 %"
    assert table.caption is None


def test_worker_table_of_many_workers_is_a_sample():
    table = worker_rich_table(build_record(step_s=[1.0 + i for i in range(9)], local_steps=2000), max_workers=3)
    rows = _cells(table)
    assert [row[0] for row in rows] == ["0", "4", "8"]
    assert str(table.caption) == "3 of 9 workers, evenly spaced from fastest to slowest"


def test_worker_without_rounds_is_dashes():
    record = build_record(step_s=[0.1, 1000.0], local_steps=500)
    rows = _cells(worker_rich_table(record))
    dash = "\u2013"
    assert rows[1] == ["1", dash, "0", "0", dash, dash, dash, dash, dash, dash]


def test_the_best_and_the_worst_shard_are_shown_where_shards_were_evaluated():
    losses = [[math.log(5.0), math.log(7.0), None], [math.log(9.0), math.log(6.0), math.log(8.0)]]
    table = results_table([_summary(seed=seed, final_shard_losses=each) for seed, each in enumerate(losses)])
    assert _cells(table)[0][1].endswith("\nshards 5.500\nto 8.000")


def _record(variant="a", *, seed=0, experiment=None, **changes):
    record = build_record(variant, seed=seed, local_steps=400)
    return replace(record, experiment=record.experiment | (experiment or {}), summary=record.summary | changes)


def test_runs_of_other_settings_have_rows_of_their_own():
    runs = [_record(experiment={"rate": rate}, final_perplexity=p) for rate, p in ((0.01, 13.23), (0.5, 6.87))]
    assert [row[:2] for row in _cells(results_table(runs))] == [["a\nrate=0.01", "13.23"], ["a\nrate=0.5", "6.870"]]
    many = [_record(experiment=dict.fromkeys("wxyz", number)) for number in (1, 2)]
    table = results_table(many)
    assert [row[0] for row in _cells(table)] == ["a\nw=1\n…", "a\nw=2\n…"]
    assert str(table.caption) == "…: more settings differ"


def test_groups_by_keys_are_rows_where_keys_are_asked_for():
    runs = [_record(v, experiment={"rate": rate}, final_perplexity=p) for v, rate, p in GRID]
    rows = _cells(results_table(runs, by=["rate"]))
    assert [row[:2] for row in rows] == [["rate=1\nn = 2", "5.000\n± 1.000"], ["rate=2\nn = 2", "7.000\n± 1.000"]]
    assert [row[0] for row in _cells(results_table(runs, by=["variant"]))] == ["a\nn = 2", "b\nn = 2"]
    assert [row[1] for row in _cells(results_table(runs, by=["variant"]))] == [
        "5.000\n± 1.000\n1.00×",  # noqa: RUF001
        "7.000\n± 1.000\n1.40×",  # noqa: RUF001
    ]


GRID = [("a", 1, 4.0), ("a", 2, 6.0), ("b", 1, 6.0), ("b", 2, 8.0)]


def test_a_run_that_is_given_twice_counts_once_and_it_is_said():
    table = results_table([_record(), _record(seed=1), _record()])
    assert _cells(table)[0][0] == "a\nn = 2"
    assert str(table.caption).endswith("; 1 run has the settings and the seed of another: counted once")


def test_unequal_work_is_said():
    sync = _record("sync", max_staleness=0, local_steps=28_000_000, simulated_seconds=1000.0)
    late = _record("late", local_steps=1_000_000, simulated_seconds=11.0)
    table = results_table([sync, late])
    assert [row[2:4] for row in _cells(table)] == [
        ["16.7 min\n1.00×", "28 M"],  # noqa: RUF001
        ["11 s\n0.011×", "1 M\n0.036×"],  # noqa: RUF001
    ]
    assert "local steps with a factor: the work was not equal" in str(table.caption)
    nearly = results_table([_record("sync", local_steps=4000, max_staleness=0), _record("late", local_steps=4025)])
    assert "local steps" not in str(nearly.caption)
    assert [row[3] for row in _cells(nearly)] == ["4,000", "4,025"]


def test_money_is_a_column_where_there_are_prices_in_one_currency():
    def priced(variant, price, currency):
        cluster = {"devices": {"price_per_hour": price}, "currency": currency}
        return _record(variant, experiment={"cluster": cluster}, simulated_seconds=3600.0, max_staleness=0)

    table = results_table([priced("a", 2.0, "EUR"), priced("b", 3.0, "EUR")])
    [place] = [number for number, column in enumerate(table.columns) if column.header == "money\nEUR"]
    assert [row[place] for row in _cells(table)] == ["8.00\n1.00×", "12.00\n1.50×"]  # noqa: RUF001
    summaries = [priced("a", 2.0, "EUR").summary | {"money": 8.0, "currency": "EUR"}]
    assert "money\nEUR" in [column.header for column in results_table(summaries).columns]
    several = results_table([priced("a", 2.0, "EUR"), priced("b", 3.0, "USD")])
    assert "money" not in " ".join(str(column.header) for column in several.columns)
    assert "no money, as prices are in EUR and USD" in str(several.caption)
