"""The file format as a JSON Schema, by which editors complete keys, show descriptions and underline mistakes."""

import math
from collections.abc import Mapping
from typing import Any

from simulator.experiment.methods import docstring_of, methods, settings_model, settings_said, without_markup
from simulator.experiment.reference import Reference
from simulator.experiment.registry import SLOTS
from simulator.experiment.schema.aggregation import NamedAggregation
from simulator.experiment.schema.exchanges import NamedCompression, NamedMerge, NamedOffer, NamedTopology, NamedView
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.offer_schedule import NamedSchedule
from simulator.experiment.schema.policies import NamedShards, NamedSteps, NamedSynchronization
from simulator.experiment.schema.units import QUANTITIES, Quantity
from simulator.experiment.schema.workers_file import DEVICE_COLUMNS, LINK_COLUMNS
from simulator.experiment.sweep import Search

_NAMED = (
    NamedSynchronization,
    NamedSteps,
    NamedShards,
    NamedSchedule,
    NamedTopology,
    NamedOffer,
    NamedCompression,
    NamedAggregation,
    NamedView,
    NamedMerge,
)
_STANDARD = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_SETTING = {
    "type": "object",
    "description": "name of a value of this axis: what it changes, from dotted paths to values",
}
_AXES = [
    {"type": "array", "minItems": 1},
    {"$ref": "#/$defs/Search"},
    {
        "type": "object",
        "examples": [{"small": {"model.width": 64}}],
        "minProperties": 1,
        "additionalProperties": _SETTING,
    },
]
_EXTENDS = {
    "type": "string",
    "description": "another experiment file, relative to this one, over which this one is laid",
    "examples": ["base.yaml"],
}
_PLUGINS = {
    "type": "array",
    "description": "Python files, relative to this one, or modules, that register names of one's own",
    "items": {"type": "string"},
    "examples": [["my_methods.py"]],
}
_PARTS = {
    "variants": {
        "type": "object",
        "description": "name of each variant: what it changes of the rest of the file",
        "examples": [{"barrier": {"synchronization": {"kind": "barrier"}}}],
        "additionalProperties": {"$ref": "#/$defs/Variant"},
    },
    "select": {
        "type": "array",
        "description": "names of the variants to simulate, in this order; all when absent",
        "items": {"type": "string"},
        "minItems": 1,
        "examples": [["barrier"]],
    },
    "sweep": {
        "type": "object",
        "description": "axes, all combined: a dotted path with its values, or any name with mappings from dotted paths "
        "to values, in a list or each by a name of its own, or a dotted path with a search for its best value",
        "examples": [{"inner.learning_rate": [0.001, 0.01]}],
        "additionalProperties": {"anyOf": _AXES},
    },
    "reference": {"$ref": "#/$defs/Reference"},
}
"""Keys that make several experiments of a file."""
_SCALES = {
    "type": "object",
    "description": "name of each scale: what it changes of the rest of the file; `scale` chooses one",
    "examples": [{"laptop": {"budget": {"local_steps": 1000}}}],
    "additionalProperties": {"$ref": "#/$defs/Scale"},
}


