"""Normalisations of the features. ``NORMS`` is the registry behind ``--skip-norm``.

Every norm is a module made by ``(dim)``, some with further numbers, and called as
``forward(v, padding_mask=None)``: v (…, dim) → (…, dim), the mask (…) true at padding. A norm *per
token* reads one position at a time and so needs no mask. The norms of ``BATCH_NORMS`` share statistics
over all real tokens of a batch.
"""

from torch import nn

from .batch import BatchNorm
from .detached import AdaNorm, DetachDeviationNorm, DetachMeanNorm, DetachNorm
from .power import PowerNorm
from .token import DynamicTanh, LayerNorm, LayerNormSimple, NoNorm, RMSNorm, ScaleNorm

__all__ = [
    "BATCH_NORMS",
    "NORMS",
    "TOKEN_NORMS",
    "AdaNorm",
    "BatchNorm",
    "DetachDeviationNorm",
    "DetachMeanNorm",
    "DetachNorm",
    "DynamicTanh",
    "LayerNorm",
    "LayerNormSimple",
    "NoNorm",
    "PowerNorm",
    "RMSNorm",
    "ScaleNorm",
]

TOKEN_NORMS: dict[str, type[nn.Module]] = {
    "layer": LayerNorm,
    "layer-simple": LayerNormSimple,
    "detach": DetachNorm,
    "detach-mean": DetachMeanNorm,
    "detach-deviation": DetachDeviationNorm,
    "ada": AdaNorm,
    "rms": RMSNorm,
    "scale": ScaleNorm,
    "dyt": DynamicTanh,
}
BATCH_NORMS: dict[str, type[nn.Module]] = {"batch": BatchNorm, "power": PowerNorm}
NORMS: dict[str, type[nn.Module]] = {**TOKEN_NORMS, **BATCH_NORMS, "none": NoNorm}
