from pathlib import Path

import pytest
import yaml
from experiment_files import SMALL, messages

from simulator.experiment import Document, ExperimentError, load, load_document
from simulator.experiment.file import merge, parse_value


def write(folder: Path, text: str | bytes, name: str = "file.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(folder: Path, text: str | bytes) -> Document:
    return load_document(write(folder, text))


def refused(folder: Path, text: str | bytes) -> list[str]:
    path = write(folder, text)

    def read_keys() -> None:
        if problems := load_document(path).problems:
            raise ExperimentError(problems)

    return messages(read_keys, folder)


def test_every_key_and_element_has_its_line(tmp_path: Path):
    document = read(tmp_path, "a: 1\nb:\n  c: {d: 2,\n    e: 3}\n  f:\n  - x\n  - {g: 4}\n")
    assert {key: line for key, (_, line) in document.lines.items()} == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", "d"): 3,
        ("b", "c", "e"): 4,
        ("b", "f"): 5,
        ("b", "f", "0"): 6,
        ("b", "f", "1"): 7,
        ("b", "f", "1", "g"): 7,
    }
    assert {file for file, _ in document.lines.values()} == {tmp_path / "file.yaml"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-7", -7),
        ("1_000", 1000),
        ("0x1F", 31),
        ("010", 10),
        (".inf", float("inf")),
        ("1e", "1e"),
        ("1:30", "1:30"),
        ("e3", "e3"),
        ("'1e-3'", "1e-3"),
        ("yes", True),
        ("null", None),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: object):
    found = read(tmp_path, f"x: {text}\n").tree["x"]
    assert (found, type(found)) == (value, type(value))
    assert parse_value(text) == value


def test_a_key_that_stands_twice(tmp_path: Path):
    assert refused(tmp_path, "a: 1\nb: {c: 1, c: 2}\na: 3\n") == [
        "file.yaml:2: b.c: this key stands here twice",
        "file.yaml:3: a: this key stands here twice",
    ]


def test_of_a_key_that_stands_twice_the_first_counts(tmp_path: Path):
    assert read(tmp_path, "a: 1\nb: {c: 1, c: 2, 3: 4}\na: 3\n").tree == {"a": 1, "b": {"c": 1}}


def test_keys_are_text(tmp_path: Path):
    assert refused(tmp_path, "1: a\nyes: b\n[x]: c\n'2': d\n") == [
        "file.yaml:1: 1: keys must be text: put it in quotes",
        "file.yaml:2: yes: keys must be text: put it in quotes",
        "file.yaml:3: keys must be text: put it in quotes",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1\n", "file.yaml:2: not valid YAML: while parsing a flow mapping: expected ',' or '}', but got"),
        ("a: b: c\n", "file.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\nb: *nowhere\n", "file.yaml:2: not valid YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: not valid YAML: expected a single document"),
        ("a: 1\nb: \x01\n", "file.yaml:2: not valid YAML: unacceptable character #x0001"),
        ("a: !!python/object:os.system x\n", "file.yaml:1: not valid YAML: could not determine a constructor"),
        ("\n\na: 2020-13-45\n", "file.yaml:3: not valid YAML: '2020-13-45' is not a valid timestamp"),
        ("a: !!int ''\n", "file.yaml:1: not valid YAML: '' is not a valid int"),
        ("a: !!bool maybe\n", "file.yaml:1: not valid YAML: 'maybe' is not a valid bool"),
        ("a: !!timestamp soon\n", "file.yaml:1: not valid YAML: 'soon' is not a valid timestamp"),
        (f"a: {'9' * 5000}\n", f"file.yaml:1: not valid YAML: '{'9' * 40}' is not a valid int"),
        ("a: &a {b: *a}\n", "file.yaml: not valid YAML: it is nested too deeply, or an anchor contains itself"),
        ("a: " + "[" * 1000, "file.yaml: not valid YAML: it is nested too deeply, or an anchor contains itself"),
    ],
)
def test_not_yaml(tmp_path: Path, text: str, message: str):
    (found,) = refused(tmp_path, text)
    assert found.startswith(message)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "42\n", "text\n", "null\n"])
