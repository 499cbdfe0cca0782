"""The `network` section of a cluster: links between workers and server."""

from typing import Literal

from pydantic import Field

from simulator.experiment.schema.per_worker import PerWorker
from simulator.experiment.schema.section import Section
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, Fraction, NonNegative, Positive, Size


class Direction(Section):
    """One direction of the workers' links; what is absent is taken from `network`."""

    latency: PerWorker[FiniteDuration] | None = Field(None, description="of each transfer; the network's when absent")
    bandwidth: PerWorker[Bandwidth] | None = Field(None, description="of each link; the network's when absent")
    bytes_per_parameter: Positive | None = Field(None, description="on the wire; the network's when absent")
    message_size: Size | None = Field(None, description="of one transfer; the network's when absent")
    efficiency: Fraction | None = Field(None, description="share of the bandwidth; the network's when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes; the network's when absent", examples=[0.05]
    )


class ServerLink(Section):
    """One link of the server that all transfers share, first come, first served, each direction on its own."""

    bandwidth: Bandwidth = Field(description="of all transfers of a direction together")
    efficiency: Fraction = Field(1.0, description="share of the bandwidth that transfers reach")


class Network(Section):
    """Links between workers and server: one value for all workers, or one per worker."""

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
    efficiency: Fraction = Field(1.0, description="share of the bandwidth that transfers reach")
    price_per_gigabyte: NonNegative | None = Field(None, description="of 1e9 bytes that are sent", examples=[0.05])
    down: Direction = Field(Direction(), description="server to worker, where it differs")
    up: Direction = Field(Direction(), description="worker to server, where it differs")
    server_link: ServerLink | None = None

    def direction(self, which: Literal["down", "up"]) -> Direction:
        """Returns the link of one direction with every field filled in."""
        own = getattr(self, which)
        return Direction.model_construct(  # the values are parsed already
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in Direction.model_fields
            }
        )
