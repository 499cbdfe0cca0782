"""What training produces: inner rounds, outer optimizers, staleness rules, schedules and trainers."""

from simulator.learning import snapshot
from simulator.learning.defaults import as_used
from simulator.learning.feed import Feed
from simulator.learning.inner import build_inner, learning_rates, warmup_cosine
from simulator.learning.memory import MemoryNeedError
from simulator.learning.modeling import ModelCosts, ModelError
from simulator.learning.outer import BufferedState, DelayedNesterovState, buffered, delayed_nesterov
from simulator.learning.programs import Programs
from simulator.learning.protocol import OptimizerError
from simulator.learning.registry import build_outer, outer_optimizers, register_outer
from simulator.learning.round import Recipe, RoundInputs, RoundResult, pseudo_gradient
from simulator.learning.segments import default_lanes, launch_overhead
from simulator.learning.server import Evaluator, OuterPrograms, Server
from simulator.learning.snapshot import SnapshotError
from simulator.learning.staleness import constant, delay_compensation, drop_stale, polynomial, scale_by_staleness
from simulator.learning.trainers import BatchedTrainer, SerialTrainer, Ticket, Trainer
from simulator.learning.workshop import Workshop

__all__ = [
    "BatchedTrainer",
    "BufferedState",
    "DelayedNesterovState",
    "Evaluator",
    "Feed",
    "MemoryNeedError",
    "ModelCosts",
    "ModelError",
    "OptimizerError",
    "OuterPrograms",
    "Programs",
    "Recipe",
    "RoundInputs",
    "RoundResult",
    "SerialTrainer",
    "Server",
    "SnapshotError",
    "Ticket",
    "Trainer",
    "Workshop",
    "as_used",
    "buffered",
    "build_inner",
    "build_outer",
    "constant",
    "default_lanes",
    "delay_compensation",
    "delayed_nesterov",
    "drop_stale",
    "launch_overhead",
    "learning_rates",
    "outer_optimizers",
    "polynomial",
    "pseudo_gradient",
    "register_outer",
    "scale_by_staleness",
    "snapshot",
    "warmup_cosine",
]