def test_not_a_mapping(tmp_path: Path, text: str):
    assert refused(tmp_path, text) == ["file.yaml: expected a mapping with name, model, data, cluster, …"]


def test_a_missing_file(tmp_path: Path):
    path = tmp_path / "none.yaml"
    assert messages(lambda: load_document(path), tmp_path) == ["none.yaml: cannot be read: No such file or directory"]


def test_a_directory(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    found = messages(lambda: load_document(tmp_path / "folder"), tmp_path)
    assert found == ["folder: cannot be read: Is a directory"]


def test_text_that_is_not_utf_8(tmp_path: Path):
    assert refused(tmp_path, b"name: \xff\xfe\n") == ["file.yaml: cannot be read: it is not UTF-8 text"]


def test_an_alias_bomb_is_refused_before_it_goes_off(tmp_path: Path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (found,) = refused(tmp_path, "\n".join(levels))
    assert found.startswith("file.yaml: not valid YAML: it has over 1")
    assert found.endswith(" entries: anchors that multiply")


def test_a_long_list_is_no_bomb(tmp_path: Path):
    assert len(read(tmp_path, f"a: [{'1, ' * 12_000}]").tree["a"]) == 12_000


def test_merge_keys_keep_the_lines_of_what_they_bring(tmp_path: Path):
    document = read(tmp_path, "a: &a\n  x: 1\n  y: 1\nb:\n  y: 2\n  <<: *a\n")
    assert document.tree["b"] == {"x": 1, "y": 2}
    assert {key[-1]: line for key, (_, line) in document.lines.items() if key[0] == "b" and len(key) == 2} == {
        "x": 2,
        "y": 5,
    }


def test_of_several_merge_keys_the_first_counts(tmp_path: Path):
    document = read(tmp_path, "a: &a\n  x: 1\nb: &b\n  x: 2\nc:\n  <<: [*a, *b]\n")
    assert document.tree["c"] == {"x": 1}
    assert document.lines[("c", "x")] == (tmp_path / "file.yaml", 2)


def test_extends_lays_the_file_over_its_parents(tmp_path: Path):
    write(tmp_path, "a: {x: 1, y: 1, z: 1}\nvariants: {one: {}}\n", "grandparent.yaml")
    write(tmp_path, "extends: ../grandparent.yaml\na: {y: 2, z: 2}\n", "below/parent.yaml")
    document = read(tmp_path, "extends: below/parent.yaml\na: {z: 3}\nvariants: {two: {}}\n")
    assert document.tree == {"a": {"x": 1, "y": 2, "z": 3}, "variants": {"one": {}, "two": {}}}
    places = {key[-1]: (file.name, line) for key, (file, line) in document.lines.items() if key[0] == "a"}
    assert places["x"] == ("grandparent.yaml", 1)
    assert places["y"] == ("parent.yaml", 2)
    assert places["z"] == ("file.yaml", 2)


def test_a_file_that_extends_itself(tmp_path: Path):
    found = refused(tmp_path, "\nextends: ./file.yaml\n")
    assert found == ["file.yaml:2: extends = './file.yaml': the file extends itself"]


def test_files_that_extend_each_other(tmp_path: Path):
    write(tmp_path, "extends: file.yaml\n", "other.yaml")
    found = refused(tmp_path, "extends: other.yaml\n")
    assert found == ["other.yaml:1: extends = 'file.yaml': the file extends itself"]


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("none.yaml", "file.yaml:1: extends = 'none.yaml': cannot be read: No such file or directory"),
        (".", "file.yaml:1: extends = '.': cannot be read: Is a directory"),
        ('"a\\0b"', "file.yaml:1: extends = 'a\\x00b': cannot be read: embedded null byte"),
        ("[a, b]", "file.yaml:1: extends: expected the path of an experiment file, relative to this one"),
        ("", "file.yaml:1: extends: expected the path of an experiment file, relative to this one"),
        ("''", "file.yaml:1: extends = '': expected the path of an experiment file, relative to this one"),
    ],
)
def test_a_parent_that_cannot_be_read(tmp_path: Path, parent: str, message: str):
    assert refused(tmp_path, f"extends: {parent}\n") == [message]


