"""Whatever takes runs takes one, several, or groups of them, and says what to give instead of something else."""

from pathlib import Path

import pytest

from simulator import report
from simulator.report import ReportError, Runs, group_records
from simulator.report.page import report_page, write_report
from tests.record.builders import build_record

ONE = build_record("a", local_steps=200)
PRICED = {"devices": {"price_per_hour": 1.0}}
ONE.experiment["cluster"] = PRICED
OTHER = build_record("a", seed=1, local_steps=200)
OTHER.experiment["cluster"] = PRICED
REFERENCE = {"source": "s", "metric": "final_loss", "baseline": "a", "results": []}

OF_SEVERAL = {
    "baseline_of": report.baseline_of,
    "currency_of": report.currency_of,
    "drawings": lambda runs: list(report.drawings(runs)),
    "group_records": report.group_records,
    "has_prices": report.has_prices,
    "heat_map": lambda runs: report.heat_map(runs, "seed", "workers"),
    "heat_map_table": lambda runs: report.heat_map_table(runs, "seed", "workers"),
    "money_table": report.money_table,
    "perplexity_curves": report.perplexity_curves,
    "perplexity_table": report.perplexity_table,
    "report_page": report_page,
    "staleness": report.staleness,
    "staleness_table": report.staleness_table,
    "time_to_target": lambda runs: report.time_to_target(runs, 7.0),
    "trace_events": lambda runs: list(report.trace_events(runs)),
    "utilization": report.utilization,
    "utilization_table": report.utilization_table,
    "value_curves": lambda runs: report.value_curves(runs, "workers"),
    "value_table": lambda runs: report.value_table(runs, "workers"),
}
OF_SUMMARIES = {
    "comparison": lambda runs: report.comparison(runs, REFERENCE),
    "losses_table": report.losses_table,
    "note_of_repeats": report.note_of_repeats,
    "results_table": report.results_table,
    "results_tables": report.results_tables,
}
OF_ONE = {
    "money": report.money,
    "timeline": report.timeline,
    "timeline_table": report.timeline_table,
    "worker_rich_table": report.worker_rich_table,
}
EVERY = OF_SEVERAL | OF_SUMMARIES | OF_ONE


@pytest.mark.parametrize("name", EVERY)
def test_one_run_is_as_good_as_a_list_with_one(name):
    for given in (ONE, [ONE], Runs([ONE]), (each for each in [ONE]), group_records(ONE)):
        EVERY[name](given)


@pytest.mark.parametrize("name", OF_SEVERAL | OF_SUMMARIES)
def test_several_runs_in_any_form(name):
    for given in ([ONE, OTHER], Runs([ONE, OTHER]), (each for each in [ONE, OTHER]), group_records([ONE, OTHER])):
        EVERY[name](given)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("runs/mine", r"'runs/mine' is given, and runs are needed: read_runs\('runs/mine'\) reads those in it"),
        ([Path("runs/mine")], r"'runs/mine' is given, and runs are needed: read_runs\('runs/mine'\) reads those in it"),
        (7, r"int is given, and runs are needed: records as read_runs\(folder\), simulate or simulate_all return them"),
        ([ONE, {"a": 1}], "dict is given, and runs are needed"),
    ],
)
def test_what_is_given_by_mistake_is_named_with_the_remedy(name, given, message):
    with pytest.raises(ReportError, match=message):
        EVERY[name](given)


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"losses_table"}))
def test_no_runs_are_refused(name):
    with pytest.raises(ReportError, match="no records given: read some with read_runs"):
        EVERY[name]([])


@pytest.mark.parametrize("name", OF_ONE)
def test_of_several_runs_one_has_to_be_chosen(name):
    with pytest.raises(
        ReportError, match=r"2 runs are given, and this is of one: choose one of them, such as runs\[0\]"
    ):
        EVERY[name]([ONE, OTHER])


def test_summaries_are_enough_where_no_table_of_a_run_is_needed():
    for function in OF_SUMMARIES.values():
        function([ONE.summary, OTHER.summary])
    for name in ("perplexity_table", "timeline_table", "group_records"):
        with pytest.raises(ReportError, match=r"a summary is given, which has none of a run's tables"):
            EVERY[name](ONE.summary)
    with pytest.raises(ReportError, match="variant 'a' is given twice with seed 0: give it once, or records"):
        report.results_table([ONE.summary, dict(ONE.summary)])


def test_files_may_be_named_by_text(tmp_path):
    report.save(report.perplexity_curves(ONE), f"{tmp_path}/one")
    report.save_table(report.perplexity_table(ONE), f"{tmp_path}/one.csv")
    report.write_figures(ONE, f"{tmp_path}/all", figures=["staleness"])
    report.write_trace(ONE, f"{tmp_path}/one.json")
    write_report(ONE, f"{tmp_path}/one.html")
    ONE.write(f"{tmp_path}/run")
    assert type(ONE).read(f"{tmp_path}/run").summary["variant"] == "a"
    assert len(list(tmp_path.rglob("*.*"))) == 15
    with pytest.raises(ReportError, match=r"one\.txt: a table is written to a file whose name ends in \.csv or \.parq"):
        report.save_table(report.perplexity_table(ONE), f"{tmp_path}/one.txt")
