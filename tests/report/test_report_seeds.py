"""Means and ranges over seeds."""

import math

from simulator.host import format as human
from simulator.report.seeds import spread


def test_the_spread_is_over_the_runs_of_which_the_number_is_known():
    assert spread([4.0, None, 2.0, math.nan, math.inf]) == (3.0, 2.0, 4.0, 2, 5)
    none = spread([None, math.inf])
    assert (none.known, none.runs) == (0, 2)
    assert all(map(math.isnan, none[:3]))


def test_the_range_is_written_where_there_is_one():
    assert spread([4.0, 2.0]).lines(human.decimal) == ["3.00", "± 1.00"]
    assert spread([2.0, 2.0]).lines(human.decimal) == ["2.00"]
    assert spread([]).lines(human.decimal) == [human.UNKNOWN]
