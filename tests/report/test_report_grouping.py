import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report import ReportError, group_records, note_of_repeats, perplexity_curves, perplexity_table
from simulator.report.group_styles import group_styles, is_scaled
from simulator.report.grouping import only, run_labels
from tests.record.builders import build_record, like


def _record(variant="a", *, seed=0, overrides=None, **settings):
    """A run whose resolved experiment has some settings, by dotted path with `__` for the dots."""
    record = build_record(variant, seed=seed, local_steps=400, overrides=overrides)
    experiment = dict(record.experiment)
    for path, value in settings.items():
        *sections, last = path.split("__")
        inner = experiment
        for section in sections:
            inner[section] = dict(inner.get(section, {}))
            inner = inner[section]
        inner[last] = value
    return replace(record, experiment=experiment)


def _labels(records, by=None):
    return [group.label for group in group_records(records, by)]


def test_keys_of_the_experiment_tell_groups_apart_in_ascending_order():
    records = [_record(v, seed=s, inner__local_steps=h) for h in (100, 50) for v in "ba" for s in (0, 1)]
    assert _labels(records, ["inner.local_steps"]) == ["local_steps=50", "local_steps=100"]
    assert _labels(records, ["variant", "inner.local_steps"]) == [
        "b, local_steps=50",
        "b, local_steps=100",
        "a, local_steps=50",
        "a, local_steps=100",
    ]
    assert [len(group.records) for group in group_records(records, ["inner.local_steps"])] == [4, 4]
    assert _labels(records, []) == ["all runs"]
    assert _labels(records, ["seed"]) == ["seed=0", "seed=1"]


def test_quantities_are_numbers_and_are_shown_as_the_sweep_writes_them():
    values = {"unlimited": "unlimited", "1Gbit/s": "125000000.0 B/s", "5Mbit/s": "625000.0 B/s"}
    records = [
        _record(overrides={"cluster.network.bandwidth": written}, cluster__network__bandwidth=resolved)
        for written, resolved in values.items()
    ]
    groups = group_records(records, ["cluster.network.bandwidth"])
    assert [group.label for group in groups] == ["bandwidth=5Mbit/s", "bandwidth=1Gbit/s", "bandwidth=unlimited"]
    assert [group.keys["cluster.network.bandwidth"].value for group in groups] == [625e3, 125e6, math.inf]
    unswept = _record(cluster__network__bandwidth="125000000.0 B/s")
    assert _labels([unswept], ["cluster.network.bandwidth"]) == ["bandwidth=125 MB/s"]


def test_axes_by_name_keys_of_the_summary_and_elements_of_lists():
    records = [_record(overrides={"size": size}) for size in ("small", "large")]
    assert _labels(records, ["size"]) == ["size=small", "size=large"]
    assert _labels(records, ["workers"]) == ["workers=4"]
    named = _record(cluster__devices={"accelerators": [{"name": "A100"}, {"name": "T4"}]})
    assert _labels([named], ["cluster.devices.accelerators.1.name"]) == ["name=T4"]


def test_what_only_some_runs_have_is_absent_in_others():
    records = [_record("a", outer__buffer=4), _record("b")]
    groups = group_records(records, ["outer.buffer"])
    assert [group.label for group in groups] == ["buffer=4", "buffer=\u2013"]
    assert [group.keys["outer.buffer"].value for group in groups] == [4, None]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("cluster.network.bandwith", "did you mean 'cluster.network.bandwidth'"),
        ("bandwidth", "did you mean 'cluster.network.bandwidth'"),
        ("utilisation", "did you mean 'utilization'"),
        ("xyzzy", "valid: best_loss, bytes_sent"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, hint):
    with pytest.raises(ReportError, match=f"no run has a key {key!r}; {hint}"):
        perplexity_table([_record(cluster__network__bandwidth="125000000.0 B/s")], by=[key])


def test_groups_of_a_table_have_their_keys_as_columns():
    records = [_record("a", seed=s, overrides={"seed": s, "inner.local_steps": 50}) for s in (0, 1)]
    table = perplexity_table([*records, _record("b")])
    assert list(table.columns[:4]) == ["group", "variant", "inner.local_steps", "simulated_s"]
    assert set(table["group"]) == {"a, local_steps=50", "b"}
    assert table.loc[table["group"] == "b", "inner.local_steps"].isna().all()
    clash = perplexity_table(records, by=["workers", "utilization"])
    assert list(clash.columns[:3]) == ["group", "workers", "utilization"]
    tokens = perplexity_table(records, against="tokens", by=["tokens"])
    assert list(tokens.columns[:3]) == ["group", "group.tokens", "tokens"]


def test_labels_of_groups_are_never_alike():
    records = [build_record(name, local_steps=400) for name in ("two  words", "two words")]
    assert _labels(records) == ["two words", "two words (2)"]
    assert perplexity_table(records).groupby("group").size().tolist() == [len(records[0].evaluations)] * 2


