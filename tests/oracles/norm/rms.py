"""Zhang & Sennrich 2019: w ⊙ v/√mean(v²)."""

import numpy as np


def norm(v, weight):
    return weight * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6)
