"""Axes that are searched, as experiment files describe them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_files import tree

from simulator.experiment import ExperimentError, Point, load


def loaded(folder: Path, sweep: dict[str, Any], **rest: Any) -> list[Point]:
    (folder / "searched.yaml").write_text(yaml.safe_dump(tree() | {"sweep": sweep}), encoding="utf-8")
    return load(folder / "searched.yaml", **{"searched": True, **rest})


RATE = {"search": "log", "low": 0.1, "high": 10, "trials": 5}


def test_a_searched_axis_makes_no_points_of_its_own(tmp_path: Path):
    points = loaded(tmp_path, {"outer.learning_rate": RATE, "seed": [3, 4]})
    assert [dict(point.overrides) for point in points] == [{"seed": 3}, {"seed": 4}]
    for point in points:
        assert point.searches["outer.learning_rate"].ends == (0.1, 10)
        given = point.at({"outer.learning_rate": 2.5})
        assert given.experiment.outer.learning_rate == 2.5
        assert not given.searches
        rest = {"outer": point.experiment.outer}
        assert given.experiment.model_copy(update=rest) == point.experiment.model_copy(update=rest)
        assert given.overrides == {**point.overrides, "outer.learning_rate": 2.5}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "outer.learning_rate=2",
            r"outer.learning_rate = 2: has no effect, as outer.learning_rate is searched: set "
            r"sweep.outer.learning_rate=\[2\] instead \(set on the command line\)",
        ),
        ("outer={learning_rate: 2}", r"outer: has no effect, as .* is searched: change sweep.outer.learning_rate"),
    ],
)
def test_a_setting_that_a_search_would_overwrite_is_refused(tmp_path: Path, setting: str, message: str):
    loaded(tmp_path, {"outer.learning_rate": RATE})
    with pytest.raises(ExperimentError, match=message):
        load(tmp_path / "searched.yaml", setting, searched=True)
    [point] = load(tmp_path / "searched.yaml", "sweep.outer.learning_rate=[2]", searched=True)
    assert (point.experiment.outer.learning_rate, point.searches) == (2, {})


def test_who_only_lists_points_is_told_that_one_has_no_value(tmp_path: Path):
    with pytest.raises(ExperimentError, match=r"searched.yaml:\d+: sweep.outer.learning_rate: is searched"):
        loaded(tmp_path, {"outer.learning_rate": RATE}, searched=False)


@pytest.mark.parametrize(
    ("axis", "search", "message"),
    [
        ("outer.learning_rate", RATE | {"low": 0}, "low = 0: must be above 0 on a logarithmic scale"),
        ("outer.learning_rate", RATE | {"low": 10}, "high = 10: must be above low, which is 10"),
        ("outer.learning_rate", RATE | {"high": float("inf")}, "high = inf: must be a finite number"),
        ("outer.learning_rate", RATE | {"low": True}, "low = True: expected a number, not yes/no or true/false"),
        ("outer.learning_rate", RATE | {"seed": -1}, "seed = -1: must be at least 0"),
        ("outer.learning_rate", RATE | {"seed": 2**31}, "seed = 2147483648: must be below 2147483648"),
        ("outer.learning_rate", RATE | {"seed": 0.5}, "seed = 0.5: expected a whole number"),
        ("outer.learning_rate", {"search": "linear", "low": 1}, "high: is missing: a search needs low and high"),
        ("outer.learning_rate", RATE | {"lo": 1}, "lo = 1: unknown key; did you mean 'low'?"),
        ("outer.learning_rate", RATE | {"search": "logg"}, "search = 'logg': not a valid choice; did you mean 'log'?"),
        ("outer.learning_rate", RATE | {"trials": 0}, "trials = 0: must be at least 1"),
        ("outer.learning_rate", RATE | {"values": [1]}, "belongs to a choice: leave it out, or write"),
        ("inner.local_steps", {"search": "choice"}, "a choice needs a list of at least one value"),
        ("inner.local_steps", {"search": "choice", "values": [1], "low": 1}, "a choice has values, and neither low"),
        ("inner", {"search": "choice", "values": [{"learning_rate": 1}]}, "mappings are listed, not searched"),
        ("inner.local_steps", {"search": "integer", "low": 1.5, "high": 3}, "must be whole numbers"),
        ("inner.local_steps", {"search": "integer", "low": 0, "high": 3}, "inner.local_steps = 0: must be at least 1"),
        ("inner.optimizer", {"search": "choice", "values": ["sgd", 3]}, "inner.optimizer = 3: expected text"),
        ("outer.lerning_rate", RATE, "outer.lerning_rate = 0.1: unknown key; did you mean 'learning_rate'?"),
        ("otter.learning_rate", RATE, "only a path of the experiment can be searched (did you mean 'outer'?)"),
        ("seed", {"search": "integer", "low": 0, "high": 3}, "cannot be searched"),
    ],
)
def test_what_is_wrong_with_a_search_is_said_with_its_line(
    tmp_path: Path, axis: str, search: dict[str, Any], message: str
):
    with pytest.raises(ExperimentError) as raised:
        loaded(tmp_path, {axis: search})
    assert message in str(raised.value)
    assert "searched.yaml:" in str(raised.value)


def test_axes_that_are_searched_have_the_same_trials(tmp_path: Path):
    other = {"search": "integer", "low": 1, "high": 5}
    with pytest.raises(ExperimentError, match="give all the same trials and seed"):
        loaded(tmp_path, {"outer.learning_rate": RATE, "inner.local_steps": other})
    both = loaded(tmp_path, {"outer.learning_rate": RATE, "inner.local_steps": other | {"trials": 5}})
    assert [list(point.searches) for point in both] == [["inner.local_steps", "outer.learning_rate"]]
    assert both[0].experiment.inner.local_steps == 1
