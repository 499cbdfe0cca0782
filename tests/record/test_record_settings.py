from hypothesis import given
from hypothesis import strategies as st

from simulator.host.mappings import flattened
from simulator.record import differences, identity_of, settings_of

SUMMARY = {"overrides": {}, "trainer": "batched", "data_hash": "da7a", "data": {"tokenizer_hash": "70"}}
FACTS = {"trainer": "batched", "data_hash": "da7a", "data.tokenizer_hash": "70"}


def _settings(experiment, **summary):
    found = settings_of({"name": "x", "variant": "v", "seed": 0} | experiment, SUMMARY | summary)
    return {key: value for key, value in found.items() if FACTS.get(key) != value}


def test_what_changes_no_result_is_no_setting():
    same = {"description": "why", "scale": "paper", "seed": 3, "variant": "w", "name": "y", "outer": {"buffer": None}}
    assert _settings(same | {"checkpoint": {"keep": 3}, "compute": {"trainer": "serial", "lanes": 2}}) == {
        "compute.lanes": 2
    }
    assert _settings({"cluster": {"devices": {"price_per_hour": 2.0}}}) == {"cluster.devices.price_per_hour": 2.0}


def test_files_count_by_their_content_where_it_is_known():
    data = {"data": {"source": "text", "files": ["a/*.txt"], "tokenizer": {"kind": "file", "path": "b.json"}}}
    kinds = {"data.source": "text", "data.tokenizer.kind": "file"}
    assert _settings(data) == kinds
    unknown = _settings(data, data_hash=None, data=None, trainer="null")
    paths = {"data.files": ["a/*.txt"], "data.tokenizer.path": "b.json"}
    assert unknown == kinds | paths | {"trainer": "null"}
    assert _settings(data, data_hash="0ther") == kinds | {"data_hash": "0ther"}


def test_what_a_sweep_has_set_counts_in_any_case():
    overrides = {"seed": 1, "size": "small", "checkpoint.keep": 3, "inner": {"batch_size": 4}, "inner.clip_norm": None}
    assert _settings({"inner": {"batch_size": 4}, "checkpoint": {"keep": 3}}, overrides=overrides) == {
        "inner.batch_size": 4,
        "size": "small",
        "checkpoint.keep": 3,
    }


def test_differences_are_paths_with_both_values():
    theirs = {"a": {"b": 1, "c": [1]}, "d": None, "e": 1}
    ours = {"a": {"b": 2, "c": [1]}, "f": {"g": 3}, "e": 1}
    assert differences(theirs, ours) == [("a.b", 1, 2), ("f", None, {"g": 3})]


_TREES = st.recursive(
    st.one_of(st.none(), st.integers(0, 3), st.text("ab", max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), _TREES), st.dictionaries(st.sampled_from("abc"), _TREES))
def test_equal_settings_are_those_without_differences(first, second):
    def known(tree):
        return {path: value for path, value in flattened(tree).items() if value is not None}

    same = identity_of(known(first)) == identity_of(known(second))
    assert same == (known(first) == known(second))
    assert (differences(first, second) == []) >= (first == second)
