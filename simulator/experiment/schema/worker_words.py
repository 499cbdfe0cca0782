"""Numbers that a file writes in terms of the number of workers, which a variant or a sweep may change."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BeforeValidator, ValidationInfo

from simulator.experiment.problems import nearest
from simulator.experiment.schema.section import ConflictError

Words = Mapping[str, Callable[[int], float]]

COUNT: Words = {"workers": lambda workers: workers}
SHARES: Words = {"1/workers": lambda workers: 1 / workers, "1/sqrt(workers)": lambda workers: workers**-0.5}
_ALL = {**COUNT, **SHARES}
IN_ARGUMENTS = ", ".join(_ALL) + " are numbers there"
_FORMULA = re.compile(r"(?=.*[*/^(])(?:[\s\d.*/+^()-]|sqrt|workers?)*")


def in_numbers(settings: Mapping[str, Words] | None = None) -> BeforeValidator:
    """Returns a validator that puts numbers for words in a section behind `cluster`, and anywhere in its `arguments`.

    In `arguments` a word always is its number; any other text is itself, unless it is a formula of a form that is none.

    Args:
      settings: further settings of the section, with the words that each may be.
    """

    def validate(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        workers = getattr((info.data or {}).get("cluster"), "workers", 1)  # there are no data of a section by itself
        mistakes: list[tuple[str, str]] = []
        counted: dict[str, Any] = {}
        for key, words in (settings or {}).items():
            word = value.get(key)
            if isinstance(word, str) and word in words:
                counted[key] = words[word](workers)
            elif isinstance(word, str):
                mistakes.append((key, f"expected a number or a word for one; {nearest(word, words)}"))
        if "arguments" in value:
            counted["arguments"] = _counted(value["arguments"], workers, "arguments", mistakes)
        if mistakes:
            raise ConflictError(*mistakes)
        return value | counted

    return BeforeValidator(validate)


def _counted(value: Any, workers: int, key: str, mistakes: list[tuple[str, str]]) -> Any:
    if isinstance(value, dict):
        return {name: _counted(item, workers, f"{key}.{name}", mistakes) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_counted(item, workers, f"{key}.{place}", mistakes) for place, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if value in _ALL:
        return _ALL[value](workers)
    if "worker" in value and _FORMULA.fullmatch(value):
        mistakes.append((key, f"is no word for a number; {nearest(value, _ALL)}"))
    return value
