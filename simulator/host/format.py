"""Numbers as people read them. Unknown ones (None, NaN, infinity) are a dash."""

import math

UNKNOWN = "–"  # noqa: RUF001 - an en dash, as tables print a missing value
_TIMES = "×"  # noqa: RUF001 - the multiplication sign is meant

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def known(value: float | None) -> bool:
    """Returns whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def significant(value: float, digits: int = 3) -> str:
    """Returns a plain decimal number with at least `digits` significant digits, no exponent and no trailing zeros."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _scale(value: float, units: tuple[str, ...]) -> tuple[float, str]:
    """Returns the value in the unit (each a thousand of the one before) that leaves at most three digits in front."""
    place = 0
    while abs(value) >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    return value, units[place]


def duration(seconds: float | None) -> str:
    """Returns for example 50 ms, 0.58 s, 17 min 30 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None or not known(seconds):
        return UNKNOWN
    if seconds < 0:
        return "-" + duration(-seconds)
    if 0 < seconds < 0.1:
        return f"{significant(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{significant(seconds)} s"
    for limit, large, large_s, small, small_s in (
        (3600.0, "min", 60, "s", 1),
        (86400.0, "h", 3600, "min", 60),
        (math.inf, "d", 86400, "h", 3600),
    ):
        rounded_s = round(seconds / small_s) * small_s
        if rounded_s < limit:
            whole, rest = divmod(rounded_s, large_s)
            return f"{whole:,} {large} {rest // small_s} {small}" if rest else f"{whole:,} {large}"
    raise AssertionError(f"{seconds} s is finite, so it has a number of days")


def byte_count(count: float | None) -> str:
    """Returns for example 512 B, 1.2 kB, 3.45 GB, in decimal units."""
    if count is None or not known(count):
        return UNKNOWN
    scaled, unit = _scale(count, _BYTE_UNITS)
    return f"{significant(scaled)} {unit}"


def count(value: float | None) -> str:
    """Returns a whole number with thousands separators, for example 4,025."""
    return f"{value:,.0f}" if value is not None and known(value) else UNKNOWN


def short_count(value: float | None) -> str:
    """Returns a number with three significant digits and a suffix, for example 950, 12.3 k, 1.02 M, 3.4 G."""
    if value is None or not known(value):
        return UNKNOWN
    scaled, suffix = _scale(value, ("", "k", "M", "G", "T"))
    return f"{significant(scaled)} {suffix}".rstrip()


def short_duration(seconds: float | None) -> str:
    """Returns a duration with three significant digits in one unit, for example 50 ms, 56.8 min, 2.08 h."""
    if seconds is None or not known(seconds):
        return UNKNOWN
    if abs(seconds) < 119.5:
        return f"{significant(seconds * 1e3)} ms" if 0 < abs(seconds) < 0.1 else f"{significant(seconds)} s"
    units = ((2 * 3600.0, 60.0, "min"), (2 * 86400.0, 3600.0, "h"), (math.inf, 86400.0, "d"))
    size_s, unit = next((size_s, unit) for limit_s, size_s, unit in units if abs(seconds) < limit_s)
    return f"{significant(seconds / size_s)} {unit}"


def decimal(value: float | None, decimals: int = 2) -> str:
    """Returns a number with a fixed number of decimals, for example 1.20."""
    return f"{value:,.{decimals}f}" if value is not None and known(value) else UNKNOWN


def percent(share: float | None) -> str:
    """Returns a share of 1 in percent, for example 46.3 %."""
    return f"{100 * share:.1f} %" if share is not None and known(share) else UNKNOWN


def ratio(value: float | None) -> str:
    """Returns a factor with two decimals, for example 0.30×; small ones with two significant digits."""
    if value is None or not known(value):
        return UNKNOWN
    return f"{value:.2f}{_TIMES}" if abs(value) >= 0.095 else f"{value:.2g}{_TIMES}"


def perplexity(value: float | None) -> str:
    """Returns a perplexity with four significant digits, for example 5.663, 41.35, 1,234."""
    if value is None or not known(value):
        return UNKNOWN
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    decimals = min(3, max(0, 3 - math.floor(math.log10(abs(value))))) if value else 3
    return f"{value:,.{decimals}f}"


def amount(money: float | None) -> str:
    """Returns money with two decimals, of little three significant digits, for example 1,234.50, 0.00123."""
    if money is None or not known(money):
        return UNKNOWN
    return f"{money:,.2f}" if money == 0 or abs(money) >= 0.995 else significant(money)
