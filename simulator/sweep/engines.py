"""Places where a sweep's points are simulated, as the user chooses them."""

import dataclasses
from typing import TypeAlias

RETRIES = 2


@dataclasses.dataclass(frozen=True)
class Local:
    """Points are simulated on this machine.

    Attributes:
      jobs: number of processes; 1 is this one.
      retries: number of times that a task whose process is gone is tried again.
    """

    jobs: int = 1
    retries: int = RETRIES


@dataclasses.dataclass(frozen=True)
class OnRay:
    """Points are simulated by the machines of a Ray cluster.

    Attributes:
      address: of the cluster; the one that Ray finds when absent.
      cpus: number of CPUs that a task asks for; as many as a process on this machine would use when absent.
      gpus: number of GPUs, or part of one.
      memory: bytes.
      retries: number of times that a task whose machine or process is gone is tried again.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float = 0.0
    memory: float | None = None
    retries: int = RETRIES


Engine: TypeAlias = Local | OnRay
