"""The models that workers train, as pure functions of their parameters."""

from models.attention import Attention, default_attention
from models.described import DescribedConfig, described
from models.mlp import MLPConfig, mlp
from models.model import Batch, DType, Model, Params, default_dtype
from models.transformer import PRESETS, TransformerConfig, transformer

__all__ = [
    "PRESETS",
    "Attention",
    "Batch",
    "DType",
    "DescribedConfig",
    "MLPConfig",
    "Model",
    "Params",
    "TransformerConfig",
    "default_attention",
    "default_dtype",
    "described",
    "mlp",
    "transformer",
]
