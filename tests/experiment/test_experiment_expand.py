from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml
from experiment_files import SMALL, experiment, messages, points, tree, without
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.experiment import Experiment, ExperimentError, Problem, expand, load, load_document

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def test_a_file_without_variants_is_one_point_of_its_own_name(tmp_path: Path):
    (point,) = load(write(tmp_path, SMALL))
    assert (point.variant, point.overrides, point.experiment.variant) == ("small", {}, "small")
    assert point.experiment.inner.learning_rate == 1e-3


def test_the_quickstart():
    found = load(QUICKSTART)
    assert [point.variant for point in found] == [
        "sync DiLoCo",
        "async Nesterov",
        "delayed Nesterov",
        "delayed Nesterov + DyLU",
    ]
    assert [point.experiment.outer.optimizer for point in found] == ["nesterov"] * 2 + ["delayed_nesterov"] * 2
    assert found[0].experiment.cluster.network.bandwidth == 1.25e8
    assert found[3].experiment.local_steps.kind == "dynamic"


def test_variants_change_what_they_name_and_nothing_else():
    content = tree(variants={"fast": {"inner": {"learning_rate": 1.0}}, "plain": {}})
    fast, plain = points(content)
    assert (fast.experiment.inner.learning_rate, fast.experiment.inner.batch_size) == (1.0, 2)
    assert plain.experiment.inner.learning_rate == 1e-3
    assert fast.experiment.model_dump(exclude={"inner", "variant"}) == plain.experiment.model_dump(
        exclude={"inner", "variant"}
    )


def test_a_grid_goes_through_its_last_axis_fastest_and_variants_slowest():
    content = tree(variants={"a": {}, "b": {}}, sweep={"seed": [0, 1], "inner.batch_size": [4, 8]})
    order = [(p.variant, p.experiment.seed, p.experiment.inner.batch_size) for p in points(content)]
    assert order == [(v, seed, size) for v in "ab" for seed in (0, 1) for size in (4, 8)]
    assert points(content)[1].overrides == {"seed": 0, "inner.batch_size": 8}


def test_a_list_of_mappings_sets_several_paths_together():
    both = [{"seed": 1, "inner.batch_size": 4}, {"seed": 2, "outer": {"learning_rate": 0.5}}]
    first, second = points(tree(sweep={"pairs": both}))
    assert (first.experiment.seed, first.experiment.inner.batch_size) == (1, 4)
    assert (second.experiment.seed, second.experiment.inner.batch_size) == (2, 2)
    assert second.experiment.outer.learning_rate == 0.5
    assert second.overrides == both[1]


def test_mappings_that_have_names_are_called_by_them():
    named = {"small": {"seed": 1, "inner.batch_size": 4}, "large": {"inner": {"batch_size": 8}}}
    found = points(tree(sweep={"sizes": named, "outer.learning_rate": [0.5, 1.0]}))
    assert [(p.experiment.inner.batch_size, p.experiment.seed, p.experiment.outer.learning_rate) for p in found] == [
        (4, 1, 0.5),
        (4, 1, 1.0),
        (8, 0, 0.5),
        (8, 0, 1.0),
    ]
    assert found[2].overrides == {"sizes": "large", "outer.learning_rate": 0.5}


def test_settings_replace_an_axis_whose_values_have_names(tmp_path: Path):
    path = write(tmp_path, SMALL + "sweep: {sizes: {a: {seed: 1}, b: {seed: 2}}, inner.batch_size: [4]}\n")
    assert [p.overrides for p in load(path, "sweep.sizes={c: {seed: 3}}")] == [{"sizes": "c", "inner.batch_size": 4}]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cluster.network.latency", "1ms"),
        ("cluster.network.up.bandwidth", "1MB/s"),
        ("cluster.devices", {"profile": "very", "workers": 8}),
        ("outer", {"optimizer": "nesterov", "learning_rate": 0.7}),
        ("model.layers", 3),
        ("name", "other"),
    ],
)
def test_any_dotted_path_is_an_axis(path: str, value: Any):
    (point,) = points(tree(sweep={path: [value]}))
    assert point.experiment != experiment()
    assert point.experiment == Experiment.model_validate(
        tree(**{path.replace(".", "__"): value}) | {"variant": "small"}
    )


