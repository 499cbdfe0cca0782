"""The `network` section of a cluster: links between workers and server, and between sites."""

from typing import Literal

from pydantic import Field

from simulator.experiment.schema.efficiency import Efficiency
from simulator.experiment.schema.measured_trace import LinkRates, repeat_conflicts
from simulator.experiment.schema.per_worker import PerWorker, Word
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.sites import BetweenSites, SharedLink, Site, conflicts_of_sites
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, NonNegative, Positive, PositiveDuration, Size


class Direction(Section):
    """One direction of the workers' links; what is absent is taken from `network`."""

    latency: PerWorker[FiniteDuration] | None = Field(None, description="of each transfer; the network's when absent")
    bandwidth: PerWorker[Bandwidth] | None = Field(None, description="of each link; the network's when absent")
    bytes_per_parameter: Positive | None = Field(None, description="on the wire; the network's when absent")
    message_size: Size | None = Field(None, description="of one transfer; the network's when absent")
    efficiency: Efficiency | None = Field(None, description="share of the bandwidth; the network's when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes; the network's when absent", examples=[0.05]
    )


class Network(Section):
    """Links between workers and server: one value for all workers, one per worker, or as their sites have it."""

    latency: PerWorker[FiniteDuration] = Field(0.0, description="of each transfer; one for all workers, or a list")
    bandwidth: PerWorker[Bandwidth] = Field(
        float("inf"), description="of each worker's link; one for all workers, or a list; unlimited when absent"
    )
    bytes_per_parameter: Positive = Field(
        4.0,
        description="on the wire: 4 for float32, 2 for bfloat16; decides time, bytes and cost, not what is learned",
    )
    message_size: Size | None = Field(
        None, description="of one transfer, such as 2GiB; parameters * bytes_per_parameter when absent"
    )
    efficiency: Efficiency = Field(
        1.0, description="share of the bandwidth that transfers reach: one, or pairs of a link's rate and its share"
    )
    price_per_gigabyte: NonNegative | None = Field(None, description="of 1e9 bytes that are sent", examples=[0.05])
    down: Direction = Field(Direction(), description="server to worker, where it differs")
    up: Direction = Field(Direction(), description="worker to server, where it differs")
    server_link: SharedLink | None = None
    sharing: Literal["queue", "fair"] = Field(
        "queue", description="of shared links: first come, first served, or all transfers at once, each with its part"
    )
    sites: dict[Word, Site] | None = Field(
        None, description="links inside of each site, by the name that devices have", examples=[{"east": {}}]
    )
    between: BetweenSites | None = None
    server_site: str | None = Field(
        None,
        description="where the server is, with regions the upper one; the first site when absent",
        examples=["east"],
    )

    trace: LinkRates | None = Field(
        None,
        description="a CSV or Parquet file with columns time, worker, rate and, where they differ, direction (down, up "
        "or both), or its rows: the link's bandwidth from that time on, and before the first row as from it",
        examples=["links.csv"],
    )
    repeat_every: PositiveDuration | None = Field(
        None, description="after which the trace begins anew; the last row of each link stays when absent"
    )

    def _conflicts(self) -> Conflicts:
        yield from conflicts_of_sites(self)
        if self.trace is not None:
            yield from repeat_conflicts(self.trace, self.repeat_every)
            for key in ("server_link", "sites"):
                if getattr(self, key):
                    yield "trace", f"beside {key} is not built: leave out one of them"
        elif self.repeat_every is not None:
            yield "repeat_every", "is of a trace, and there is none: leave it out"

    @property
    def site_of_server(self) -> str | None:
        """Name of the site where the server is; None without sites."""
        return self.server_site or next(iter(self.sites or ()), None)

    def direction(self, which: Literal["down", "up"]) -> Direction:
        """Returns the link of one direction with every field filled in."""
        own = getattr(self, which)
        return Direction.model_construct(  # the values are parsed already
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in Direction.model_fields
            }
        )
