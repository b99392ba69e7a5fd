"""Zhu et al. 2025, algorithm 1: x is cut into m parts, F reads Yᵀ H, and H ← b ⊙ F + Aᵀ H."""

from itertools import chain

import numpy as np


def stack(x, layers, end, fractions):
    parts = np.split(x, fractions, -1)
    for sub_layer in chain(*layers):
        reads, keeps = np.split(sub_layer.numbers["alpha"], 2, -1)
        h = [sum(reads[i, j] * parts[i] for i in range(fractions)) for j in range(fractions)]
        f = np.split(sub_layer.f(np.concatenate(h, -1)), fractions, -1)
        parts = [
            sub_layer.numbers["beta"][j] * f[j] + sum(keeps[i, j] * parts[i] for i in range(fractions))
            for j in range(fractions)
        ]
    return end(np.concatenate(parts, -1))
