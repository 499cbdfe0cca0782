"""Methods: one paper, one file, which fills the slots of an experiment with the paper's choice.

A method is a function from its settings to sections of the experiment file; its signature is what a file may give
beside `kind`, with types, bounds and defaults, and its docstring is its specification. `register_method` adds one.
"""

from simulator.methods.adaptive_batch import adaptive_batch
from simulator.methods.asynchronous import asynchronous
from simulator.methods.cgad import cgad
from simulator.methods.decoupled_diloco import decoupled_diloco
from simulator.methods.delayed_nesterov import delayed_nesterov
from simulator.methods.diloco import diloco
from simulator.methods.distributed_lion import distributed_lion
from simulator.methods.dude_asgd import dude_asgd
from simulator.methods.eager_updates import eager_updates
from simulator.methods.edit import a_edit, edit
from simulator.methods.fed_avg import fed_avg
from simulator.methods.fed_buff import fed_buff
from simulator.methods.gossip import gossip
from simulator.methods.halos import halos
from simulator.methods.heloco import heloco
from simulator.methods.lookahead import lookahead
from simulator.methods.loscar_sgd import loscar_sgd
from simulator.methods.mla import mla
from simulator.methods.mu_loco import mu_loco
from simulator.methods.nesterov_pipeline import nesterov_pipeline
from simulator.methods.noloco import noloco
from simulator.methods.palsgd import palsgd
from simulator.methods.photon import photon
from simulator.methods.random_subset import random_subset
from simulator.methods.rennala_sgd import rennala_sgd
from simulator.methods.ringleader_asgd import ringleader_asgd
from simulator.methods.ringmaster_asgd import ringmaster_asgd
from simulator.methods.smalltalk import smalltalk
from simulator.methods.snoo import snoo
from simulator.methods.sparse_loco import sparse_loco
from simulator.methods.streaming_diloco import streaming_diloco

BUILT_IN = {
    method.__name__: method
    for method in (
        a_edit,
        adaptive_batch,
        asynchronous,
        cgad,
        decoupled_diloco,
        delayed_nesterov,
        diloco,
        distributed_lion,
        dude_asgd,
        eager_updates,
        edit,
        fed_avg,
        fed_buff,
        gossip,
        halos,
        heloco,
        lookahead,
        loscar_sgd,
        mla,
        mu_loco,
        nesterov_pipeline,
        noloco,
        palsgd,
        photon,
        random_subset,
        rennala_sgd,
        ringleader_asgd,
        ringmaster_asgd,
        smalltalk,
        snoo,
        sparse_loco,
        streaming_diloco,
    )
}
"""Methods by the name that a file gives."""

__all__ = ["BUILT_IN", *BUILT_IN]
