"""Sections of the experiment file: their keys, units, bounds and defaults, as pydantic models and as JSON Schema."""
