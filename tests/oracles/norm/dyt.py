"""Zhu et al. 2025: w ⊙ tanh(αv) + b."""

import numpy as np


def norm(v, alpha, weight, bias):
    return weight * np.tanh(alpha * v) + bias
