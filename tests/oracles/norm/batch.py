"""Ioffe & Szegedy 2015, in training: w ⊙ (v − μ)/σ + b over all tokens."""

import numpy as np


def norm(v, weight, bias):
    tokens = v.reshape(-1, v.shape[-1])
    return weight * (v - tokens.mean(0)) / np.sqrt(tokens.var(0) + 1e-5) + bias
