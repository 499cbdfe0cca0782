"""Meetings of a record and the messages of their offers and answers, as its tables have them."""

import bisect
import math
from collections import Counter, defaultdict
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.nodes import SERVER

MessageKind = Literal["copy", "offer", "answer", "region's offer", "region's answer", "none"]


class Transfer(NamedTuple):
    """A row of the table of transfers, see `TRANSFER_COLUMNS`."""

    sender: int
    receiver: int
    fragment: int
    round: int
    begin_s: float
    end_s: float
    used_s: float
    version: int
    messages: int
    bytes: int


class MeetingTable:
    """Meetings in the order of the table of updates.

    Attributes:
      of: number of the meeting that each row was part of, int64 of shape (rows,).
      nodes, fragments: of each meeting's place, shape (meetings,).
      times_s: when each was processed.
      applied: whether each made a version.
      totals: updates over all places after each.
      versions: of its place after each.
      before: of its place before each row, shape (rows,).
      row_of: node and round to the row of the offer that a worker made there.
    """

    def __init__(self, updates: pd.DataFrame):
        self.of = pd.factorize(updates["meeting"])[0].astype(np.int64)
        first = updates[~updates["meeting"].duplicated()]
        self.nodes, self.fragments = first["node"].to_numpy(), first["fragment"].to_numpy()
        self.times_s, self.applied = first["update_s"].to_numpy(), (first["outcome"] == "applied").to_numpy()
        self.totals = self.applied.cumsum()
        self._times_s: dict[tuple[int, int], list[float]] = defaultdict(list)  # of the updates of each place
        self._totals: dict[tuple[int, int], list[int]] = defaultdict(list)
        versions = []
        for number, place in enumerate(zip(self.nodes.tolist(), self.fragments.tolist(), strict=True)):
            if self.applied[number]:
                self._times_s[place].append(float(self.times_s[number]))
                self._totals[place].append(int(self.totals[number]))
            versions.append(len(self._totals[place]))
        self.versions: npt.NDArray[np.int64] = np.array(versions, np.int64)
        self.before = (self.versions - self.applied)[self.of]
        self.row_of: dict[tuple[int, int], int] = {}
        offers = zip(updates["node"].tolist(), updates["round"].tolist(), strict=True)
        for row, (offer, sender) in enumerate(zip(offers, updates["sender"].tolist(), strict=True)):
            if sender >= 0:
                self.row_of.setdefault(offer, row)

    def version_of(self, node: int, fragment: int, total: int) -> int:
        """Returns the version of a place when there had been so many updates over all places."""
        return bisect.bisect_right(self._totals[node, fragment], total)

    def versions_at(self, node: int, fragment: int, time_s: float, eps_s: float) -> tuple[int, int]:
        """Returns the oldest and the newest version that a place can have had at a time."""
        times_s = self._times_s[node, fragment]
        return bisect.bisect_left(times_s, time_s - eps_s), bisect.bisect_right(times_s, time_s + eps_s)

    def made_s(self, node: int, fragment: int, version: int) -> float:
        """Returns when a place made a version; NaN where it did not."""
        times_s = self._times_s[node, fragment]
        return times_s[version - 1] if 0 < version <= len(times_s) else math.nan


class MessageTable:
    """Rows of the table of transfers: what each is, and the row of updates that it belongs to.

    Attributes:
      transfers: the rows.
      kinds: of each row; "none" of one that belongs to nothing.
      updates: row of the offer itself, of the one that is answered, or of the one that the round ended with which
        began with a copy; -1 of none.
      offers: row of updates to the row of the message that brought it.
      answers: round to the row of the answer to its offer.
      copies: round to the row of the copy that it began with.
    """

    def __init__(self, transfers: pd.DataFrame, updates: pd.DataFrame, meetings: MeetingTable):
        values = (transfers[name].tolist() for name in Transfer._fields)
        self.transfers = [Transfer(*row) for row in zip(*values, strict=True)]
        self.kinds: list[MessageKind] = []
        self.updates: list[int] = []
        self.offers: dict[int, int] = {}
        self.answers: dict[int, int] = {}
        self.copies: dict[int, int] = {}
        self._senders, self._row_of = updates["sender"].tolist(), meetings.row_of
        self._times_s = updates["update_s"].tolist()
        self._regional: dict[int, list[int]] = defaultdict(list)  # rows of updates, by region's node
        self._counts: Counter[tuple[MessageKind, int]] = Counter()  # of messages between servers
        for row, sender in enumerate(self._senders):
            if sender < -1:
                self._regional[sender].append(row)
        for row, (sender, receiver, _, round, begin_s, *_) in enumerate(self.transfers):
            is_between_servers = max(sender, receiver) < 0
            kind, update = (
                self._between_servers(sender, receiver)
                if is_between_servers
                else self._of_worker(sender, receiver, round, begin_s)
            )
            self.kinds.append(kind)
            self.updates.append(update)
            if kind in ("offer", "region's offer"):
                self.offers[update] = row
            elif kind == "answer":
                self.answers[round] = row
            elif kind == "copy":
                self.copies[round] = row

    def of_kind(self, *kinds: MessageKind) -> list[int]:
        """Returns the rows of some kinds."""
        return [row for row, kind in enumerate(self.kinds) if kind in kinds]

    def _between_servers(self, sender: int, receiver: int) -> tuple[MessageKind, int]:
        region = min(sender, receiver)
        kind: MessageKind = "region's offer" if sender == region else "region's answer"
        number, rows = self._counts[kind, region], self._regional[region]
        if max(sender, receiver) != -1 or number >= len(rows):
            return "none", -1
        self._counts[kind, region] += 1
        return kind, rows[number]

    def _of_worker(self, sender: int, receiver: int, round: int, begin_s: float) -> tuple[MessageKind, int]:
        is_sent = sender >= 0
        worker, node = (sender, receiver) if is_sent else (receiver, sender)
        update = self._row_of.get((node, round), -1)
        if update < 0 and is_sent and receiver >= 0:  # a copy of another worker's parameters, which a server has not
            is_sent, worker, node = False, receiver, SERVER
            update = self._row_of.get((node, round), -1)
        if update < 0 or worker == node or self._senders[update] != worker:
            return "none", -1
        is_copy = sender >= 0 or (update not in self.offers and begin_s < self._times_s[update])
        kind: MessageKind = "offer" if is_sent else "copy" if is_copy else "answer"
        known = {"offer": update in self.offers, "answer": round in self.answers, "copy": round in self.copies}
        return ("none", -1) if known[kind] else (kind, update)
