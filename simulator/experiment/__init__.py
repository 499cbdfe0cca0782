"""The experiment file: schema, loading, settings from the command line, variants and sweep axes."""

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
