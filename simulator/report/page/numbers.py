"""Numbers as a page holds them: short, and null where they are not known."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.host.format import significant
from simulator.report.page.limits import DIGITS


def shortened(values: npt.ArrayLike) -> list[int | float | None]:
    """Returns whole numbers as they are and others rounded to six significant digits; NaN and infinity become None."""
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        whole: list[int | float | None] = array.tolist()
        return whole
    return [short(value) for value in array.astype(float).tolist()]


def short(value: Any) -> int | float | None:
    """Returns one number likewise."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def target_text(perplexity: float) -> str:
    """Returns a perplexity to reach as people write it."""
    return significant(perplexity, 4)
