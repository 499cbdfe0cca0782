"""Registered (user-defined) policies; the simulator keeps step and shard counts for them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from simulator.experiment import SimulationError, registry
from simulator.timeline.policies.local_steps import Speeds
from simulator.timeline.policies.shard_choice import Assignments
from simulator.timeline.policies.synchronization import ServerView, SynchronizationPolicy

_Number = TypeVar("_Number", bound=np.generic)

ChooseSteps = Callable[[int, npt.NDArray[np.float64]], int]
ChooseShard = Callable[[int, npt.NDArray[np.int64], np.random.Generator], int]


def register_synchronization(
    name: str, factory: Callable[..., SynchronizationPolicy]
) -> Callable[..., SynchronizationPolicy]:
    """Makes a user-defined synchronization policy usable by name: `synchronization: {kind: NAME, arguments: {...}}`.

    Args:
      name: for `synchronization.kind`.
      factory: called with `synchronization.arguments`; returns an object with a `closes(view)`, see
        `SynchronizationPolicy`, from which a class may inherit the rest.

    Returns:
      `factory`.

    Raises:
      ValueError: the name is taken.

    Example:
      >>> import functools
      >>> from simulator import SynchronizationPolicy, load, register_synchronization, simulate
      >>> @functools.partial(register_synchronization, "pairs")
      ... class Pairs(SynchronizationPolicy):
      ...     def closes(self, view):
      ...         return view.group >= 2 or not view.outstanding
      >>> [point] = load("experiments/quickstart.yaml", "synchronization={kind: pairs}", variant="async Nesterov")
      >>> simulate(point, trainer="null").summary["server_updates"]
      80
    """
    return registry.register("synchronization", name, factory)


def register_local_steps(name: str, factory: Callable[..., ChooseSteps]) -> Callable[..., ChooseSteps]:
    """Makes a user-defined choice of local steps usable by name: `local_steps: {kind: NAME, arguments: {...}}`.

    Args:
      name: for `local_steps.kind`.
      factory: called with `local_steps`, which is H, and `local_steps.arguments`; returns a function of (worker,
        step_s) that is asked at every dispatch for the round's local steps, from 1 to H. `step_s` has the seconds per
        local step of every worker, shape (workers,): of its last round that arrived, and before that as the cluster's
        devices are described.

    Returns:
      `factory`.

    Raises:
      ValueError: the name is taken.

    Example:
      >>> import functools
      >>> from simulator import load, register_local_steps, simulate
      >>> @functools.partial(register_local_steps, "fewer when slow")
      ... def fewer_when_slow(local_steps, limit):
      ...     return lambda worker, step_s: local_steps if step_s[worker] < limit else local_steps // 2
      >>> choice = "local_steps={kind: fewer when slow, arguments: {limit: 1.0}}"
      >>> [point] = load("experiments/quickstart.yaml", choice, variant="async Nesterov")
      >>> simulate(point, trainer="null").rounds.groupby("worker")["local_steps"].max().tolist()
      [50, 50, 25, 25]
    """
    return registry.register("local_steps", name, factory)


def register_shard_choice(name: str, factory: Callable[..., ChooseShard]) -> Callable[..., ChooseShard]:
    """Makes a user-defined choice of shards usable by name: `shard_choice: {kind: NAME, arguments: {...}}`.

    Args:
      name: for `shard_choice.kind`.
      factory: called with `sizes`, the relative sizes of the shards, and `shard_choice.arguments`; returns a function
        of (worker, assigned, random) that is asked at every dispatch for the round's shard. `assigned` has the local
        steps assigned of every shard, shape (shards,); `random` is a numpy generator of its own.

    Returns:
      `factory`.

    Raises:
      ValueError: the name is taken.

    Example:
      >>> import functools
      >>> from simulator import load, register_shard_choice, simulate
      >>> @functools.partial(register_shard_choice, "least assigned")
      ... def least_assigned(sizes):
      ...     return lambda worker, assigned, random: int((assigned / sizes).argmin())
      >>> [point] = load("experiments/quickstart.yaml", "shard_choice={kind: least assigned}", variant="async Nesterov")
      >>> simulate(point, trainer="null").rounds.sort_values("round")["shard"].tolist()[:8]
      [0, 1, 2, 3, 0, 1, 2, 3]
    """
    return registry.register("shard_choice", name, factory)


class RegisteredSynchronization(SynchronizationPolicy):
    """A registered (user-defined) synchronization policy.

    Args:
      name: under which it is registered.
      policy: made by its factory.
    """

    def __init__(self, name: str, policy: SynchronizationPolicy):
        self.averages_group, self.looks_ahead = policy.averages_group, policy.looks_ahead
        self.keeps_late, self.quorum = policy.keeps_late, policy.quorum
        self.timeout_s, self.window_s = policy.timeout_s, policy.window_s
        self._name, self._policy = name, policy

    def closes(self, view: ServerView) -> bool:
        """Returns whether the group restarts now.

        Raises:
          SimulationError: the policy answers neither True nor False.
        """
        answer: object = self._policy.closes(view)
        if not isinstance(answer, bool | np.bool_):
            message = (
                f"synchronization {self._name!r} answered {answer!r:.80} to closes(view): it has to be True or False"
            )
            raise SimulationError(message)
        return bool(answer)


@dataclasses.dataclass(frozen=True)
class RegisteredSteps:
    """Local steps by a registered (user-defined) function.

    Attributes:
      name: under which it is registered.
      choose: the function.
      step_s: seconds per local step, assumed of workers from which nothing has arrived.
      local_steps: H, the most.
    """

    name: str
    choose: ChooseSteps
    step_s: Sequence[float] | npt.NDArray[np.float64]
    local_steps: int

    def new_choices(self) -> "_RegisteredSpeeds":
        """Returns the choices of a new simulation."""
        return _RegisteredSpeeds(self)


class _RegisteredSpeeds(Speeds):
    def __init__(self, of: RegisteredSteps):
        known_s = np.array(of.step_s, float)
        super().__init__(known_s, of.local_steps)
        self._of, self._seen_s = of, _read_only(known_s)

    def steps(self, worker: int) -> int:
        """Returns the local steps of a worker's next round."""
        chosen = self._of.choose(worker, self._seen_s)
        return registry.whole("local_steps", self._of.name, f"worker {worker}", chosen, 1, self._local_steps)


@dataclasses.dataclass(frozen=True)
class RegisteredShards:
    """Shards by a registered (user-defined) function.

    Attributes:
      name: under which it is registered.
      choose: the function.
    """

    name: str
    choose: ChooseShard

    def new_choices(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on."""
        return _RegisteredAssignments(self, np.array(assigned, np.int64), random)


class _RegisteredAssignments:
    def __init__(self, of: RegisteredShards, assigned: npt.NDArray[np.int64], random: np.random.Generator):
        self._of, self._assigned, self._random = of, assigned, random
        self._seen = _read_only(assigned)

    def assign(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns the shard of a worker's next round, and the number of its steps assigned before."""
        chosen = self._of.choose(worker, self._seen, self._random)
        last = len(self._assigned) - 1
        shard = registry.whole("shard_choice", self._of.name, f"worker {worker}", chosen, 0, last)
        before = int(self._assigned[shard])
        self._assigned[shard] += steps
        return shard, before


def _read_only(array: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Returns a view of an array through which it cannot be changed."""
    view = array.view()
    view.flags.writeable = False
    return view
