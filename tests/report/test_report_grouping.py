import math
from dataclasses import replace

import numpy as np
import pytest

from simulator.report import ReportError, group_records, perplexity_curves, perplexity_table
from simulator.report.palette import dress, is_scaled
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
    own = dress(groups)
    assert own.scale is not None
    assert own.scale.name == "learning rate"
    assert len({look.color for look in own.looks}) == 5
    assert len({look.linestyle for look in own.looks}) == 2
    assert [label for label, _ in own.entries] == ["a", "b"]
    figure = perplexity_curves(_swept([0.001 * n for n in range(1, 21)]))  # more than have looks of their own
    assert len([line for line in figure.axes[0].lines if line.get_markevery() is not None]) == 40
    assert figure.axes[1].get_ylabel() == "learning rate"


def test_few_groups_or_names_have_looks_of_their_own():
    assert dress(group_records(_swept([1, 2, 3]))).scale is None
    names = [_record(overrides={"size": f"size {number}"}) for number in range(12)]
    assert dress(group_records(names)).scale is None
    many_variants = _swept([1, 2, 3, 4, 5], variants="abcde")
    assert dress(group_records(many_variants)).scale is None
    assert np.unique([look.color for look in dress(group_records(many_variants)).looks]).size == 7
