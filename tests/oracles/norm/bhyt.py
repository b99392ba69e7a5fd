"""Byun et al. 2026, exact: w ⊙ tanh(λv/(κs)), s² the token's mean square."""

import numpy as np


def norm(v, weight, gain, kappa):
    size = np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6)
    return weight * np.tanh(gain * v / (kappa * size))
