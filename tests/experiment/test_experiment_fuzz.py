import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from experiment_files import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.experiment import Document, Experiment, ExperimentError, Point, expand, load

NAMES = sorted(
    {
        *("kind", "optimizer", "source", "mlp", "cosine", "delayed_nesterov", "text", "asynchronous", "barrier", "x.y"),
        *("profile", "relative_speed", "accelerators", "distribution", "seconds_per_step", "workers", "jitter", "name"),
        *(
            "latency",
            "bandwidth",
            "down",
            "up",
            "schedule",
            "arguments",
            "buffer",
            "c",
            "staleness",
            "variant",
            "0",
            "",
        ),
        *("files", "hidden", "preset", "layers", "learning_rate", "local_steps", "inner.batch_size", "outer.optimizer"),
        *Experiment.model_fields,
    }
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.dates(),
    st.binary(max_size=3),
    st.text(max_size=5),
    st.sampled_from([*NAMES, "50ms", "1Gbit/s", "5 parsecs", "infinite", "very", "sgd", "lion", "lognormal", "<one>"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from(sorted(Experiment.model_fields)), TREES, max_size=3)
FUZZ = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def check(read: Callable[[], list[Point]]) -> str:
    refusal, found = None, []
    try:
        found = read()
    except ExperimentError as error:
        refusal = error
    assert all(isinstance(point, Point) and isinstance(point.experiment, Experiment) for point in found)
    if refusal is None:
        return "points"
    shown = [str(problem) for problem in refusal.problems]
    assert shown
    assert len(set(shown)) == len(shown)
    assert all(problem.message for problem in refusal.problems)
    return "refused"


@FUZZ
@given(content=st.dictionaries(st.sampled_from(NAMES), TREES))
def test_any_tree_gives_points_or_an_experiment_error(content: dict[str, Any]):
    check(lambda: expand(Document(None, content)))


def test_a_damaged_experiment_gives_points_or_an_experiment_error():
    seen: Counter[str] = Counter()

    @settings(FUZZ, max_examples=100)
    @given(
        changes=CHANGES,
        variants=st.just({}) | st.dictionaries(st.text(max_size=3), CHANGES, max_size=2) | TREES,
        sweep=st.just({}) | st.dictionaries(st.sampled_from(NAMES), st.lists(TREES, max_size=2), max_size=2),
    )
    def run(changes: dict[str, Any], variants: Any, sweep: Any) -> None:
        content = tree()
        for section, change in changes.items():
            both = isinstance(change, dict) and isinstance(content.get(section), dict)
            content[section] = content[section] | change if both else change
        seen[check(lambda: expand(Document(None, content | {"variants": variants, "sweep": sweep})))] += 1

    run()
    assert seen["points"] > 3
    assert seen["refused"] > 10


@settings(FUZZ, max_examples=30)
@given(content=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), TREES), extra=st.text(max_size=8))
def test_any_file_gives_points_or_an_experiment_error(content: dict[str, Any], extra: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_text(yaml.safe_dump(tree() | content) + extra, encoding="utf-8", errors="replace")
        check(lambda: load(path))


@FUZZ
@given(setting=st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(NAMES), st.text(max_size=8)))
def test_any_setting_gives_points_or_an_experiment_error(setting: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_text(yaml.safe_dump(tree()), encoding="utf-8")
        check(lambda: load(path, setting))
