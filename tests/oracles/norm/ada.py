"""Xu et al. 2019: C(1 − ky) ⊙ y, y = (v − μ)/σ."""

import numpy as np


def norm(v, scale, slope):
    mean = v.mean(-1, keepdims=True)
    y = (v - mean) / np.sqrt(((v - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    return scale * (1 - slope * y) * y
