"""Sites of a cluster's network: links inside them and between them, and the uplinks that messages share."""

from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Discriminator, Field, Tag

from simulator.experiment.problems import nearest
from simulator.experiment.schema.efficiency import Efficiency
from simulator.experiment.schema.per_worker import one_or_each
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, NonNegative
from simulator.host.worker_names import pair_of

T = TypeVar("T")
OneOrMatrix = Annotated[
    Annotated[T, Tag("<one>")] | Annotated[tuple[tuple[T, ...], ...], Tag("<each>")], Discriminator(one_or_each)
]


class SharedLink(Section):
    """One link that all transfers share which cross it, each direction on its own; `network.sharing` says how."""

    bandwidth: Bandwidth = Field(description="of all transfers of a direction together")
    efficiency: Efficiency = Field(1.0, description="share of the bandwidth that transfers reach, see `network`")


class Site(Section):
    """A site: the links inside of it, which are the network's where nothing else is said, and its uplink."""

    latency: FiniteDuration | None = Field(None, description="of a transfer inside; the network's when absent")
    bandwidth: Bandwidth | None = Field(None, description="of each link inside; the network's when absent")
    efficiency: Efficiency | None = Field(None, description="share of the bandwidth; the network's when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes that are sent inside; the network's when absent", examples=[0.0]
    )
    uplink: SharedLink | None = Field(
        None, description="link that all messages share which come from other sites, or go there"
    )


class SitePair(Section):
    """The way from one site to another, and back unless that way is a pair of its own."""

    sites: tuple[str, str] = Field(description="from the first to the second", examples=[["east", "west"]])
    latency: FiniteDuration | None = Field(None, description="of a transfer; as between other sites when absent")
    bandwidth: Bandwidth | None = Field(None, description="of each transfer; as between other sites when absent")
    efficiency: Efficiency | None = Field(None, description="share of the bandwidth; as between others when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes; as between other sites when absent", examples=[0.05]
    )


class BetweenSites(Section):
    """Ways between sites: one value for all, or a row for each sending site with a column for each receiving one.

    Rows and columns are in the order of `sites`; on the diagonal are the links inside.
    """

    latency: OneOrMatrix[FiniteDuration] | None = Field(
        None, description="of a transfer; one value or a matrix; the network's when absent"
    )
    bandwidth: OneOrMatrix[Bandwidth] | None = Field(
        None, description="of each transfer; one value or a matrix; the network's when absent"
    )
    efficiency: Efficiency | None = Field(None, description="share of the bandwidth; the network's when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes; the network's when absent", examples=[0.05]
    )
    pairs: tuple[SitePair, ...] = Field((), description="ways that differ")


class SiteLink(NamedTuple):
    """Link that each transfer from one site to another has.

    Attributes:
      latency: seconds.
      bandwidth: bytes per second, of each.
      efficiency: share of it that they reach.
    """

    latency: float
    bandwidth: float
    efficiency: Any


def site_link(network: Any, sender: str, receiver: str) -> SiteLink:
    """Returns the link from a site to a site, each value from the first that has it: matrix, pair or site, network.

    Args:
      network: the section, with sites.
      sender: site of it.
      receiver: site of it.
    """
    between, names = network.between or BetweenSites(), list(network.sites)
    if sender == receiver:
        given: Any = network.sites[sender]
        also = None
    else:
        place = pair_of([pair.sites for pair in between.pairs], sender, receiver)
        given, also = None if place is None else between.pairs[place], between

    def value(name: str) -> Any:
        table = getattr(between, name)
        if isinstance(table, tuple) and name != "efficiency":
            return table[names.index(sender)][names.index(receiver)]
        found = (getattr(section, name, None) for section in (given, also, network))
        return next(each for each in found if each is not None)

    return SiteLink(value("latency"), value("bandwidth"), value("efficiency"))


def conflicts_of_sites(network: Any) -> Conflicts:
    """Yields the conflicts of the sites of a `Network`, each with its dotted key."""
    names, between = list(network.sites or ()), network.between
    if not names:
        for key in ("between", "server_site"):
            if getattr(network, key) is not None:
                yield key, "is of sites, and there are none: give sites, or leave it out"
        return
    if network.server_site is not None and network.server_site not in names:
        yield "server_site", f"no such site; {nearest(network.server_site, names)}"
    for where in ("", "down.", "up."):
        for name in ("latency", "bandwidth"):
            link = getattr(network, where[:-1]) if where else network
            if isinstance(getattr(link, name), tuple):
                yield f"{where}{name}", "has a value for each worker, and sites say how it is linked: leave one out"
    if between is None:
        return
    for name in ("latency", "bandwidth"):
        table = getattr(between, name)
        if isinstance(table, tuple):
            yield from _conflicts_of_matrix(network, name, table)
    known: set[tuple[str, str]] = set()
    for number, pair in enumerate(between.pairs):
        key = f"between.pairs.{number}.sites"
        for site in pair.sites:
            if site not in names:
                yield key, f"no site is called {site!r}; {nearest(site, names)}"
        if pair.sites[0] == pair.sites[1]:
            yield key, f"is no way between two sites: give sites.{pair.sites[0]} what is inside of it"
        elif pair.sites in known:
            yield key, "is a pair twice: leave one of them out"
        known.add(pair.sites)


def _conflicts_of_matrix(network: Any, name: str, table: tuple[tuple[float, ...], ...]) -> Conflicts:
    count = len(network.sites)
    if len(table) != count or any(len(row) != count for row in table):
        shape = f"{len(table)} rows of {' or '.join(str(each) for each in sorted({len(row) for row in table}))} values"
        yield f"between.{name}", f"has {shape}, and there are {count} sites: give a row and a column for each"
        return
    inside = [f"sites.{site}.{name}" for site, own in network.sites.items() if getattr(own, name) is not None]
    pairs = enumerate(network.between.pairs)
    ways = [f"between.pairs.{at}.{name}" for at, pair in pairs if getattr(pair, name) is not None]
    for key in (*inside, *ways):
        yield key, f"is in the matrix between.{name} too: leave one of them out"
