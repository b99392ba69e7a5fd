"""Ba et al. 2016: w ⊙ (v − μ)/σ + b."""

import numpy as np


def norm(v, weight, bias):
    mean = v.mean(-1, keepdims=True)
    variance = ((v - mean) ** 2).mean(-1, keepdims=True)
    return weight * (v - mean) / np.sqrt(variance + 1e-5) + bias
