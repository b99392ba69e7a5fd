"""Xu et al. 2019: C(1 − ky) ⊙ y, y = (v − μ)/σ, the bracket a constant in the backward."""

import numpy as np

from tests.oracles.held import held


def norm(v, scale, slope):
    mean = v.mean(-1, keepdims=True)
    y = (v - mean) / np.sqrt(((v - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    return scale * held(1 - slope * y) * y
