"""Plain training in PyTorch of the model that `models.transformer` describes: one replica, eager, every core."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from measuring import cores
from torch import nn
from torch.nn import functional

from models import TransformerConfig
from simulator import Cache, Experiment, Setup
from simulator.learning.model import transformer_config


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        inner = config.heads * config.key_width
        self.heads = config.heads
        self.norm_attention, self.norm_mlp = (nn.RMSNorm(config.width, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(config.width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.width, bias=False)
        self.up = nn.Linear(config.width, config.hidden_width, bias=False)
        self.down = nn.Linear(config.hidden_width, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the residual stream after this block."""
        heads = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_attention(x)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Token ids to the mean loss of predicting the next ones."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if not config.tied:
            raise ValueError("only a model with tied embeddings is compared")
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_final = nn.RMSNorm(config.width, eps=1e-6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the loss of tokens (B, T + 1)."""
        x = self.token_embedding(tokens[:, :-1]) + self.position_embedding.weight[: tokens.shape[1] - 1]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm_final(x), self.token_embedding.weight)
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def load(self, params: Mapping[str, Any]) -> None:
        """Takes over the parameters of a `models.Model`."""
        named = dict(self.named_parameters())
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            *names, last = (key.key for key in path)
            array = torch.from_numpy(np.array(leaf.T if last == "kernel" else leaf))
            name = ".".join([*names, *([] if last in ("kernel", "scale") else [last]), "weight"])
            named.pop(name).data.copy_(array)
        if named:
            raise ValueError(f"nothing was loaded into {', '.join(named)}")


def plain_torch(experiment: Experiment, cache: Cache) -> Callable[[], None]:
    """Returns plain training of one replica for the experiment's number of steps.

    It starts from the experiment's parameters and sees the first shard's batches.

    Raises:
      ValueError: its first loss is not that of the experiment's own model.
    """
    torch.set_num_threads(cores())
    setup = Setup(experiment, cache)
    data, inner = setup.round_data(), experiment.inner
    if inner.optimizer != "adamw" or inner.arguments:
        raise ValueError(f"only adamw with its usual arguments is compared, not {inner.optimizer} {inner.arguments}")
    steps = experiment.budget.local_steps or 0
    rates = data.rates(0, 0, steps).tolist()
    rows = data.order(0, 0, steps)
    fetch = setup.dataset.fetch
    batches = torch.from_numpy(np.stack([fetch(data.arrays, row) for row in rows]).astype(np.int64))
    start = setup.start()
    model = Transformer(transformer_config(experiment.model, setup.dataset.vocabulary))
    model.load(start)
    here, there = model(batches[0]).item(), float(setup.model.loss(start, batches[0].numpy(), None))
    if abs(here - there) > 1e-3 * there:
        raise ValueError(f"PyTorch's model is another one: its first loss is {here}, not {there}")

    def train() -> None:
        model.load(start)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=inner.weight_decay or 0.0, fused=True)
        for batch, rate in zip(batches, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            model(batch).backward()
            if inner.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), inner.clip_norm)
            optimizer.step()

    return train