def test_a_mistake_in_a_parent_names_the_parent(tmp_path: Path):
    write(tmp_path, "\na: {b\n", "parent.yaml")
    (found,) = refused(tmp_path, "extends: parent.yaml\n")
    assert found.startswith("parent.yaml:3: not valid YAML: ")


def test_paths_of_files_are_relative_to_the_file_that_they_stand_in(tmp_path: Path):
    write(tmp_path, "data: {source: text, files: corpus/*.txt}\n", "parent/base.yaml")
    text = (
        "extends: parent/base.yaml\n"
        "variants:\n  own: {data: {files: [own.txt, /tmp/absolute.txt]}}\n  inherited: {}\n"
        "inner: {arguments: {files: untouched.txt}}\n"
        "sweep:\n  data.files: [a.txt, [b.txt]]\n  data: [{files: c.txt}]\n  both: [{data.files: d.txt, seed: 1}]\n"
    )
    document = read(tmp_path, text)
    assert document.tree["data"]["files"] == f"{tmp_path}/parent/corpus/*.txt"
    assert document.tree["variants"]["own"]["data"]["files"] == [f"{tmp_path}/own.txt", "/tmp/absolute.txt"]
    assert document.tree["inner"]["arguments"]["files"] == "untouched.txt"
    assert document.tree["sweep"] == {
        "data.files": [f"{tmp_path}/a.txt", [f"{tmp_path}/b.txt"]],
        "data": [{"files": f"{tmp_path}/c.txt"}],
        "both": [{"data.files": f"{tmp_path}/d.txt", "seed": 1}],
    }


PATHS = """\
data:
  source: tfds
  data_dir: prepared
  tokenizer: {kind: file, path: tokens/own.json, end_of_document: untouched}
variants:
  data: {data: {tokenizer: {path: ../v.json}, data_dir: "gs://bucket/tfds"}}
  home: {data: {tokenizer: bytes, data_dir: ~/tfds}}
scales:
  small:
    data: {data_dir: small}
    variants: {home: {data: {data_dir: home}}}
    sweep: {data.data_dir: [s]}
  large: {data: {data_dir: /large}}
sweep:
  data.data_dir: [a, "gs://b", ~/c, null, 3]
  data.tokenizer: [bytes, {kind: file, path: d.json}]
  data.tokenizer.path: [e.json]
  data: [{source: text, files: ["f.txt", ~/g.txt], tokenizer: {kind: sentencepiece, path: h.model}}]
  data.name: [untouched]
  both:
  - {data.tokenizer.path: i.json, data.files: [j.txt], seed: 1, model.path: untouched}
  - {data: {tokenizer: {path: k.json}}, data.data_dir: "s3://l"}
"""


def test_every_setting_that_names_files_is_relative_to_the_file_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", "/home/me")
    write(tmp_path, PATHS)
    tree = load_document(tmp_path / "file.yaml", ["scale=large"]).tree
    tokenizer = {"kind": "file", "path": f"{tmp_path}/tokens/own.json", "end_of_document": "untouched"}
    assert tree["data"] == {"source": "tfds", "data_dir": "/large", "tokenizer": tokenizer}
    assert tree["variants"] == {
        "data": {"data": {"tokenizer": {"path": f"{tmp_path}/../v.json"}, "data_dir": "gs://bucket/tfds"}},
        "home": {"data": {"tokenizer": "bytes", "data_dir": "/home/me/tfds"}},
    }
    assert tree["sweep"] == {
        "data.data_dir": [f"{tmp_path}/a", "gs://b", "/home/me/c", None, 3],
        "data.tokenizer": ["bytes", {"kind": "file", "path": f"{tmp_path}/d.json"}],
        "data.tokenizer.path": [f"{tmp_path}/e.json"],
        "data": [
            {
                "source": "text",
                "files": [f"{tmp_path}/f.txt", "/home/me/g.txt"],
                "tokenizer": {"kind": "sentencepiece", "path": f"{tmp_path}/h.model"},
            }
        ],
        "data.name": ["untouched"],
        "both": [
            {
                "data.tokenizer.path": f"{tmp_path}/i.json",
                "data.files": [f"{tmp_path}/j.txt"],
                "seed": 1,
                "model.path": "untouched",
            },
            {"data": {"tokenizer": {"path": f"{tmp_path}/k.json"}}, "data.data_dir": "s3://l"},
        ],
    }


