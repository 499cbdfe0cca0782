"""Chains: rounds of a worker that goes on by itself, one after the other, from one copy of everything to the next."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
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

    def accepts(self, overlap: int) -> Iterator[tuple[int, int, int]]:
        """Yields (offer, place, steps) of each answer, which is accepted after so many steps of the round at a place.

        The offer is made at the end of the round at its own place in the chain. The place of the acceptance is behind
        the last one where its round is not in the chain.

        Args:
          overlap: steps between an offer and the acceptance of its answer.
        """
        ends = list(itertools.accumulate(int(task["local_steps"]) for task in self.tasks))
        place = 0
        for offer, end in enumerate(ends):
            while place < len(ends) and ends[place] <= end + overlap:
                place += 1
            yield offer, place, end + overlap - ends[place - 1]


def chains_of(rounds: pd.DataFrame, eps_s: float) -> list[Chain]:
    """Returns the chains of all workers.

    Args:
      rounds: of a record.
      eps_s: tolerance of equal times.
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
            is_whole = tasks[0]["bytes_down"] > 0
            found.append(Chain(int(str(worker)), tasks, rows, is_whole, until_s))
            until_s = tasks[0]["ready_s"] if is_whole else until_s
    return found