def test_only_one_variant_where_one_is_asked_for(tmp_path: Path):
    path = write(tmp_path, SMALL + "variants: {a: {seed: 1}, b: {seed: 2}}\nsweep: {inner.batch_size: [1, 2]}\n")
    assert [point.experiment.seed for point in load(path, variant="b")] == [2, 2]
    found = messages(lambda: load(path, variant="bb"), tmp_path)
    assert found == ["file.yaml: --variant = 'bb': did you mean 'b'?"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("variants: [a]", "variants: expected a mapping from each variant's name to a mapping of what it changes"),
        (
            "variants: {a: 1}",
            "variants.a = 1: expected a mapping from each variant's name to a mapping of what it changes",
        ),
        ("variants: {a: {scale: b}}", "variants.a.scale: cannot be set by a variant: move it to the top level"),
        ("sweep: {scale: [a]}", "sweep.scale: scales are not swept: choose one with scale=NAME"),
        ("sweep: {z: [{scale: a}]}", "sweep.z: scales are not swept: choose one with scale=NAME"),
        ("variants: {a: {sweep: {}}}", "variants.a.sweep: cannot be set by a variant: move it to the top level"),
        ("variants: {a: {name: b}}", "variants.a.name: cannot be set by a variant: move it to the top level"),
        ("sweep: [1]", "sweep: expected a mapping from a dotted path to a list of values, such as {seed: [0, 1, 2]}"),
        ("sweep: {seed: 3}", "sweep.seed = 3: expected a list of at least one value"),
        ("sweep: {seed: []}", "sweep.seed: expected a list of at least one value"),
        (
            "sweep: {sed: [1]}",
            "sweep.sed: an axis is a path of the experiment (did you mean 'seed'?), "
            "or a list of mappings from paths to values, or such mappings by name",
        ),
        (
            "sweep: {variant: [a]}",
            "sweep.variant: variants are not swept: every one of them meets every point",
        ),
        (
            "sweep: {z: [{variant: a}]}",
            "sweep.z: variants are not swept: every one of them meets every point",
        ),
        ("sweep: {seed: [1, -1]}", "seed = -1: must be at least 0"),
        ("sweep: {z: [{seed: -1}]}", "seed = -1: must be at least 0"),
        ("sweep: {z: {a: {seed: 1}, b: {seed: -1}}}", "seed = -1: must be at least 0"),
        ("sweep: {z: {}}", "sweep.z: expected a list of at least one value"),
        ("sweep: {inner: [{batch_size: 0}]}", "inner.batch_size = 0: must be at least 1"),
        (
            "sweep: {inner.lr: [1]}",
            "inner.lr = 1: unknown key; valid: accumulation, arguments, batch_size, clip_norm, decay, learning_rate, "
            "local_steps, micro_batches, optimizer, pull, schedule, stages, state, weight_decay",
        ),
        (
            "sweep: {outer.optimizer: [nesterov]}",
            "outer.learning_rate: is missing: optimizer 'nesterov' replaced the whole mapping, so give it again",
        ),
    ],
)
def test_mistakes_in_variants_and_sweeps_stand_at_their_own_line(tmp_path: Path, sections: str, message: str):
    path = write(tmp_path, SMALL + sections + "\n")
    assert messages(lambda: load(path), tmp_path) == [f"file.yaml:10: {message}"]


def test_nothing_under_variants_and_sweep_is_the_same_as_leaving_them_out(tmp_path: Path):
    assert load(write(tmp_path, SMALL + "variants:\nsweep:\n")) == load(write(tmp_path, SMALL))


