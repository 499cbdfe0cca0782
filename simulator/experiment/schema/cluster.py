"""The `cluster` section: devices, network and server."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from simulator.experiment.problems import nearest
from simulator.experiment.schema.devices import Devices
from simulator.experiment.schema.faults import Faults
from simulator.experiment.schema.network import Network
from simulator.experiment.schema.pipeline import PipelineTimes
from simulator.experiment.schema.section import ConflictError, Conflicts, Section
from simulator.experiment.schema.units import FiniteDuration, NonNegative
from simulator.experiment.schema.workers_file import DEVICE_COLUMNS, LINK_COLUMNS, with_workers
from simulator.host.worker_names import of_each


class Cluster(Section):
    """Workers and server: devices, links, prices and faults."""

    devices: Devices = Field(description="the workers, and how fast each is")
    network: Network = Network()
    server_update_time: FiniteDuration = Field(
        0.0, description="simulated time that the server needs for one outer step"
    )
    server_price_per_hour: NonNegative | None = Field(
        None, description="of the server, from the start to the end", examples=[2.5]
    )
    currency: str = Field("", description="of all prices, such as USD", examples=["USD"])
    faults: Faults | None = None
    pipeline: PipelineTimes | None = None

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.devices.count

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, section: Any) -> Any:
        """Replaces `file` of devices and network by the file's values, so that a record holds them."""
        if not isinstance(section, Mapping):
            return section
        wrong, replaced = [], dict(section)
        for name, columns in (("devices", DEVICE_COLUMNS), ("network", LINK_COLUMNS)):
            inner = section.get(name)
            if isinstance(inner, Mapping) and "file" in inner:
                try:
                    replaced[name] = with_workers(inner, columns)
                except ValueError as error:
                    wrong.append((f"{name}.file", str(error)))
        if wrong:
            raise ConflictError(*wrong)
        return replaced

    def _conflicts(self) -> Conflicts:
        links = {"network": self.network, "network.down": self.network.down, "network.up": self.network.up}
        lists: dict[str, object] = {
            f"{where}.{name}": getattr(link, name) for where, link in links.items() for name in ("latency", "bandwidth")
        }
        for key, value in {**lists, "devices.price_per_hour": self.devices.price_per_hour}.items():
            if isinstance(value, tuple) and len(value) != self.workers:
                yield key, f"has {len(value)} values for {self.workers} workers: give one for all, or one for each"
        for key in ("names", "sites"):
            words = of_each(getattr(self.devices, key), self.workers)
            if words is not None and len(words) != self.workers:
                yield f"devices.{key}", f"is of {len(words)} workers, and there are {self.workers}: give one for each"
        yield from self._conflicts_of_sites()
        strangers = [row.worker for row in self.network.trace or () if row.worker >= self.workers]
        if strangers:
            yield "network.trace", f"names worker {strangers[0]}, but the ids are 0 to {self.workers - 1}"
        if self.faults is not None:
            yield from ((f"faults.{key}", message) for key, message in self.faults.conflicts_with(self.workers))

    def _conflicts_of_sites(self) -> Conflicts:
        known, sites = self.network.sites, self.devices.worker_sites
        if not known:
            return
        if sites is None:
            yield "network.sites", "is there, and devices have no sites: give devices.sites, or leave it out"
        for site in dict.fromkeys(sites or ()):
            if site not in known:
                yield "devices", f"no site of the network is called {site!r}; {nearest(site, known)}"