def _swept(values, variants="ab"):
    base = _record()
    return [like(base, v, overrides={"inner.learning_rate": x}) for v in variants for x in values]


def test_many_groups_that_differ_in_a_number_are_coloured_by_it():
    groups = group_records(_swept([0.001, 0.003, 0.01, 0.03, 0.1]))
    assert is_scaled(groups)
    own = group_styles(groups)
    assert own.scale is not None
    assert own.scale.name == "learning rate"
    assert len({style.color for style in own.lines}) == 5
    assert len({style.linestyle for style in own.lines}) == 2
    assert [label for label, _ in own.entries] == ["a", "b"]
    figure = perplexity_curves(_swept([0.001 * n for n in range(1, 21)]))  # more than have line styles of their own
    assert len([line for line in figure.axes[0].lines if line.get_markevery() is not None]) == 40
    assert figure.axes[1].get_ylabel() == "learning rate"


def test_few_groups_or_names_have_line_styles_of_their_own():
    assert group_styles(group_records(_swept([1, 2, 3]))).scale is None
    names = [_record(overrides={"size": f"size {number}"}) for number in range(12)]
    assert group_styles(group_records(names)).scale is None
    many_variants = _swept([1, 2, 3, 4, 5], variants="abcde")
    assert group_styles(group_records(many_variants)).scale is None
    assert np.unique([style.color for style in group_styles(group_records(many_variants)).lines]).size == 7


# Runs that differ in settings without having been swept.


def test_runs_are_told_apart_by_what_differs_in_their_experiments():
    records = [_record("base", inner__learning_rate=rate, inner__batch_size=4) for rate in (0.01, 0.5)]
    groups = group_records(records)
    assert [group.label for group in groups] == ["base, learning_rate=0.01", "base, learning_rate=0.5"]
    assert [group.keys["inner.learning_rate"].value for group in groups] == [0.01, 0.5]
    assert [group.settings for group in groups] == [("inner.learning_rate",)] * 2
    table = perplexity_table(records)
    assert table.groupby("group")["runs"].first().to_dict() == dict.fromkeys(_labels(records), 1)
    assert list(table.columns[:4]) == ["group", "variant", "inner.learning_rate", "simulated_s"]
    assert _labels(records, ["variant"]) == ["base"]  # as was asked for


def test_only_variants_of_which_there_are_several_say_in_what_they_differ():
    records = [_record("sync"), *(_record("late", outer__buffer=size) for size in (2, 4))]
    assert _labels(records) == ["sync", "late, buffer=2", "late, buffer=4"]
    swept = [_record("a", seed=s, overrides={"size": x, "seed": s}, inner__h=h) for x, s, h in SWEPT]
    assert _labels(swept) == ["a, size=small, h=1", "a, size=small, h=2", "a, size=large"]


SWEPT = [("small", 0, 1), ("small", 1, 2), ("large", 0, 1), ("large", 1, 1)]


def test_of_many_differences_a_few_tell_runs_apart_and_the_rest_is_not_hidden():
    transformer = {"model__kind": "transformer", "model__layers": 2, "model__width": 8, "data__source": "synthetic"}
    mlp = {"model__kind": "mlp", "model__hidden": [8], "data__source": "gaussian-clusters"}
    groups = group_records([_record("base", **transformer), _record("base", **mlp)])
    assert [group.label for group in groups] == ["base, model.kind=transformer, …", "base, model.kind=mlp, …"]
    assert list(groups[0].keys) == ["variant", "model.kind"]
    three = [_record("base", a=i, b=-i, c=f"c{i}") for i in range(2)]
    assert _labels(three) == ["base, a=0, b=0, c=c0", "base, a=1, b=-1, c=c1"]
    scales = [_record("base", scale=s, a=s, b=s, c=s, d=s) for s in ("laptop", "paper")]
    assert _labels(scales) == ["base, scale=laptop, …", "base, scale=paper, …"]
    grid = [_record("base", a=i, b=j, c=i, d=j, e=0) for i in range(3) for j in range(2)]
    assert _labels(grid) == [f"base, a={i}, b={j}, …" for i in range(3) for j in range(2)]


def test_of_lists_the_elements_that_differ_are_named():
    speeds = [_record("a", cluster__devices={"seconds_per_step": [0.5, x, 2.0]}) for x in (1.0, 1.5)]
    assert _labels(speeds) == ["a, seconds_per_step.1=1.0", "a, seconds_per_step.1=1.5"]
    kinds = [_record("a", cluster__devices={"accelerators": [{"name": "T4", "count": n}]}) for n in (1, 2)]
    assert _labels(kinds) == ["a, count=1", "a, count=2"]
    unlike = [_record("a", cluster__devices={"seconds_per_step": [1.0] * n}) for n in (2, 30, 30)]
    unlike[2].experiment["cluster"]["devices"]["seconds_per_step"][-1] = 2.0
    first, second, third = _labels(unlike)
    assert first == "a, seconds_per_step=[1.0, 1.0]"
    assert (len(second), third) == (len("a, seconds_per_step=") + 24, f"{second} (2)")