def test_settings_are_applied_last_to_every_variant_and_point(tmp_path: Path):
    path = write(
        tmp_path,
        SMALL + "variants: {a: {inner: {batch_size: 3}}, b: {}}\nsweep: {inner.batch_size: [4], seed: [1, 2]}\n",
    )
    found = load(path, "inner.batch_size=7", "cluster.network={latency: 1ms}")
    assert [point.experiment.inner.batch_size for point in found] == [7] * 4
    assert {point.experiment.cluster.network.latency for point in found} == {1e-3}
    assert [point.overrides for point in found] == [{"seed": 1}, {"seed": 2}] * 2  # what does not hold is not said


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{seed: [0, 0, 1]}", "sweep.seed.1 = 0: makes the same run as sweep.seed.0: leave one of them out"),
        (
            "{cluster.network.latency: [50ms, 1s, 0.05s]}",
            "sweep.cluster.network.latency.2 = '0.05s': makes the same run as sweep.cluster.network.latency.0: "
            "leave one of them out",
        ),
        (
            "{inner.batch_size: [4, 5], z: {a: {inner.batch_size: 3}, b: {seed: 1}}}",
            "sweep.inner.batch_size: has no effect, as sweep.z overwrites inner.batch_size: leave one of them out",
        ),
        (
            "{inner.batch_size: [4], inner: [{batch_size: 3}]}",
            "sweep.inner.batch_size: has no effect, as sweep.inner overwrites inner.batch_size: leave one of them out",
        ),
        (
            "{z: {a: {seed: 1}, b: {seed: 2}, c: {seed: 1}}}",
            "sweep.z.c = 1: makes the same run as sweep.z.a: leave one of them out",
        ),
        (
            "{y: {a: {seed: 1}, b: {seed: 2}}, z: {c: {seed: 3}}}",
            "sweep.y.b = 2: makes the same run as sweep.y.a: leave one of them out",
        ),
    ],
)
def test_values_of_a_sweep_that_make_equal_runs_or_none_are_refused(tmp_path: Path, sweep: str, message: str):
    path = write(tmp_path, SMALL + f"sweep: {sweep}\n")
    assert messages(lambda: load(path), tmp_path) == [f"file.yaml:10: {message}"]


def test_a_mapping_of_an_axis_may_be_refined_by_another(tmp_path: Path):
    sweep = "{outer: [{learning_rate: 1, weight: 0.5}], outer.learning_rate: [2, 3]}"
    found = load(write(tmp_path, SMALL + f"sweep: {sweep}\n"))
    assert [(p.experiment.outer.learning_rate, p.experiment.outer.weight) for p in found] == [(2, 0.5), (3, 0.5)]
    another = "{outer.weight: [0.5], outer: [{optimizer: nesterov, learning_rate: 1}]}"
    [point] = load(write(tmp_path, SMALL + f"sweep: {another}\n"))
    assert (point.experiment.outer.optimizer, point.experiment.outer.weight) == ("nesterov", 0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=5", "seed = 5: makes one run of all values of sweep.seed: set sweep.seed=[5] instead"),
        ("inner.batch_size=5", "inner.batch_size = 5: makes one run of all values of sweep.z: change sweep.z instead"),
        ("inner={batch_size: 5}", "inner: makes one run of all values of sweep.z: change sweep.z instead"),
    ],
)
def test_a_setting_that_makes_equal_runs_of_all_values_of_an_axis_is_refused(tmp_path, setting: str, message: str):
    axes = "{seed: [0, 1], z: [{inner.batch_size: 3}, {inner.batch_size: 4}]}"
    path = write(tmp_path, SMALL + f"sweep: {axes}\n")
    assert messages(lambda: load(path, setting), tmp_path) == [f"{message} (set on the command line)"]


def test_what_a_setting_overwrites_of_an_axis_is_in_no_label(tmp_path: Path):
    path = write(tmp_path, SMALL + "sweep: {z: [{inner.batch_size: 3, seed: 1}, {inner.batch_size: 4, seed: 2}]}\n")
    assert [point.label for point in load(path, "inner.batch_size=5")] == ["small, seed=1", "small, seed=2"]


@pytest.mark.parametrize(
    ("setting", "get", "value"),
    [
        ("inner.learning_rate=1e-2", lambda e: e.inner.learning_rate, 1e-2),
        (" seed = 3", lambda e: e.seed, 3),
        ("inner.clip_norm=null", lambda e: e.inner.clip_norm, None),
        ("cluster.devices={profile: very}", lambda e: e.cluster.workers, 4),
        ("cluster.devices.seconds_per_step=[1, 2, 3]", lambda e: e.cluster.workers, 3),
        ("name=a=b", lambda e: (e.name, e.variant), ("a=b", "a=b")),
        ("description='a: b'", lambda e: e.description, "a: b"),
        ("outer={optimizer: sgd, learning_rate: 2}", lambda e: e.outer.learning_rate, 2.0),
    ],
)
def test_a_setting(tmp_path: Path, setting: str, get: Any, value: object):
    (point,) = load(write(tmp_path, SMALL), setting)
    assert get(point.experiment) == value


