"""Rules of micro-batches: as many as given, or as the norm test says of the offers that a server had met by then."""

from collections.abc import Iterator

import numpy as np

from simulator.verify.checked_run import CheckedRun, Violation, violations


def _micro_batches_follow_the_norm_test(run: CheckedRun) -> Iterator[Violation]:
    section, given = run.experiment.inner.micro_batches, run.column("micro_batches")
    known = range(run.experiment.cluster.workers)
    own = [run.experiment.inner.first_micro_batches(each) if each in known else 1 for each in run.column("worker")]
    least = most = np.array(own, dtype=np.int64)
    if section is not None and section.threshold is not None:
        start = section.start
        needed = np.ceil(run.column("noise_scale") / section.threshold / section.threshold * (1 - 1e-6))
        needed = np.where(np.isnan(needed), start, np.clip(needed, start, section.room)).astype(np.int64)
        outcome, homes = run.column("outcome"), np.array([run.home(worker) for worker in run.column("worker").tolist()])
        least, most = least.copy(), most.copy()
        for home in np.unique(homes):
            own, counted = homes == home, outcome[homes == home] != "dropped"
            highest = np.append(start, np.maximum.accumulate(needed[own][counted]))
            met_s, version = run.column("update_s")[own][counted], run.column("version")[own][counted]
            most[own] = highest[met_s.searchsorted(run.column("pull_start_s")[own] + run.eps_s, side="right")]
            applied = (outcome[own] == "applied")[counted]
            surely = np.append(start, np.maximum.accumulate(needed[own][counted][applied]))
            least[own] = surely[version[applied].searchsorted(run.column("pulled_version")[own], side="right")]
    right = (least <= given) & (given <= most)

    def message(row: int) -> str:
        should = f"{least[row]}" if least[row] == most[row] else f"{least[row]} to {most[row]}"
        return f"local steps have {given[row]} and should have {should}"

    yield from violations("rounds", "micro-batches", ~right, message)


ALL = (_micro_batches_follow_the_norm_test,)