def test_what_changes_no_result_tells_no_runs_apart():
    changes = [{}, {"description": "why"}, {"checkpoint__keep": 5}, {"scale": "laptop"}, {"outer__buffer": None}]
    records = [_record("a", seed=seed, **each) for seed, each in enumerate(changes)]
    (group,) = group_records(records)
    assert (group.label, len(group.records), group.repeats) == ("a", len(changes), ())
    assert _labels([_record("a", cluster__currency=name) for name in ("EUR", "USD")]) == [
        "a, currency=EUR",
        "a, currency=USD",
    ]


def test_files_tell_runs_apart_by_their_content():
    same = [_record("a", seed=seed, data__files=[f"{folder}/*.txt"]) for seed, folder in enumerate(("here", "there"))]
    assert _labels(same) == ["a"]
    other = replace(same[1], summary=same[1].summary | {"data_hash": "0ther"})
    assert _labels([same[0], other]) == ["a, files.0=here/*.txt", "a, files.0=there/*.txt"]
    changed = replace(same[0], summary=same[0].summary | {"data_hash": "0ther", "seed": 1})
    assert _labels([same[0], changed]) == ["a, data_hash=da7a", "a, data_hash=0ther"]


def test_a_timeline_alone_is_no_repeat_of_a_run_that_trained():
    assert _labels([build_record("a"), build_record("a", trainer="null")]) == ["a, trainer=batched", "a, trainer=null"]


def test_the_same_settings_are_one_group_however_they_were_set():
    swept = _record("a", seed=1, overrides={"inner.learning_rate": 0.5, "seed": 1}, inner__learning_rate=0.5)
    (group,) = group_records([_record("a", seed=0, inner__learning_rate=0.5), swept])
    assert (group.label, len(group.records)) == ("a, learning_rate=0.5", 2)


def test_a_run_that_is_given_twice_counts_once():
    records = [_record("a", seed=seed) for seed in (0, 1, 0)]
    (group,) = group_records(records)
    assert group.records == (records[0], records[1])
    assert group.repeats == (records[2],)
    assert note_of_repeats(records) == "1 run has the settings and the seed of another: counted once"
    assert note_of_repeats(records[:2]) == ""
    assert [len(each.records) for each in group_records(records, ["variant"])] == [2]
    assert perplexity_table(records)["runs"].unique().tolist() == [2]


def test_groups_stay_as_they_are_and_runs_have_labels():
    records = [_record("a", seed=0, inner__h=1), _record("a", seed=1, inner__h=1), _record("a", inner__h=2)]
    groups = group_records(records)
    assert group_records(groups) == groups == group_records(groups[0]) + groups[1:]
    assert run_labels(records) == ["a, h=1, seed=0", "a, h=1, seed=1", "a, h=2"]
    alone = only(groups, lambda record: record.summary["seed"] == 1)
    assert [(group.label, group.records) for group in alone] == [("a, h=1", (records[1],))]


RUNS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),  # variant
        st.integers(0, 2),  # seed
        st.dictionaries(st.sampled_from(["x", "y", "z", "w"]), st.sampled_from([1, 2, None]), max_size=4),
        st.booleans(),  # whether x was swept
    ),
    min_size=1,
    max_size=12,
)
BASE = build_record("a", local_steps=100)


@given(RUNS, st.randoms())
def test_groups_are_what_differs_by_the_seed_alone_in_any_order(runs, random):
    records = []
    for variant, seed, settings, swept in runs:
        overrides = {"x": settings["x"]} if swept and settings.get("x") is not None else {}
        run = like(BASE, variant, seed=seed, overrides=overrides)
        records.append(replace(run, experiment=run.experiment | settings))
    expected = {}
    for (variant, seed, settings, _), record in zip(runs, records, strict=True):
        known = tuple(sorted((key, value) for key, value in settings.items() if value is not None))
        expected.setdefault((variant, known), {}).setdefault(seed, []).append(id(record))
    groups = group_records(records)
    assert len({group.label for group in groups}) == len(groups) == len(expected)
    found = {frozenset(map(id, (*group.records, *group.repeats))) for group in groups}
    assert found == {frozenset(run for runs in seeds.values() for run in runs) for seeds in expected.values()}
    assert sorted(len(group.records) for group in groups) == sorted(map(len, expected.values()))
    shuffled = random.sample(records, len(records))
    assert {frozenset(map(id, (*g.records, *g.repeats))) for g in group_records(shuffled)} == found
    assert sum(group.parts[-1] == "…" for group in groups) == 0 or len(expected) > 1
