import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from experiment_files import tree

from simulator.experiment import Experiment
from simulator.experiment.file import parse_value
from simulator.experiment.schema.json_schema import file_schema
from tests.experiments import outside

FOLDER = Path(__file__).parents[2] / "experiments"
SCHEMA = file_schema()


def valid(content: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(content))


def test_the_committed_schema_is_current():
    committed = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    script = f"import json; from {file_schema.__module__} import file_schema; print(json.dumps(file_schema()))"
    made = subprocess.run([sys.executable, "-c", script], env=outside(), capture_output=True, text=True, check=True)
    message = "out of date; write it with: tardigrad schema --out experiments/schema.json"
    assert committed == json.loads(made.stdout), message  # in a process in which no test has registered anything


def test_it_is_a_schema_of_the_draft_that_it_names():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(SCHEMA, allow_nan=False)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_experiment_files_fit(path: Path):
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(parse_value(path.read_text(encoding="utf-8")))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_quickstart_tells_editors_of_the_schema():
    assert (FOLDER / "quickstart.yaml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"extends": "other.yaml", "inner": {"learning_rate": 0.1}},
        {"variants": {"a": {"outer": {"buffer": 3}}, "b": {}}},
        {"sweep": {"seed": [1, 2], "pairs": [{"seed": 1, "inner.batch_size": 2}]}},
        {"cluster": {"devices": {"jitter": 0.1}}},
        {"cluster": {"devices": {"profile": "very"}, "network": {"latency": ["1ms", 2], "bandwidth": "unlimited"}}},
        {"data": {"source": "text", "files": "a.txt"}},
        {"data": {"files": ["a.txt"]}},
        {"outer": {"optimizer": "lion", "arguments": {"b1": 0.9}}},
        {"synchronization": {"kind": "asynchronous", "grace": "infinite"}},
        {"synchronization": {"kind": "majority", "arguments": {"share": 0.5}}},
        {"local_steps": {"kind": "own"}, "shard_choice": {"kind": "own", "arguments": {}}},
        {"inner": {"clip_norm": None}},
    ],
    ids=str,
)
def test_partial_content_fits(content: dict[str, Any]):
    assert valid(content)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"sed": 1},
        {"seed": -1},
        {"seed": "one"},
        {"model": {"kind": "transformr"}},
        {"model": {"kind": "mlp", "layers": 2}},
        {"inner": {"learning_rte": 1}},
        {"inner": {"learning_rate": 0}},
        {"inner": {"state": "kept"}},
        {"outer": {"optimizer": "sgd", "momentum": 0.9}},
        {"outer": {"optimizer": "sgd", "arguments": {}}},
        {"synchronization": {"kind": "barrier", "arguments": {}}},
        {"shard_choice": {"kind": "fixed", "arguments": {}}},
        {"cluster": {"devices": {"profile": "very", "seconds_per_step": [1]}}},
        {"cluster": {"devices": {"accelerators": [{"count": 3}]}}},
        {"cluster": {"network": {"latency": "50 msec"}}},
        {"cluster": {"network": {"bandwidth": 1000}}},
        {"cluster": {"network": {"bandwidth": "1Gbps"}}},
        {"budget": {"simulated_time": "infinite"}},
        {"variants": {"a": {"name": "b"}}},
        {"variants": {"a": {"sweep": {}}}},
        {"variants": {"a": {"inner": {"learning_rte": 1}}}},
        {"variants": ["a"]},
        {"sweep": {"seed": 3}},
        {"sweep": {"seed": []}},
        {"extends": ["a"]},
        {"select": "a"},
        {"scales": {"laptop": {"scales": {}}}},
        {"reference": {"sorce": "a table"}},
    ],
    ids=str,
)
def test_mistakes_do_not_fit(content: Any):
    assert not valid(content)


def test_resolved_experiments_fit():
    resolved = Experiment.model_validate(tree()).model_dump(mode="json")
    assert valid(resolved)
    assert valid(yaml.safe_load(yaml.safe_dump(resolved)))


def test_descriptions_come_from_the_sections():
    assert SCHEMA["$defs"]["Inner"]["description"].startswith("A worker's round: H local steps")
    assert SCHEMA["$defs"]["Inner"]["properties"]["clip_norm"]["description"] == "clip gradients to this global norm"


def test_infinite_defaults_are_shown_by_their_word():
    assert SCHEMA["$defs"]["BarrierSynchronization"]["properties"]["timeout"]["default"] == "infinite"
    assert SCHEMA["$defs"]["Network"]["properties"]["bandwidth"]["default"] == "unlimited"


def test_every_mapping_is_closed_but_those_of_free_names():
    def open_mappings(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [found for item in schema for found in open_mappings(item, path)]
        if not isinstance(schema, dict):
            return []
        here = [path] if schema.get("type") == "object" and schema.get("additionalProperties") is not False else []
        return here + [found for name, item in schema.items() for found in open_mappings(item, f"{path}/{name}")]

    sweep = "properties/sweep", "properties/sweep/additionalProperties/anyOf"
    sweeps = [f"{place}/{each}" for place in ("", "/$defs/Scale") for each in sweep]
    deepest = [f"{each}/additionalProperties" for each in sweeps if each.endswith("anyOf")]
    forms = ("Distributed", "Flops", "Profile", "Relative", "Timed", "Traced")
    words = [f"/$defs/{form}Devices/properties/{key}/anyOf/anyOf" for form in forms for key in ("names", "sites")]
    found = set(open_mappings(SCHEMA, "")) - {*sweeps, *deepest, *words}
    assert sorted(found) == [
        "/$defs/Inner/properties/arguments",
        "/$defs/NamedAggregation/properties/arguments",
        "/$defs/NamedCompression/properties/arguments",
        "/$defs/NamedMerge/properties/arguments",
        "/$defs/NamedOffer/properties/arguments",
        "/$defs/NamedOuter/properties/arguments",
        "/$defs/NamedSchedule/properties/arguments",
        "/$defs/NamedShards/properties/arguments",
        "/$defs/NamedSteps/properties/arguments",
        "/$defs/NamedSynchronization/properties/arguments",
        "/$defs/NamedTopology/properties/arguments",
        "/$defs/NamedView/properties/arguments",
        "/$defs/Network/properties/sites/anyOf",
        "/$defs/Pretrain/properties/arguments",
        "/$defs/ReferenceRow/properties/at",
        "/$defs/ReferenceRow/properties/values",
        "/$defs/Scale/properties/variants",
        "/properties/scales",
        "/properties/variants",
    ]
