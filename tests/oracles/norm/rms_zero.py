"""The code of Gemma Team 2024: (1 + w) ⊙ v/√mean(v²)."""

import numpy as np


def norm(v, weight):
    return (1 + weight) * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6)
