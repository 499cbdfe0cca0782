"""Training: inner rounds, outer optimizers, staleness rules, schedules and trainers."""

from simulator.learning.cache import Cache
from simulator.learning.compiled_rounds import Programs
from simulator.learning.diagnostics import OfferDiagnostics, diagnose
from simulator.learning.exchange import Exchange, OfferMade
from simulator.learning.fragments import Fragments, fragments_of, stages_of
from simulator.learning.memory import MemoryNeedError
from simulator.learning.model import ModelCosts, ModelError
from simulator.learning.optimizers.as_used import as_used
from simulator.learning.optimizers.delayed_nesterov import buffered, delayed_nesterov
from simulator.learning.optimizers.inner import build_inner, learning_rates, warmup_cosine
from simulator.learning.optimizers.outer import build_outer, outer_optimizers, register_outer
from simulator.learning.optimizers.protocol import OptimizerError
from simulator.learning.optimizers.staleness import delay_compensation, drop_stale, polynomial, scale_by_staleness
from simulator.learning.round import Recipe, RoundInputs, RoundResult, Stretch, pseudo_gradient
from simulator.learning.round_data import RoundData
from simulator.learning.server import Aggregation, Evaluator, OfferInfo, Offers, OuterPrograms, Server
from simulator.learning.setup import Setup
from simulator.learning.stages import StaleStages, inner_optimizer
from simulator.learning.trainers import BatchedTrainer, SerialTrainer, Trainer, Training
from simulator.learning.values import Value, Values, reachable

__all__ = [
    "Aggregation",
    "BatchedTrainer",
    "Cache",
    "Evaluator",
    "Exchange",
    "Fragments",
    "MemoryNeedError",
    "ModelCosts",
    "ModelError",
    "OfferDiagnostics",
    "OfferInfo",
    "OfferMade",
    "Offers",
    "OptimizerError",
    "OuterPrograms",
    "Programs",
    "Recipe",
    "RoundData",
    "RoundInputs",
    "RoundResult",
    "SerialTrainer",
    "Server",
    "Setup",
    "StaleStages",
    "Stretch",
    "Trainer",
    "Training",
    "Value",
    "Values",
    "as_used",
    "buffered",
    "build_inner",
    "build_outer",
    "delay_compensation",
    "delayed_nesterov",
    "diagnose",
    "drop_stale",
    "fragments_of",
    "inner_optimizer",
    "learning_rates",
    "outer_optimizers",
    "polynomial",
    "pseudo_gradient",
    "reachable",
    "register_outer",
    "scale_by_staleness",
    "stages_of",
    "warmup_cosine",
]
