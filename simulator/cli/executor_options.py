"""Options of `run` that select the executor."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from simulator.experiment import Problem
    from simulator.sweep.engines import Engine

EngineName = Literal["local", "ray"]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="local processes side by side; 1 when absent", show_default=False)
]
EngineOption = Annotated[EngineName, typer.Option(help="this machine, or an existing Ray cluster (extra ray)")]
Address = Annotated[
    str | None, typer.Option(help="ray: of the cluster; the one that Ray finds when absent", show_default=False)
]
Cpus = Annotated[
    float | None, typer.Option(help="ray: CPUs of a task; as many as this machine has when absent", show_default=False)
]
Gpus = Annotated[float | None, typer.Option(help="ray: GPUs of a task, or which part of one", show_default=False)]
Memory = Annotated[str | None, typer.Option(help="ray: memory of a task, such as 4GB", show_default=False)]
Retries = Annotated[int, typer.Option(min=0, help="how often a point whose process or machine is gone is tried again")]


def engine_of(
    engine: EngineName,
    jobs: int | None,
    retries: int,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    memory: str | None,
) -> "Engine":
    """Returns the settings of the executor.

    Raises:
      ExperimentError: an option belongs to the other engine, or has no such value.
    """
    from simulator.experiment import ExperimentError, Problem
    from simulator.sweep.engines import Local, OnRay

    of_ray = {"--address": address, "--cpus": cpus, "--gpus": gpus, "--memory": memory}
    problems = []
    if engine == "ray" and jobs is not None:
        message = "is for local processes: leave it out, as many points run on the cluster as it has room for"
        problems.append(Problem("--jobs", message, jobs))
    if engine == "local":
        problems += [
            Problem(name, "is for a cluster: add --engine ray, or leave it out", value)
            for name, value in of_ray.items()
            if value is not None
        ]
    for name, number in (("--cpus", cpus), ("--gpus", gpus)):
        if number is not None and (number < 0 or (number > 1 and number != int(number))):
            problems.append(Problem(name, "expected a whole number, or a part of 1", number))
    size = None if memory is None else _size(memory, problems)
    if problems:
        raise ExperimentError(problems)
    return OnRay(address, cpus, gpus or 0.0, size, retries) if engine == "ray" else Local(jobs or 1, retries)


def _size(memory: str, problems: "list[Problem]") -> float | None:
    from pydantic import TypeAdapter, ValidationError

    from simulator.experiment import Problem
    from simulator.experiment.schema.units import Size

    try:
        size: float = TypeAdapter(Size).validate_python(memory)
    except ValidationError as error:
        problems.append(Problem("--memory", error.errors()[0]["msg"].removeprefix("Value error, "), memory))
        return None
    return size
