"""Xu et al. 2019: (v − μ)/σ."""

import numpy as np


def norm(v):
    mean = v.mean(-1, keepdims=True)
    return (v - mean) / np.sqrt(((v - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