def test_a_home_folder_and_variables_are_put_into_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"HOME": "/home/me", "DATA": "/big [1]"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NOTHING", raising=False)
    section = {
        "data": {"files": "$DATA/*.txt", "data_dir": "${DATA}/tfds", "tokenizer": {"path": "~/a$DATA.json"}},
        "cluster": {"faults": {"trace": "$NOTHING/t.csv"}},
    }
    expected = {
        "data": {
            "files": "/big [[]1]/*.txt",
            "data_dir": "/big [1]/tfds",
            "tokenizer": {"path": "/home/me/a/big [1].json"},
        },
        "cluster": {"faults": {"trace": f"{tmp_path}/$NOTHING/t.csv"}},
    }
    axes = {"data.tokenizer.path": {"search": "choice", "values": ["~/a", "b"]}, "data.data_dir": ["~/c"]}
    write(tmp_path, yaml.safe_dump(section | {"variants": {"v": section}, "sweep": axes}))
    tree = load_document(tmp_path / "file.yaml").tree
    assert {name: tree[name] for name in section} == tree["variants"]["v"] == expected
    assert tree["sweep"]["data.tokenizer.path"]["values"] == ["/home/me/a", f"{tmp_path}/b"]
    assert tree["sweep"]["data.data_dir"] == ["/home/me/c"]


def test_what_a_file_extends_may_be_in_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("BASES", str(tmp_path / "bases"))
    write(tmp_path, "seed: 3\nextends: $BASES/b.yaml\n", "me/x.yaml")
    write(tmp_path, "name: far\n", "bases/b.yaml")
    assert read(tmp_path, "extends: ~/x.yaml\n").tree == {"seed": 3, "name": "far"}
    assert refused(tmp_path, "extends: ~/y.yaml\n") == [
        "file.yaml:1: extends = '~/y.yaml': cannot be read: No such file or directory"
    ]


def test_a_folder_is_no_part_of_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me*")
    write(tmp_path, "data: {source: text, files: [a.txt, 'b[12].txt', ~/c.txt, /d.txt]}\n", "run[1]/file.yaml")
    assert load_document(tmp_path / "run[1]/file.yaml").tree["data"]["files"] == [
        f"{tmp_path}/run[[]1]/a.txt",
        f"{tmp_path}/run[[]1]/b[12].txt",
        "/home/me[*]/c.txt",
        "/d.txt",
    ]


def test_paths_in_a_scale_are_relative_to_the_file(tmp_path: Path):
    write(tmp_path, PATHS)
    tree = load_document(tmp_path / "file.yaml", ["scale=small"]).tree
    assert tree["data"]["data_dir"] == f"{tmp_path}/small"
    assert tree["variants"]["home"]["data"]["data_dir"] == f"{tmp_path}/home"
    assert tree["sweep"]["data.data_dir"] == [f"{tmp_path}/s"]


