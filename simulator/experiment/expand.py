"""Expansion of a document into its simulations: variants times sweep points, each one checked."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import pydantic

from simulator.experiment.file import (
    DISCRIMINATORS,
    DOCUMENT_KEYS,
    Document,
    Tree,
    load_document,
    merge,
    on_command_line,
    tree_of,
)
from simulator.experiment.messages import Mistake, mistakes_of
from simulator.experiment.methods import FILLED, MethodError, filled
from simulator.experiment.point import Point
from simulator.experiment.problems import ExperimentError, Problem, nearest
from simulator.experiment.reference import read_reference
from simulator.experiment.schema.described_model import without_training
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.section import Section
from simulator.experiment.sweep import (
    Search,
    Setting,
    axes_of,
    axes_without_effect,
    experiment_key,
    holds,
    same_run,
    searches_of,
)
from simulator.host.mappings import MISSING, lookup

Check = Callable[[Experiment], Iterable[Problem]]


def load(
    path: str | Path | Mapping[str, Any], *overrides: str, variant: str | None = None, searched: bool = False
) -> list[Point]:
    """Reads an experiment file, or a mapping with its keys, and returns its simulations.

    Args:
      path: the YAML file, or a mapping with the same keys.
      *overrides: settings of the form `key.path=value`.
      variant: only this one of the file's variants.
      searched: whether axes of the sweep may be searched, see `expand`.

    Raises:
      ExperimentError: with every mistake that was found.

    Example:
      >>> from simulator import load
      >>> settings = ["inner.local_steps=20", "sweep={seed: [0, 1]}"]
      >>> points = load("experiments/quickstart.yaml", *settings, variant="sync DiLoCo")
      >>> [(point.label, point.experiment.inner.local_steps) for point in points]
      [('sync DiLoCo, seed=0', 20), ('sync DiLoCo, seed=1', 20)]
    """
    return expand(load_document(path, overrides), variant=variant, searched=searched)


def expand(
    document: Document, *, variant: str | None = None, check: Check | None = None, searched: bool = True
) -> list[Point]:
    """Returns every variant at every sweep point, in the order of the file (variants outermost).

    Args:
      document: as `load_document` returns it.
      variant: only this one.
      check: returns the problems of an experiment beyond its file. Of one with mistakes it is given the sections that
        have none; to ask it for another is an `AbsentSectionError`.
      searched: whether axes may be searched: of such points the values have to be found first, which `run_points` and
        `tardigrad run` do.

    Raises:
      ExperimentError: with every mistake of every variant and point, each reported once.
    """
    if not isinstance(document, Document):
        message = f"{type(document).__name__} is given, and a document is needed: load(...) reads and expands a file"
        raise ExperimentError([Problem("", message)])
    base = {key: value for key, value in document.tree.items() if key not in DOCUMENT_KEYS}
    problems = list(document.problems)
    read_reference(document, problems)
    variants = _select_variants(document, _read_variants(document, problems), problems)
    if variant is not None and variant not in variants:
        problems.append(Problem("--variant", nearest(variant, variants), variant, document.path))
    elif variant is not None:
        variants = {variant: variants[variant]}
    axes, searches = axes_of(document, problems), searches_of(document, problems)
    message = "is searched, and has no value before: use `run_points` on load(..., searched=True), or `tardigrad run`"
    problems += [document.problem(("sweep", path), message) for path in searches if not searched]
    points = []
    first: dict[str, tuple[Setting, ...]] = {}  # by experiment, the settings of the first point that has it
    for name, change in variants.items():
        for listed in itertools.product(*axes):
            for number, ends in enumerate(_settings_of_ends(searches)):
                settings = (*listed, *ends)
                point, mistakes, without_effect = _make_point(document, base, name, change, settings)
                for problem in check(point.experiment) if check else ():
                    mistakes.append(Mistake(tuple(problem.key.split(".")), problem.message, problem.value, ""))
                problems += [_place(document, name, settings, mistake) for mistake in mistakes]
                if number == 0:
                    problems += without_effect
                    if axes and not mistakes and not without_effect:
                        others = first.setdefault(experiment_key(point.experiment), settings)
                        problems += same_run(document, settings, others)
                    points.append(dataclasses.replace(point, searches=searches))
    if problems:
        raise ExperimentError(sorted(problems, key=lambda problem: (str(problem.file), problem.line or 0)))
    return points


def _settings_of_ends(searches: Mapping[str, Search]) -> Iterator[tuple[Setting, ...]]:
    """Yields settings with which every axis that is searched has each of its ends, or values, once; at least one."""
    ends = {path: search.ends for path, search in searches.items()}
    for number in range(max(map(len, ends.values()), default=1)):
        yield tuple(Setting(("sweep", path), {path: values[number % len(values)]}, {}) for path, values in ends.items())


def _read_variants(document: Document, problems: list[Problem]) -> Mapping[str, Tree]:
    tree = document.tree
    written = {} if tree.get("variants") is None else tree["variants"]
    message = "expected a mapping from each variant's name to a mapping of what it changes"
    if not isinstance(written, dict):
        problems.append(document.problem(("variants",), message, written))
        written = {}
    variants: dict[str, Tree] = {}
    for name, change in written.items():
        if not isinstance(change, dict):
            problems.append(document.problem(("variants", name), message, change))
            continue
        variants[name] = {key: value for key, value in change.items() if key not in DOCUMENT_KEYS}
        for key in change:
            if key in DOCUMENT_KEYS or key in ("name", "variant", "scale"):
                refused = "cannot be set by a variant: move it to the top level"
                problems.append(document.problem(("variants", name, key), refused))
    own = document.overrides.get("variant", tree.get("variant"))
    if own is not None and not isinstance(own, str):
        problems.append(document.problem(("variant",), "expected text (quotes make text of anything)", own))
    if not variants:  # a resolved experiment keeps the name of the variant that it was
        return {str(tree.get("variant") or document.overrides.get("name", tree.get("name", ""))): {}}
    if own is not None:
        message = "is set from the names under variants: leave it out (--variant chooses one)"
        problems.append(document.problem(("variant",), message, own))
    return variants


def _select_variants(document: Document, variants: Mapping[str, Tree], problems: list[Problem]) -> Mapping[str, Tree]:
    names = document.tree.get("select")
    if names is None:
        return variants
    if not isinstance(names, list) or not names:
        problems.append(document.problem(("select",), "expected a list of names of variants", names))
        return variants
    known = [name for name in names if isinstance(name, str) and name in variants]
    for position, name in enumerate(names):
        if name not in known:
            message = f"no such variant; {nearest(name, variants)}"
            problems.append(document.problem(("select", str(position)), message, name))
    return {name: variants[name] for name in known} or variants


def _make_point(
    document: Document, base: Tree, name: str, change: Tree, settings: tuple[Setting, ...]
) -> tuple[Point, list[Mistake], list[Problem]]:
    """Returns a simulation, its mistakes (then without the sections that have them), and axes without effect on it.

    Its overrides are those that hold: the command line may have overwritten some.
    """
    swept = {path: value for setting in settings for path, value in setting.values.items()}
    shown = {path: value for setting in settings for path, value in setting.shown.items()}
    layers = [base, change, tree_of(swept), tree_of(document.overrides)]
    refused: list[Mistake] = []
    try:
        tree = filled(layers, merge) | {"variant": name}
    except MethodError as error:
        tree = functools.reduce(merge, layers) | {"variant": name}
        refused.append(Mistake(tuple(error.key.split(".")), error.message, error.value, ""))
        tree.pop("method")
    without_effect = [] if refused else list(axes_without_effect(document, settings, tree))
    overrides = {key: value for key, value in shown.items() if key not in swept or holds(key, value, tree)}
    try:
        return Point(name, overrides, Experiment.model_validate(tree)), refused, without_effect
    except pydantic.ValidationError as error:
        mistakes = [_explain_missing(mistake, tree, layers) for mistake in mistakes_of(error, tree, Experiment)]
        faulty = {mistake.key[0] for mistake in mistakes if mistake.key}
        if refused:  # the sections that it would have filled are not missing
            mistakes = [each for each in mistakes if not (each.kind == "missing" and each.key[0] in FILLED)]
        mistakes = refused + mistakes
        return Point(name, overrides, _valid_sections(faulty, tree)), mistakes, without_effect


def _valid_sections(faulty: Set[str], tree: Tree) -> Experiment:
    """Returns the sections that are as they should be, without the faulty ones; single settings have their defaults."""
    tree = without_training(tree)
    kept = {name: tree[name] for name in Experiment.model_fields if name in tree and name not in faulty}
    sections = _sections(tuple(kept)).model_validate(kept)
    partial = Experiment.model_construct(**{name: getattr(sections, name) for name in kept})
    for name in faulty:
        if isinstance(partial.__dict__.get(name), Section):
            del partial.__dict__[name]
    return partial


@functools.cache
def _sections(names: tuple[str, ...]) -> type[pydantic.BaseModel]:
    fields: Any = {name: (Experiment.model_fields[name].annotation, Experiment.model_fields[name]) for name in names}
    return pydantic.create_model("Sections", **fields)


def _explain_missing(mistake: Mistake, tree: Tree, layers: list[Tree]) -> Mistake:
    """Returns a mistake; a key that is missing though written was in a mapping that a later layer replaced."""
    if mistake.kind != "missing" or all(lookup(layer, mistake.key) is MISSING for layer in layers):
        return mistake
    around = lookup(tree, mistake.key[:-1])
    name = next((name for name in DISCRIMINATORS if name in around), None)
    reason = f"{name} {around[name]!r}" if name else "another form"
    return mistake._replace(
        message=f"is missing: {reason} replaced the whole mapping, so give it again", kind="replaced"
    )


def _place(document: Document, variant: str, settings: tuple[Setting, ...], mistake: Mistake) -> Problem:
    """Attributes a mistake to where its value was written: command line, sweep, variant or base."""
    # The layers are looked at from the last to the first, since the one laid on top has decided the value. For example,
    # the mistake ("inner", "local_steps"), "must be at least 1", of variant `slow` of this file:
    #   5: inner: {optimizer: sgd, learning_rate: 0.1, batch_size: 4}
    #   8: variants:
    #   9:   slow: {inner: {local_steps: 0}}
    # Neither the command line nor the sweep sets the key. The variant writes inner.local_steps itself: so the line is
    # 9, and the key variants.slow.inner.local_steps. Were it missing everywhere, the search would begin with the
    # mapping around it, inner, and end at line 9 too: the variant is the last that could have given it.
    key, message, value, _ = mistake
    dotted = ".".join(key)
    for path, setting in document.overrides.items():
        if _sets(path, setting, mistake, document):
            return on_command_line(dotted, message, value)
    for setting in settings:
        if any(_sets(*item, mistake, document) for item in setting.values.items()):
            return document.problem(setting.origin, message, value, shown=dotted)
    own, in_own = ("variants", variant), f"variants.{variant}.{dotted}"
    absent = mistake.kind in ("missing", "replaced")  # then it is the mapping around it that has a line
    for end in range(len(key) - absent, 0, -1):
        if (*own, *key[:end]) in document.lines:
            return document.problem((*own, *key[:end]), message, value, in_own)
        if key[:end] in document.lines:
            return document.problem(key[:end], message, value, shown=dotted)
    variants = document.tree.get("variants")
    others = variants.values() if isinstance(variants, dict) else ()
    if any(key[0] in change for change in others if isinstance(change, dict)):  # it is this variant that lacks it
        return document.problem(own, message, value, in_own)
    return Problem(dotted, message, value, document.path)


def _sets(path: str, value: Any, mistake: Mistake, document: Document) -> bool:
    """Returns whether setting `path` to `value` caused the mistake."""
    key, parts = mistake.key, tuple(path.split("."))
    if parts[: len(key)] == key:  # the mistake is at what was set, or around it, where nothing else has been written
        return parts == key or (key not in document.lines and mistake.kind == "extra_forbidden")
    if mistake.kind == "replaced":
        return parts[-1] in DISCRIMINATORS and parts[:-1] == key[:-1]
    around = key[len(parts) : -1] if mistake.kind == "missing" else key[len(parts) :]
    return parts == key[: len(parts)] and lookup(value, around) is not MISSING