def test_settings_reach_single_variants_and_sweeps(tmp_path: Path):
    text = SMALL + "variants: {a 0.5: {seed: 1}, b: {seed: 2}}\nsweep: {inner.batch_size: [4, 5]}\n"
    path = write(tmp_path, text)
    found = load(path, "variants.a 0.5.outer.learning_rate=0.5", "sweep.inner.batch_size=[6]", "sweep.seed=[8, 9]")
    assert [(p.variant, p.experiment.outer.learning_rate, p.experiment.inner.batch_size) for p in found] == [
        ("a 0.5", 0.5, 6),
        ("a 0.5", 0.5, 6),
        ("b", 1.0, 6),
        ("b", 1.0, 6),
    ]
    assert [p.experiment.seed for p in found] == [8, 9, 8, 9]
    assert [p.variant for p in load(path, "variants.c={seed: 3}", "sweep=null")] == ["a 0.5", "b", "c"]
    assert [p.experiment.seed for p in load(path, "variants=null", "sweep=null")] == [0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "seed: a setting is written key.path=value, such as inner.learning_rate=1e-3"),
        ("=3", "=3: a setting is written key.path=value, such as inner.learning_rate=1e-3"),
        ("inner..x=3", "inner..x=3: a setting is written key.path=value, such as inner.learning_rate=1e-3"),
        ("seed=[1", "seed = '[1': not a YAML value: while parsing a flow sequence: expected ',' or ']', but got"),
        ("seed={a: 1, a: 2}", "seed = '{a: 1, a: 2}': not a YAML value: a: this key stands here twice"),
        ("seed=2020-13-45", "seed = '2020-13-45': not a YAML value: '2020-13-45' is not a valid timestamp"),
        ("inner.arguments={1: 2}", "inner.arguments = '{1: 2}': not a YAML value: 1: keys must be text"),
        ("sed=3", "sed = 3: unknown key; did you mean 'seed'? (set on the command line)"),
        ("iner.batch_size=3", "iner: unknown key; did you mean 'inner'? (set on the command line)"),
        ("seed=-1", "seed = -1: must be at least 0 (set on the command line)"),
        ("inner={batch_size: 0}", "inner.batch_size = 0: must be at least 1 (set on the command line)"),
        (
            "outer.optimizer=nesterov",
            "outer.learning_rate: is missing: optimizer 'nesterov' replaced the whole mapping, so give it again "
            "(set on the command line)",
        ),
        (
            "variants.a.inner.batch_size=0",
            "variants.a.inner.batch_size = 0: must be at least 1 (set on the command line)",
        ),
        (
            "variants.aa.inner.batch_size=3",
            "variants.aa.inner.batch_size = 3: there is no such variant; did you mean 'a'? (set on the command line)",
        ),
        ("sweep.seed=3", "sweep.seed = 3: expected a list of at least one value (set on the command line)"),
        ("sweep.seed=[-3]", "seed = -3: must be at least 0 (set on the command line)"),
        ("variant=b", "variant = 'b': is set from the names under variants: leave it out (--variant chooses one)"),
    ],
)
def test_a_wrong_setting(tmp_path: Path, setting: str, message: str):
    path = write(tmp_path, SMALL + "variants: {a: {inner: {batch_size: 4}}}\n")
    (found,) = messages(lambda: load(path, setting), tmp_path)
    assert found.removeprefix("file.yaml: ").startswith(message)


def test_a_mistake_next_to_a_setting_is_not_blamed_on_it(tmp_path: Path):
    path = write(tmp_path, SMALL.replace("batch_size: 2", "batch_size: 0"))
    found = messages(lambda: load(path, "inner={local_steps: 3}"), tmp_path)
    assert found == ["file.yaml:6: inner.batch_size = 0: must be at least 1"]
    path = write(tmp_path, SMALL.replace("heads: 2, ", ""))
    found = messages(lambda: load(path, "model.layers=3"), tmp_path)
    assert found == ["file.yaml:2: model: also give heads, or a preset (20m, 60m, 150m)"]


