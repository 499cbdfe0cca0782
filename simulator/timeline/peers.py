"""Peers: workers that meet each other without a server, each holding what it has agreed on (NoLoCo, gossip)."""

from collections.abc import Sequence

from simulator.cluster import Absence, Nanoseconds
from simulator.timeline.config import Peers
from simulator.timeline.events import Arrival, Offered, RegionOffer
from simulator.timeline.links import PeerWay
from simulator.timeline.message import Message, Process
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.synchronization import Barrier
from simulator.timeline.round_under_way import Incoming, Request, RoundUnderWay
from simulator.timeline.server import ServerProcess
from simulator.timeline.worker import Worker
from simulator.timeline.world import World


class PeerWorker(Worker):
    """A worker as a SimPy process that sends its offers to its peers; what it has sent arrives, whatever befalls it."""

    home: "PeerServer"

    def _push(self, under_way: RoundUnderWay) -> Process:
        """Sends its offer to its peers, and to itself."""
        self.home.send(self._offer(under_way))
        return
        yield  # a generator, as what it overrides

    def _away(self, absence: Absence):  # type: ignore[no-untyped-def]  # as what it overrides
        """Stays away; its peers do not wait for it if it has announced that."""
        if absence.announced:
            self.home.forget(self.index)
        return (yield from super()._away(absence))


class PeerServer(ServerProcess):
    """Meetings at one worker, with its own offer and those of the peers that it has in each.

    Args:
      world: clock and counts.
      worker: its number.
      peers: whom it meets.
      meetings: those of all workers, by worker.

    Attributes:
      is_gone: whether its worker has announced that it is away.
      first: meeting with which its worker has begun again after that.
      missed: offers that were not sent to it meanwhile, or came too late, as (worker, number of the meeting).
    """

    def __init__(self, world: World, worker: int, peers: Peers, meetings: "Sequence[PeerServer]"):
        super().__init__(world, worker, [worker], Barrier())
        self.is_gone, self.first = False, 0
        self.missed: set[tuple[int, int]] = set()
        self._peers, self._meetings = peers, meetings

    def send(self, arrival: Arrival) -> None:
        """Sends the worker's offer to all that it meets."""
        world, meetings, worker, turn = self._world, self._meetings, self.node, arrival.turn
        met = [peer for peer in self._peers(worker, turn) if peer != worker]
        others = [peer for peer in met if not meetings[peer].is_gone]
        for peer in set(met) - set(others):
            meetings[peer].missed.add((worker, turn))
        offer = arrival._replace(pushes=len(others))
        world.emit(Offered(self._env.now, worker, offer.round.id, tuple(others), self.places[0].version))
        for peer in others:

            def done(message: Message, through: bool, peer: int = peer) -> None:
                meetings[peer].receive(offer._replace(arrival_ns=message.arrival_ns))

            way = PeerWay(world.up, world.down, peer, world.cluster.ways, world.links)
            Message(world, way, worker, world.config.shares.offers[0], done=done)
        self.receive(offer)

    def forget(self, worker: int) -> None:
        """Has nobody wait for a worker that has announced that it goes away."""
        self._meetings[worker].is_gone = True
        for meeting in self._meetings:
            [place] = meeting.places
            place.awaited.pop(worker, None)
            meeting.wake()

    def _begin(self) -> None:
        [place] = self.places
        place.awaited = dict.fromkeys(self._expected_peers(0))
        if self._world.workers[self.node].there:
            self._dispatch(self.node)

    def _expected_peers(self, turn: int) -> list[int]:
        """Returns the workers whose offers to a meeting have come or will come."""
        [place], meetings = self.places, self._meetings
        here = {each.round.worker for each in place.early if each.turn == turn}
        return [peer for peer in self._peers(self.node, turn) if peer in here or self._will_come(meetings[peer], turn)]

    def _will_come(self, other: "PeerServer", turn: int) -> bool:
        return not other.is_gone and turn >= other.first and (other.node, turn) not in self.missed

    def _had_since(self, worker: int, answers: bool) -> Nanoseconds | None:
        now_ns: Nanoseconds = self._env.now
        return now_ns  # a worker begins with what it has agreed on: nothing is sent

    def _owns(self, arrival: Arrival) -> bool:
        return arrival.round.worker == self.node

    def _process(self, message: Incoming) -> Process:
        if isinstance(message, Request):
            yield from self._readmit(message)
            return
        assert isinstance(message, Arrival)
        [place], round = self.places, message.round
        if message.turn > place.turn:
            place.early.append(message)
        elif message.turn == place.turn and round.worker in place.awaited:
            del place.awaited[round.worker]
            place.arrived.append(message)
            if self._owns(message):
                self._world.deadlock.arrived(self.node)
                place.join(self.node, message.arrival_ns, round.id)
        else:
            yield from self._drop([message])  # its worker was away when the meeting began

    def _readmit(self, request: Request) -> Process:
        """Lets its worker go on that is there again: behind the meetings that it has missed."""
        [place], meetings = self.places, self._meetings
        if not self._world.workers[self.node].asks(request):
            return
        if self.is_gone:
            if place.group and self._newest_turn() > place.turn:  # it is held with what has come
                _, arrived = place.take()
                yield from self._update(place, tuple(arrived))
                if self._world.is_over or not self._world.workers[self.node].asks(request):
                    return
            self.is_gone = False
            self.missed = {(peer, turn) for peer, turn in self.missed if turn >= place.turn}
            newest = self._newest_turn()
            if newest > place.turn:
                _, arrived = place.take()
                yield from self._drop(arrived)
                self.first = place.turn = newest
                for other in meetings:
                    if other.places[0].turn < place.turn:
                        other.places[0].awaited.pop(self.node, None)
                        other.wake()
            yield from self._drop([each for each in place.early if each.turn < place.turn])
            place.early = [each for each in place.early if each.turn >= place.turn]
            here = {each.round.worker for each in place.arrived}
            place.awaited = dict.fromkeys(each for each in self._expected_peers(place.turn) if each not in here)
            self._open(place)
        if not place.group:  # else its offer is there, and it goes on when the meeting is over
            self._dispatch(self.node)

    def _drop(self, offers: Sequence[Arrival]) -> Process:
        """Drops offers to a meeting that is over, or that its worker was away from."""
        for offer in offers:
            self.missed.add((offer.round.worker, offer.turn))
            yield from self._update(self.places[0], (offer,), late=True)

    def _newest_turn(self) -> int:
        """Returns the number of the newest meeting at a worker that is not gone; of its own if all are."""
        [place] = self.places
        there = [other.places[0].turn for other in self._meetings if not other.is_gone]
        return max(there, default=place.turn)

    def _is_deserted(self, place: MeetingPlace) -> bool:
        return False  # its own worker comes, or nobody goes on here

    def _staleness(self, place: MeetingPlace, arrival: Arrival | RegionOffer) -> int:
        return 0  # all offers of a meeting are of one turn

    def _close(self, place):  # type: ignore[no-untyped-def]  # as what it overrides
        _, arrived = place.take()
        yield from self._update(place, tuple(arrived))
        if not self._world.is_over:
            self._open(place, self._expected_peers(place.turn + 1))
            if self._world.workers[self.node].there:
                self._dispatch(self.node)
