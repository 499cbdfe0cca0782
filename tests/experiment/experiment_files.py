"""A small valid experiment, as text and as a tree, and what the tests do with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import yaml

from simulator.experiment import Document, Experiment, ExperimentError, Point, expand
from simulator.experiment.file import merge, nested
from simulator.experiment.messages import mistakes_of

SMALL = """\
name: small
model: {kind: transformer, layers: 1, width: 8, heads: 2, context: 4}
data: {source: synthetic}
cluster:
  devices: {seconds_per_step: [1, 2]}
inner: {learning_rate: 1e-3, batch_size: 2}
synchronization: {kind: asynchronous}
outer: {optimizer: sgd, learning_rate: 1}
budget: {local_steps: 100}
"""


def tree(**settings: Any) -> dict[str, Any]:
    """The small experiment with dotted paths set (`__` for the dots) by the rule of files."""
    small: dict[str, Any] = yaml.safe_load(SMALL) | {"inner": {"learning_rate": 1e-3, "batch_size": 2}}
    for path, value in settings.items():
        small = merge(small, nested(tuple(path.split("__")), value))
    return small


def without(*path: str, of: dict[str, Any] | None = None) -> dict[str, Any]:
    """The small experiment without one key."""
    small = of if of is not None else tree()
    *sections, last = path
    section = small
    for name in sections:
        section = section[name]
    del section[last]
    return small


def experiment(**settings: Any) -> Experiment:
    return Experiment.model_validate(tree(**settings))


def points(content: dict[str, Any]) -> list[Point]:
    return expand(Document(None, content))


def mistakes(content: dict[str, Any]) -> list[tuple[str, str]]:
    """(dotted key, message) of everything that is wrong with a tree."""
    try:
        Experiment.model_validate(content)
    except pydantic.ValidationError as error:
        return [(".".join(mistake.key), mistake.message) for mistake in mistakes_of(error, content, Experiment)]
    return []


def messages(read: Callable[[], object], folder: Path | None = None) -> list[str]:
    """The problems that reading raises, each as it is shown, with the folder taken out."""
    try:
        read()
    except ExperimentError as error:
        prefix = "" if folder is None else f"{folder}/"
        return [str(problem).replace(prefix, "") for problem in error.problems]
    return []
