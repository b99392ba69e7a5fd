"""Zhu et al. 2025, equations 11 to 14: each part predicts its row of Y, A and b."""

from itertools import chain

import numpy as np

from .hyper_dynamic import weights


def stack(x, layers, end, fractions):
    parts = np.split(x, fractions, -1)
    for sub_layer in chain(*layers):
        alpha, beta = weights(parts, sub_layer.numbers)
        reads = [a[..., :fractions, None] for a in alpha]
        keeps = [a[..., fractions:, None] for a in alpha]
        h = [sum(reads[i][..., j, :] * parts[i] for i in range(fractions)) for j in range(fractions)]
        f = np.split(sub_layer.f(np.concatenate(h, -1)), fractions, -1)
        parts = [
            beta[j][..., None] * f[j] + sum(keeps[i][..., j, :] * parts[i] for i in range(fractions))
            for j in range(fractions)
        ]
    return end(np.concatenate(parts, -1))
