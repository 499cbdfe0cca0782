"""The file format as a JSON Schema, by which editors complete keys, show descriptions and underline mistakes."""

import math
from collections.abc import Mapping
from typing import Any

from simulator.experiment.reference import Reference
from simulator.experiment.registry import BUILT_IN
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.outer import BUILT_IN_OUTER
from simulator.experiment.schema.policies import NamedShards, NamedSteps, NamedSynchronization
from simulator.experiment.schema.workers_file import DEVICE_COLUMNS, LINK_COLUMNS
from simulator.experiment.search import Search

_STANDARD = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_NOT_OF_A_VARIANT = ("name", "variant", "scale")
_EXTENDS = "another experiment file, relative to this one, over which this one is laid"
_VARIANTS = "name of each variant: what it changes of the rest of the file"
_SELECT = "names of the variants to simulate, in this order; all when absent"
_SCALES = "name of each scale: what it changes of the rest of the file; `scale` chooses one"
_SWEEP = (
    "axes, all combined: a dotted path with its values, or any name with mappings from dotted paths to values, "
    "in a list or each by a name of its own, or a dotted path with a search for its best value"
)
_AXES = [
    {"type": "array", "minItems": 1},
    {"$ref": "#/$defs/Search"},
    {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
]


def file_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of experiment files.

    Every section may be partial, since the rest of it may come from `extends` or from a variant; whether an experiment
    is complete, and whether its settings fit together, is what `tardigrad validate` says.
    """
    generated = Experiment.model_json_schema()
    definitions = {name: _clean(section) for name, section in generated["$defs"].items()}
    for name, section in definitions.items():
        if name not in _listed(generated):
            section.pop("required", None)
    _keep_built_in_names(definitions)
    _add_files(definitions)
    definitions["Search"] = _clean(Search.model_json_schema())
    settings = _clean(generated)["properties"]
    definitions["Variant"] = {
        "type": "object",
        "description": "What this variant changes.",
        "properties": {name: value for name, value in settings.items() if name not in _NOT_OF_A_VARIANT},
        "additionalProperties": False,
    }
    parts = {
        "variants": {
            "type": "object",
            "description": _VARIANTS,
            "additionalProperties": {"$ref": "#/$defs/Variant"},
        },
        "select": {"type": "array", "description": _SELECT, "items": {"type": "string"}, "minItems": 1},
        "sweep": {"type": "object", "description": _SWEEP, "additionalProperties": {"anyOf": _AXES}},
        "reference": _reference(definitions),
    }
    definitions["Scale"] = definitions["Variant"] | {
        "description": "What this scale changes.",
        "properties": definitions["Variant"]["properties"] | parts,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tardigrad experiment",
        "description": generated["description"],
        "type": "object",
        "properties": settings
        | {
            "extends": {"type": "string", "description": _EXTENDS},
            **parts,
            "scales": {
                "type": "object",
                "description": _SCALES,
                "additionalProperties": {"$ref": "#/$defs/Scale"},
            },
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def _keep_built_in_names(definitions: dict[str, Any]) -> None:
    """Excludes built-in names from the schemas of registered policies."""
    definitions["NamedOuter"]["properties"]["optimizer"]["not"] = {"enum": list(BUILT_IN_OUTER)}
    for named in (NamedSynchronization, NamedSteps, NamedShards):
        definitions[named.__name__]["properties"]["kind"]["not"] = {"enum": list(BUILT_IN[named.section])}


def _add_files(definitions: dict[str, Any]) -> None:
    """Adds `file` to devices and network, which stands for columns of the file when an experiment is read."""
    for name, columns in (("TimedDevices", DEVICE_COLUMNS), ("Network", LINK_COLUMNS)):
        description = f"path of a CSV file, a row for each worker, with columns among {', '.join(columns)}"
        definitions[name]["properties"]["file"] = {"type": "string", "description": description}


def _reference(definitions: dict[str, Any]) -> dict[str, Any]:
    """Returns the section of published results; definitions that it refers to are added."""
    generated = Reference.model_json_schema()
    definitions |= {name: _clean(section) for name, section in generated.pop("$defs").items()}
    cleaned: dict[str, Any] = _clean(generated)
    cleaned.pop("required")  # the rest may come from `extends`
    return cleaned


def _clean(schema: Any) -> Any:
    """Returns pydantic's schema in the draft's own words and without made-up titles.

    A partial section may fit several members of a union, hence `anyOf`.
    """
    if isinstance(schema, list):
        return [_clean(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # a mapping of names, whatever they are
            cleaned[key] = {name: _clean(item) for name, item in value.items()}
        elif key == "default":
            if _worth_showing(value):
                cleaned[key] = value
        elif key == "oneOf":
            cleaned["anyOf"] = _clean(value)
        elif key not in ("title", "discriminator") and value != 2**63:
            cleaned[_STANDARD.get(str(key), str(key))] = _clean(value)
    return cleaned


def _worth_showing(default: Any) -> bool:
    """Returns whether to show a default: a section's only with a kind, as its fields show theirs; never infinity."""
    return default is not None and default != math.inf and (not isinstance(default, Mapping) or "kind" in default)


def _listed(schema: Any) -> set[str]:
    """Returns the sections that stand in lists, which are replaced as a whole and so are complete."""
    if isinstance(schema, list):
        return {name for item in schema for name in _listed(item)}
    if not isinstance(schema, Mapping):
        return set()
    found = {name for value in schema.values() for name in _listed(value)}
    items = schema.get("items")
    if isinstance(items, Mapping) and "$ref" in items:
        found.add(items["$ref"].rpartition("/")[2])
    return found
