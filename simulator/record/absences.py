"""Absences of workers, from a record's table of faults."""

import pandas as pd

from simulator.host.event_kinds import ABSENCES


def absences(faults: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """Returns the absences of workers, from their start until the worker was back or the simulation ended.

    Args:
        faults: The table of faults, see `FAULT_COLUMNS`.
        end_s: End of the simulation, or of the part of interest.

    Returns:
        Columns worker, fault (crash, preemption, departure or late), first_s and last_s (simulated seconds), in order
        of first_s; only those that began before `end_s`, up to it.
    """
    of_workers = faults[faults["worker"] >= 0]
    changes = of_workers[of_workers["fault"].isin([*ABSENCES, "return"]) & (of_workers["time_s"] < end_s)]
    last_s = changes.groupby("worker")["time_s"].shift(-1).fillna(end_s)
    begins = changes["fault"].isin(ABSENCES)
    columns = {"worker": changes["worker"], "fault": changes["fault"], "first_s": changes["time_s"], "last_s": last_s}
    return pd.DataFrame(columns)[begins]
