"""Methods: one paper, one file, which fills the slots of an experiment with the paper's choice.

A method is a function from its settings to sections of the experiment file; its signature is what a file may give
beside `kind`, with types, bounds and defaults, and its docstring is its specification. `register_method` adds one.
"""

from simulator.methods.asynchronous import asynchronous
from simulator.methods.delayed_nesterov import delayed_nesterov
from simulator.methods.diloco import diloco
from simulator.methods.eager_updates import eager_updates
from simulator.methods.gossip import gossip
from simulator.methods.halos import halos
from simulator.methods.noloco import noloco
from simulator.methods.streaming_diloco import streaming_diloco

BUILT_IN = {
    "asynchronous": asynchronous,
    "delayed_nesterov": delayed_nesterov,
    "diloco": diloco,
    "eager_updates": eager_updates,
    "gossip": gossip,
    "halos": halos,
    "noloco": noloco,
    "streaming_diloco": streaming_diloco,
}
"""Methods by the name that a file gives."""

__all__ = ["BUILT_IN", *BUILT_IN]
