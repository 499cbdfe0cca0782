"""Chains: rounds of a worker that goes on by itself, one after the other, from one copy of everything to the next."""

import bisect
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Chain:
    """Rounds of a worker of which each begins when the one before it ends.

    Attributes:
      worker: its number.
      tasks: the rounds, as mappings of the columns of their table.
      rows: of these in the table.
      is_whole: whether it begins with a copy; else a round before it is not in the table.
      until_s: when the worker's next chain with a copy begins; infinite without one.
    """

    worker: int
    tasks: list[dict[str, Any]]
    rows: list[int]
    is_whole: bool
    until_s: float

    def accepts(self, ends: Sequence[int], due: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yields (offer, place, steps) of each answer, which is accepted after so many steps of the round at a place.

        The offer is made at the end of the round at its own place in the chain. The place of the acceptance is behind
        the last one where its round is not in the chain.

        Args:
          ends: steps from the beginning of the chain to the end of each round.
          due: likewise, to the acceptance of each offer's answer.
        """
        for offer, at in enumerate(due):
            place = bisect.bisect_right(ends, at)
            yield offer, place, at - ends[place - 1]


def chains_of(rounds: pd.DataFrame, eps_s: float, *, begins_alike: bool = False) -> list[Chain]:
    """Returns the chains of all workers.

    Args:
      rounds: of a record.
      eps_s: tolerance of equal times.
      begins_alike: whether nothing is sent to a worker that begins before there is an update.
    """
    found: list[Chain] = []
    for worker, own in rounds.sort_values("round", kind="stable").groupby("worker"):
        parts: list[list[tuple[int, dict[str, Any]]]] = []
        for row, task in zip(own.index.tolist(), own.to_dict("records"), strict=True):
            follows = parts and abs(task["ready_s"] - parts[-1][-1][1]["push_start_s"]) <= eps_s
            if task["bytes_down"] > 0 or not follows:
                parts.append([])
            parts[-1].append((row, {str(name): value for name, value in task.items()}))
        until_s = math.inf
        for part in reversed(parts):
            rows, tasks = [row for row, _ in part], [task for _, task in part]
            is_whole = tasks[0]["bytes_down"] > 0 or (begins_alike and tasks[0]["pulled_version"] == 0)
            found.append(Chain(int(str(worker)), tasks, rows, is_whole, until_s))
            until_s = tasks[0]["ready_s"] if is_whole else until_s
    return found
