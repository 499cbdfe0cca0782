"""Texts of methods: what the docstrings and signatures of the functions say, for the command line and for pages."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from simulator.experiment.methods import Method, docstring_of, methods, settings_model, settings_said, slots_of

_FORMULA = re.compile(r"\.\. math::\n\n?((?:  .*\n?)+)")
_LOCAL_STEPS = 50  # H, where a method asks for it: no more than which slots it fills depends on it


class SettingText(NamedTuple):
    """A setting of a method.

    Attributes:
      name: in a file.
      default: as a file has it; empty where there is none.
      meaning: with the source of the default.
    """

    name: str
    default: str
    meaning: str


class MethodText(NamedTuple):
    """A method.

    Attributes:
      name: in a file.
      paper: with authors, year and identifier; empty of one that says none.
      summary: one sentence.
      rule: paragraphs, and formulas in LaTeX, in order; each with whether it is a formula.
      slots: sections that it fills.
      settings: that a file may give.
    """

    name: str
    paper: str
    summary: str
    rule: list[tuple[str, bool]]
    slots: list[str]
    settings: list[SettingText]


def method_texts() -> list[MethodText]:
    """Returns the texts of all methods, built-in and registered, by name."""
    return [_text(name, method) for name, method in sorted(methods().items())]


def _text(name: str, method: Method) -> MethodText:
    described = docstring_of(method).partition("\nArgs:")[0]
    summary, _, body = described.partition("\n")
    module = inspect.getmodule(getattr(method, "func", method))
    paper = (inspect.getdoc(module) or "").partition("\n")[0] if module is not None else ""
    is_built_in = module is not None and module.__name__.startswith("simulator.methods.")
    settings = list(_settings(method))
    return MethodText(name, paper if is_built_in else "", summary, _rule(body), _slots(name, method), settings)


def _rule(body: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for number, part in enumerate(_FORMULA.split(body)):
        if number % 2:
            found.append((inspect.cleandoc(part), True))
        else:
            paragraphs = (" ".join(each.split()) for each in part.split("\n\n"))
            found += [(each, False) for each in paragraphs if each]
    return found


def _slots(name: str, method: Method) -> list[str]:
    if any(field.is_required() for field in settings_model(method).model_fields.values()):
        return []
    slots, _ = slots_of({"kind": name}, _LOCAL_STEPS)
    return list(slots)


def _settings(method: Method) -> Iterator[SettingText]:
    said = settings_said(method)
    for name, field in settings_model(method).model_fields.items():
        default = "" if field.is_required() else _as_in_a_file(field.default)
        yield SettingText(name, default, said.get(name, ""))


def _as_in_a_file(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def methods_page() -> str:
    """Returns a page of all methods in Markdown, with formulas as GitHub draws them."""
    lines = [
        "# The methods",
        "",
        "Made by `tardigrad methods --page FILE` from the docstrings in `simulator/methods`, which say what is a",
        "paper's, a code's, or ours. [README](README.md) says what a slot is.",
        "",
    ]
    for text in method_texts():
        lines += [f"## {text.name}", "", text.paper, "", _inline(text.summary), ""]
        for part, is_formula in text.rule:
            lines += ["```math", part, "```", ""] if is_formula else [_inline(part), ""]
        lines += [f"Fills {', '.join(f'`{slot}`' for slot in text.slots)}.", ""]
        if text.settings:
            lines += ["| setting | default | meaning |", "|---|---|---|"]
            lines += [f"| `{each.name}` | {each.default} | {_inline(each.meaning)} |" for each in text.settings]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _inline(text: str) -> str:
    return re.sub(r":math:`([^`]*)`", r"$\1$", text)
