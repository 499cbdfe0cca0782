import gc
import weakref
from typing import Any

import pytest

from simulator.learning import Value, Values, reachable
from simulator.learning.values import UnknownValueError


class Tree:
    """A tree that can be referred to weakly."""


def noted(calls: list[str], name: str, result: Any) -> Any:
    def compute(*inputs: Any) -> Any:
        calls.append(name)
        return result if not inputs else (result, *inputs)

    return compute


def numbers(values: Any) -> list[int]:
    return sorted(value.number for value in values)


def test_a_value_is_computed_when_it_is_asked_for_with_what_it_needs_and_once():
    calls: list[str] = []
    values = Values()
    start = values.known("params", 1)
    left = values.lazy("part", noted(calls, "left", "l"), start)
    right = values.lazy("part", noted(calls, "right", "r"), start)
    aside = values.lazy("part", noted(calls, "aside", "a"), start)
    top = values.lazy("whole", noted(calls, "top", "t"), left, right)
    assert calls == []
    assert not top.is_known
    assert top.get() == ("t", ("l", 1), ("r", 1))
    assert calls == ["left", "right", "top"]
    assert top.get() is top.get()
    assert left.get() == ("l", 1)
    assert calls == ["left", "right", "top"]
    assert [value.is_known for value in (start, left, right, top, aside)] == [True, True, True, True, False]


def test_values_are_numbered_in_the_order_in_which_they_are_made():
    values = Values()
    made = [values.known("a", 0), values.lazy("b", lambda: 1), values.expected("c")]
    assert [value.number for value in made] == [0, 1, 2]
    assert [value.kind for value in made] == ["a", "b", "c"]
    made[1].get()  # which numbers nothing
    assert values.next_number() == 3
    assert values.known("d", 0).number == 4
    assert Values().known("a", 0).number == 0


def test_a_known_value_holds_on_to_nothing_that_it_was_computed_from():
    values, tree = Values(), Tree()
    start = values.known("params", tree)
    end = values.lazy("params", lambda tree: "end", start)
    held = weakref.ref(tree)
    del tree, start
    gc.collect()
    assert held() is not None
    assert end.inputs != ()
    end.get()
    gc.collect()
    assert held() is None
    assert end.inputs == ()


def test_what_is_reachable_is_what_values_depend_on_that_are_not_known_each_once():
    values = Values()
    start = values.known("params", 1)
    shared = values.lazy("part", lambda tree: tree, start)
    left, right = (values.lazy("part", lambda tree: tree, shared) for _ in range(2))
    top = values.lazy("whole", lambda *trees: trees, left, right)
    other = values.lazy("part", lambda tree: tree, start)
    assert numbers(reachable([top])) == numbers([start, shared, left, right, top])
    assert numbers(reachable([top, top, other])) == numbers([start, shared, left, right, top, other])
    left.get()
    assert numbers(reachable([top])) == numbers([start, shared, left, right, top][1:])  # start is in shared no more
    top.get()
    assert numbers(reachable([top])) == [top.number]
    assert list(reachable([])) == []


def test_of_what_is_reachable_a_value_comes_before_those_that_it_alone_depends_on():
    values = Values()
    chain = [values.known("params", 0)]
    for _ in range(5):
        chain.append(values.lazy("params", lambda tree: tree + 1, chain[-1]))
    assert [value.number for value in reachable(chain[-1:])] == [5, 4, 3, 2, 1, 0]


def test_a_value_that_is_expected_is_an_error_until_it_is_set():
    values = Values()
    values.known("params", 0)
    expected = values.expected("offer.0")
    for asked in (expected, values.lazy("loss", lambda tree: tree, expected)):
        with pytest.raises(UnknownValueError, match=r"^value 1, of kind offer\.0, is not known$"):
            asked.get()
    expected.set("tree")
    assert (expected.is_known, expected.get()) == (True, "tree")


def test_none_is_a_tree_like_any_other():
    values = Values()
    assert values.known("inner", None).is_known
    assert values.lazy("loss", lambda tree: (tree,), values.known("inner", None)).get() == (None,)


def test_a_value_that_waits_for_a_checkpoint_is_not_computed():
    values = Values()
    waiting = values.lazy("part.0", lambda: pytest.fail("it is computed"))
    waiting.await_checkpoint()
    assert waiting.inputs == ()
    with pytest.raises(UnknownValueError):
        waiting.get()
    waiting.set("restored")
    assert waiting.get() == "restored"


def test_an_error_of_a_computation_leaves_the_value_to_be_computed_again():
    attempts: list[int] = []

    def fail_once() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("the disk is gone")
        return "tree"

    value: Value = Values().lazy("part", fail_once)
    with pytest.raises(OSError, match="the disk is gone"):
        value.get()
    assert value.get() == "tree"