def test_a_section_that_only_one_variant_lacks_is_missing_there(tmp_path: Path):
    text = SMALL.replace("synchronization: {kind: asynchronous}\n", "")
    path = write(tmp_path, text + "variants:\n  a: {synchronization: {kind: asynchronous}}\n  b: {}\n")
    found = messages(lambda: load(path), tmp_path)
    assert found == ["file.yaml:11: variants.b.synchronization: is missing; it has no default"]


def test_a_variant_that_replaces_a_mapping_is_told_what_it_lost(tmp_path: Path):
    path = write(tmp_path, SMALL + "variants:\n  a: {outer: {optimizer: nesterov}}\n")
    found = messages(lambda: load(path), tmp_path)
    assert found == [
        "file.yaml:11: variants.a.outer.learning_rate: is missing: optimizer 'nesterov' replaced the whole mapping, "
        "so give it again"
    ]


def test_a_problem_found_later_is_placed_where_its_value_was_written(tmp_path: Path):
    document = load_document(write(tmp_path, SMALL + "variants: {a: {seed: 1}}\nsweep: {inner.batch_size: [3]}\n"))
    later = [Problem(key, "no") for key in ("seed", "data.source", "inner.batch_size")]
    with pytest.raises(ExperimentError) as caught:
        expand(document, check=lambda _: later)
    assert {(problem.key, problem.line) for problem in caught.value.problems} == {
        ("variants.a.seed", 10),
        ("data.source", 3),
        ("inner.batch_size", 11),
    }


def test_sound_sections_are_checked_beside_faulty_ones(tmp_path: Path):
    text = SMALL.replace("seconds_per_step", "seconds_per_stp").replace("sgd,", "nadmw,")
    document = load_document(write(tmp_path, text), ["seed=-1", "nothing", "variants.x.y=1"])
    seen = []

    def check(sections: Experiment) -> list[Problem]:
        seen.append({name for name in Experiment.model_fields if hasattr(sections, name)})
        return [Problem("outer.optimizer", f"no {sections.outer.optimizer}")]

    with pytest.raises(ExperimentError) as caught:
        expand(document, variant="b", check=check)
    assert seen == [set(Experiment.model_fields) - {"cluster"}]
    assert {problem.key for problem in caught.value.problems} == {
        *("nothing", "variants.x.y", "--variant", "seed", "outer.optimizer"),
        *("cluster.devices.seconds_per_step", "cluster.devices.seconds_per_stp"),
    }


def test_a_resolved_experiment_reads_back_as_itself(tmp_path: Path):
    for point in load(QUICKSTART):
        resolved = point.experiment.model_dump(mode="json")
        assert Experiment.model_validate(resolved) == point.experiment
        (again,) = load(write(tmp_path, yaml.safe_dump(resolved)))
        assert again.experiment == point.experiment
        assert again.variant == point.variant


@settings(max_examples=50)
@given(
    step=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    latency=st.lists(st.floats(min_value=0, allow_infinity=False), min_size=2, max_size=2),
    bandwidth=st.floats(min_value=0, exclude_min=True),
    grace=st.floats(min_value=0),
    arguments=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    ),
)
def test_any_experiment_survives_being_written(
    step: float, latency: list[float], bandwidth: float, grace: float, arguments: dict[str, Any]
):
    original = experiment(
        cluster__devices__seconds_per_step=[step, 1],
        cluster__network__latency=latency,
        cluster__network__bandwidth="unlimited" if bandwidth == float("inf") else f"{bandwidth!r}B/s",
        synchronization__grace=grace,
        inner__arguments=arguments,
    )
    written = original.model_dump(mode="json")
    assert Experiment.model_validate(written) == original
    assert Experiment.model_validate(yaml.safe_load(yaml.safe_dump(written))) == original


def test_an_experiment_cannot_be_changed():
    frozen = experiment()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        frozen.seed = 1
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        frozen.cluster.network.latency = 1.0
    assert isinstance(frozen.cluster.devices.seconds_per_step, tuple)


def test_a_top_level_variant_beside_variants_is_refused():
    assert messages(lambda: points(tree(variant="a", variants={"a": {}}))) == [
        "variant = 'a': is set from the names under variants: leave it out (--variant chooses one)"
    ]


def test_a_complete_experiment_is_needed():
    assert messages(lambda: points(without("inner"))) == ["inner: is missing; it has no default"]
