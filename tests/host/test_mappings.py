from simulator.host.mappings import MISSING, flattened, lookup


def test_mappings_are_opened_and_lists_are_values():
    tree = {"a": {"b": {"c": 1, "d": [1, 2]}, "e": {}}, "f": None}
    assert flattened(tree) == {"a.b.c": 1, "a.b.d": [1, 2], "a.e": {}, "f": None}


def test_lookup_follows_mappings_and_lists():
    tree = {"a": [{"b": None}]}
    assert lookup(tree, ["a", "0", "b"]) is None
    assert lookup(tree, []) is tree
    for key in (["b"], ["a", "1"], ["a", "x"], ["a", "0", "b", "c"], ["a", "-1"]):
        assert lookup(tree, key) is not None
        assert lookup(tree, key) is MISSING