def file_schema(*, partial: bool = True) -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of experiment files.

    Every section may be partial, since the rest of it may come from `extends` or from a variant; whether an experiment
    is complete, and whether its settings fit together, is what `tardigrad validate` says.

    Args:
      partial: else sections say which of their keys have no default.
    """
    generated: dict[str, Any] = {}
    for model in (Experiment, Search, Reference):
        own = model.model_json_schema()
        generated |= own.pop("$defs", {}) | {model.__name__: own}
    whole = {"Search"} | _sections_in_lists(generated)
    definitions: dict[str, Any] = {name: _clean(section) for name, section in generated.items()}
    for name, section in definitions.items():
        if partial and name not in whole:
            section.pop("required", None)
    _keep_built_in_names(definitions)
    _add_files(definitions)
    experiment = definitions.pop("Experiment")
    settings = experiment["properties"]
    settings["method"] = _methods(settings["method"]["description"], partial=partial)
    changes = {name: value for name, value in settings.items() if name not in ("name", "variant", "scale")}
    for name, more in (("Variant", {}), ("Scale", _PARTS)):
        definitions[name] = {
            "type": "object",
            "description": f"What this {name.lower()} changes.",
            "properties": changes | more,
            "additionalProperties": False,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tardigrad experiment",
        **experiment,
        "properties": settings | {"extends": _EXTENDS, "plugins": _PLUGINS, **_PARTS, "scales": _SCALES},
        "$defs": definitions,
    }


def _methods(description: str, *, partial: bool) -> dict[str, Any]:
    """Returns the schema of `method`: a name, or a mapping with the settings of one."""
    found: list[dict[str, Any]] = [{"type": "string", "enum": sorted(methods())}]
    for name, method in sorted(methods().items()):
        own = _clean(settings_model(method).model_json_schema())
        text = without_markup(docstring_of(method) or "Registered by a plugin.")
        said = settings_said(method)
        for key, value in own.get("properties", {}).items():
            value.setdefault("description", without_markup(said.get(key, f"setting of {name}")))
        found.append(
            {
                "type": "object",
                "description": text.partition("\n\n")[0],
                "properties": {"kind": {"const": name}, **own.get("properties", {})},
                "additionalProperties": False,
                **({} if partial else {"required": ["kind", *own.get("required", [])]}),
            }
        )
    return {"description": description, "anyOf": found, "examples": ["diloco"]}


def quantity_of(schema: Mapping[str, Any]) -> Quantity | None:
    """Returns the quantity that a value, or each in a list of values, is written as; None of other values."""
    alternatives = [*schema.get("anyOf", schema.get("oneOf", ())), *([schema["items"]] if "items" in schema else [])]
    found = (QUANTITIES.get(schema.get("pattern", "")), *map(quantity_of, alternatives))
    return next((each for each in found if each is not None), None)


def _keep_built_in_names(definitions: dict[str, Any]) -> None:
    """Excludes built-in names from the schemas of registered policies."""
    definitions["NamedOuter"]["properties"]["optimizer"]["not"] = {"enum": list(SLOTS["outer"].built_in)}
    for named in _NAMED:
        definitions[named.__name__]["properties"]["kind"]["not"] = {"enum": list(SLOTS[named.section].built_in)}


def _add_files(definitions: dict[str, Any]) -> None:
    """Adds `file` to devices and network, which stands for columns of the file when an experiment is read."""
    for name, columns in (("TimedDevices", DEVICE_COLUMNS), ("Network", LINK_COLUMNS)):
        description = f"path of a CSV file, a row for each worker, with columns among {', '.join(columns)}"
        definitions[name]["properties"]["file"] = {
            "type": "string",
            "description": description,
            "examples": ["workers.csv"],
        }


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
            if value == math.inf:  # which is not JSON
                quantity = quantity_of(schema)
                assert quantity is not None
                cleaned[key] = quantity.unbounded
            elif _worth_showing(value):
                cleaned[key] = {"kind": value["kind"]} if isinstance(value, Mapping) else value
        elif key == "oneOf":
            cleaned["anyOf"] = _clean(value)
        elif key not in ("title", "discriminator") and value != 2**63:
            cleaned[_STANDARD.get(str(key), str(key))] = _clean(value)
    return cleaned


def _worth_showing(default: Any) -> bool:
    """Returns whether to show a default: of a section its kind alone, if it has one, as its fields show theirs."""
    return default is not None and (not isinstance(default, Mapping) or "kind" in default)


def _sections_in_lists(schema: Any) -> set[str]:
    """Returns the sections that stand in lists, which are replaced as a whole and so are complete."""
    if isinstance(schema, list):
        return {name for item in schema for name in _sections_in_lists(item)}
    if not isinstance(schema, Mapping):
        return set()
    found = {name for value in schema.values() for name in _sections_in_lists(value)}
    items = schema.get("items")
    if isinstance(items, Mapping) and "$ref" in items:
        found.add(items["$ref"].rpartition("/")[2])
    return found