def test_paths_on_the_command_line_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", "/home/me")
    write(tmp_path, PATHS)
    settings = ("scale=large", "data.data_dir=~/tfds", "data.files=[a/*.txt, /b]", "data.tokenizer={path: c.json}")
    assert load_document(tmp_path / "file.yaml", settings).overrides == {
        "data.data_dir": "/home/me/tfds",
        "data.files": ["a/*.txt", "/b"],
        "data.tokenizer": {"path": "c.json"},
    }
    settings = ("scale=large", "variants.home.data.data_dir=~/a", "sweep.data.data_dir=[~/b, c]")
    tree = load_document(tmp_path / "file.yaml", settings).tree
    assert tree["variants"]["home"]["data"]["data_dir"] == "/home/me/a"
    assert tree["sweep"]["data.data_dir"] == ["/home/me/b", "c"]


def test_files_behind_an_alias_are_anchored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "data: &data {files: a.txt}\nvariants: {v: {data: *data}}\n", "folder/file.yaml")
    monkeypatch.chdir(tmp_path)
    tree = load_document("folder/file.yaml").tree
    assert (tree["data"], tree["variants"]["v"]["data"]) == ({"files": "folder/a.txt"}, {"files": "folder/a.txt"})


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"s": {"x": 1, "y": 1}}, {"s": {"y": 2}}, {"s": {"x": 1, "y": 2}}),
        ({"s": [1, 2]}, {"s": [3]}, {"s": [3]}),
        ({"s": {"x": 1}}, {"s": None}, {"s": None}),
        ({"s": 1}, {"s": {"x": 1}}, {"s": {"x": 1}}),
        ({"s": {"kind": "a", "x": 1}}, {"s": {"kind": "b"}}, {"s": {"kind": "b"}}),
        ({"s": {"kind": "a", "x": 1}}, {"s": {"kind": "a", "y": 2}}, {"s": {"kind": "a", "x": 1, "y": 2}}),
        ({"s": {"optimizer": "a", "x": 1}}, {"s": {"optimizer": "b"}}, {"s": {"optimizer": "b"}}),
        ({"s": {"source": "a", "x": 1}}, {"s": {"source": "b"}}, {"s": {"source": "b"}}),
        ({"s": {"x": 1}}, {"s": {"kind": "b"}}, {"s": {"x": 1, "kind": "b"}}),
        ({"variants": {"kind": {"x": 1}, "v": {}}}, {"variants": {"kind": {"y": 2}}}, None),
    ],
)
def test_the_rule_of_merging(below: dict[str, object], above: dict[str, object], merged: dict[str, object] | None):
    expected = merged or {"variants": {"kind": {"x": 1, "y": 2}, "v": {}}}  # a variant may be called kind
    before = repr(below)
    assert merge(below, above) == expected
    assert repr(below) == before


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({"seconds_per_step": [1, 2]}, {"profile": "very"}, {"profile": "very"}),
        ({"profile": "very", "workers": 8}, {"seconds_per_step": [1]}, {"seconds_per_step": [1]}),
        ({"profile": "very", "workers": 8}, {"profile": "none"}, {"profile": "none", "workers": 8}),
        ({"profile": "very"}, {"workers": 8}, {"profile": "very", "workers": 8}),
        ({"accelerators": [1], "jitter": 1}, {"relative_speed": [1]}, {"relative_speed": [1]}),
        (
            {"relative_speed": [1]},
            {"seconds_per_step": 2},
            {"relative_speed": [1], "seconds_per_step": 2},
        ),
    ],
)
def test_devices_in_another_form_replace_the_old(
    below: dict[str, object], above: dict[str, object], merged: dict[str, object]
):
    assert merge({"devices": below}, {"devices": above}) == {"devices": merged}


SIZES = {"layers": 2, "width": 64, "heads": 4, "context": 32, "vocabulary": 300, "tied": False}


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({**SIZES, "dtype": "float32"}, {"preset": "20m"}, {"dtype": "float32", "preset": "20m"}),
        ({"preset": "20m", "context": 64}, {"preset": "60m"}, {"preset": "60m"}),
        ({"preset": "20m", "context": 64}, {"preset": "20m"}, {"preset": "20m", "context": 64}),
        ({"preset": "20m"}, {"layers": 3}, {"preset": "20m", "layers": 3}),
        (SIZES, {"preset": "60m", "layers": 3}, {"preset": "60m", "layers": 3}),
        ({"preset": "20m"}, {"preset": None, **SIZES}, {"preset": None, **SIZES}),
    ],
)
def test_another_preset_replaces_the_sizes_below_it(
    below: dict[str, object], above: dict[str, object], merged: dict[str, object]
):
    assert merge({"model": {"kind": "transformer"} | below}, {"model": above}) == {
        "model": {"kind": "transformer"} | merged
    }


