"""Limits of a page's size, so that one of thousands of runs still opens at once."""

CURVE_POINTS = 20_000  # over all curves
CURVE_POINTS_OF_ONE = 400
FEWEST_CURVE_POINTS_OF_ONE = 24
VARIANTS_AT_FIRST = 12  # and sweep points, of which curves are drawn before others are chosen
TIMELINES = 40  # of variants and sweep points
TIMELINE_ROUNDS = 600  # of one timeline
TIMELINE_MESSAGES = 1800
TIMELINE_WORKERS = 16
WORKERS = 32  # whose use of time is shown, of one run
STALENESS_BARS = 60
SETTINGS_SIDE_BY_SIDE = 10  # variants and sweep points
SENTENCES = 3  # sweep points up to which each has its own
ANSWERS = 24  # sweep points up to which there is a table
DIGITS = 6  # significant ones, of every number but whole ones


def curve_points(curves: int) -> int:
    """Returns the most points of each of `curves` curves that a page holds."""
    return max(FEWEST_CURVE_POINTS_OF_ONE, min(CURVE_POINTS_OF_ONE, CURVE_POINTS // max(curves, 1)))
