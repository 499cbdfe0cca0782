"""The experiment file: schema, loading, settings from the command line, variants and sweep axes.

A file's way: `yaml_text` reads its text, with the line of every key. `file` lays it over what it extends and one of its
scales over that, has `paths` make its paths relative to it, and adds the settings of the command line: a `Document`.
`expand` multiplies its variants with the points of its `sweep`, lays them over each other and has pydantic check them
against the `schema`; `messages` translates what pydantic refuses, and `expand` says where it was written. What comes
out are `point`s, or one error with every mistake.
"""

from simulator.experiment.expand import expand, load
from simulator.experiment.file import Document, load_document
from simulator.experiment.point import Experiments, Point, one_experiment, one_point, points_of
from simulator.experiment.problems import ExperimentError, Problem, SimulationError, cause_of
from simulator.experiment.registry import PolicyError
from simulator.experiment.schema.experiment import Experiment

__all__ = [
    "Document",
    "Experiment",
    "ExperimentError",
    "Experiments",
    "Point",
    "PolicyError",
    "Problem",
    "SimulationError",
    "cause_of",
    "expand",
    "load",
    "load_document",
    "one_experiment",
    "one_point",
    "points_of",
]
