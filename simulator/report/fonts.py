"""Fonts for the texts of figures: one that comes with matplotlib, and installed ones for characters that it lacks."""

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterable, Iterator

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

FAMILY = "DejaVu Sans"  # comes with matplotlib, so a figure looks alike on every machine
_SHOWN = 10  # characters, in a message


def families(texts: Iterable[str]) -> list[str]:
    """Returns the fonts in which texts can be written: each is for the characters that those before it lack.

    Characters that no installed font has are reported once.
    """
    missing = _lacking("".join(texts))
    found = [FAMILY]
    while missing:
        best = max(_installed().items(), key=lambda font: (len(missing & font[1]), "Sans" in font[0], font[0]))
        if not missing & best[1]:
            _say(missing)
            break
        found.append(best[0])
        missing -= best[1]
    return found


def drawable(text: str) -> str:
    r"""Returns text with the characters that no installed font has as escapes such as \u4e2d, which `families` says."""
    missing = _lacking(text)
    missing -= frozenset().union(*_installed().values()) if missing else frozenset()
    if not missing:
        return text
    return "".join(char.encode("unicode_escape").decode("ascii") if ord(char) in missing else char for char in text)


def _lacking(text: str) -> set[int]:
    """Returns the characters of a text that the font of all figures lacks."""
    return {ord(char) for char in text if not char.isspace()} - _characters(font_manager.findfont(FAMILY))


@contextlib.contextmanager
def any_weight() -> Iterator[None]:
    """Silences matplotlib's warnings of fonts that have no bold letters, until the block ends."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


_said: list[str] = []


def _say(missing: set[int]) -> None:
    if _said:
        return
    shown = " ".join(map(chr, sorted(missing)[:_SHOWN])) + (" …" if len(missing) > _SHOWN else "")
    message = (
        f"no installed font has {shown}: figures write escapes such as \\u4e2d instead. Install a font that has them, "
        "such as Noto Sans CJK, and remove matplotlib's list of fonts (in matplotlib.get_cachedir())"
    )
    _said.append(message)
    warnings.warn(message, stacklevel=4)


@functools.cache
def _installed() -> dict[str, frozenset[int]]:
    """Returns the characters of every installed font, by its name: upright ones of the usual weight."""
    found: dict[str, frozenset[int]] = {}
    for font in font_manager.fontManager.ttflist:
        of_boxes = "lastresort" in font.name.lower().replace(" ", "")  # has one for every character
        if font.style == "normal" and font.weight == 400 and not of_boxes:
            found.setdefault(font.name, _characters(font.fname))
    return found


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Returns the characters of a font, none of one that cannot be read or scaled."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
