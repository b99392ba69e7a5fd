"""Zhu et al. 2024, equations 10 to 13: each row of H predicts its row of A_m, A_r and b."""

from itertools import chain

import numpy as np


def layer_norm(v, weight, bias):
    centred = v - v.mean(-1, keepdims=True)
    return weight * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + bias


def weights(rows, numbers):
    """For each row i: [A_m | A_r] of its line, and its b."""
    normed = [layer_norm(row, numbers["norm.weight"], numbers["norm.bias"]) for row in rows]
    alpha = [
        numbers["alpha"][i] + numbers["alpha_scale"] * np.tanh(row @ numbers["to_alpha"])
        for i, row in enumerate(normed)
    ]
    beta = [
        numbers["beta"][i] + numbers["beta_scale"] * np.tanh(row @ numbers["to_beta"])
        for i, row in enumerate(normed)
    ]
    return alpha, beta


def stack(x, layers, end, streams):
    rows = [x] * streams
    for sub_layer in chain(*layers):
        alpha, beta = weights(rows, sub_layer.numbers)
        f = sub_layer.f(sum(alpha[i][..., :1] * rows[i] for i in range(streams)))
        rows = [
            beta[j][..., None] * f + sum(alpha[i][..., 1 + j, None] * rows[i] for i in range(streams))
            for j in range(streams)
        ]
    return end(sum(rows))