def test_another_inner_optimizer_replaces_the_arguments_below_it():
    below = {"inner": {"optimizer": "sgd", "arguments": {"momentum": 0.9}, "batch_size": 4}}
    assert merge(below, {"inner": {"optimizer": "muon"}}) == {"inner": {"optimizer": "muon", "batch_size": 4}}
    lion = {"optimizer": "lion", "arguments": {"b1": 0.5}}
    assert merge(below, {"inner": lion}) == {"inner": {"batch_size": 4} | lion}
    assert merge(below, {"inner": {"optimizer": "sgd", "batch_size": 2}})["inner"]["arguments"] == {"momentum": 0.9}
    assert merge(below, {"inner": {"arguments": {"nesterov": True}}})["inner"]["arguments"] == {
        "momentum": 0.9,
        "nesterov": True,
    }


def test_a_preset_over_a_file_with_sizes_has_its_own(tmp_path: Path):
    file = write(tmp_path, SMALL)
    for setting in ("model.preset=150m", "model={kind: transformer, preset: 150m}"):
        [point] = load(file, setting)
        assert point.experiment.model.model_dump(exclude_unset=True) == {"kind": "transformer", "preset": "150m"}
    points = load(file, "sweep={model.preset: [20m, 60m], model.layers: [1, 2]}")
    swept = [(point.experiment.model.preset, point.experiment.model.layers) for point in points]
    assert swept == [("20m", 1), ("20m", 2), ("60m", 1), ("60m", 2)]
    assert {point.experiment.model.width for point in points} == {None}


@pytest.mark.parametrize(
    "settings",
    [
        ["outer.momentum=0.5", "outer.optimizer=nesterov", "outer.learning_rate=0.3"],
        ["model.layers=3", "model.preset=20m"],
        ["cluster.devices.workers=8", "cluster.devices.profile=very"],
        ["inner.local_steps=7", "inner={learning_rate: 2e-3, batch_size: 4}"],
    ],
)
def test_settings_of_the_command_line_all_have_their_effect_in_any_order(tmp_path: Path, settings: list[str]):
    file = write(tmp_path, SMALL)
    first, *others = settings
    [forward], [backward], [without] = (load(file, *order) for order in (settings, [*others, first], others))
    assert forward.experiment == backward.experiment != without.experiment


def test_edits_of_a_variant_on_the_command_line_all_have_their_effect_in_any_order(tmp_path: Path):
    file = write(tmp_path, SMALL + "variants: {a: {outer: {weight: 0.5}}}\n")
    edits = ["variants.a.outer.momentum=0.5", "variants.a.outer={optimizer: nesterov, learning_rate: 1}"]
    for order in (edits, edits[::-1]):
        [point] = load(file, *order)
        outer = point.experiment.outer.model_dump(exclude_unset=True)
        assert outer == {"optimizer": "nesterov", "learning_rate": 1.0, "momentum": 0.5, "weight": 0.5}


def test_the_small_file_is_valid(tmp_path: Path):
    assert len(load(write(tmp_path, SMALL))) == 1


def test_another_inner_optimizer_leaves_the_other_inner_settings():
    base = {"inner": {"optimizer": "adamw", "learning_rate": 0.1}, "outer": {"optimizer": "sgd", "learning_rate": 1}}
    change = {"inner": {"optimizer": "sgd"}, "outer": {"optimizer": "adam"}}
    assert merge(base, change) == {
        "inner": {"optimizer": "sgd", "learning_rate": 0.1},
        "outer": {"optimizer": "adam"},
    }
