"""Xie et al. 2025, equations 3 to 9: H ← H_res H + H_postᵀ F(H_pre H), H_res by Sinkhorn and Knopp."""

from itertools import chain

import numpy as np


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def three_maps(rows, numbers):
    """H̃_pre, H̃_post and H̃_res of (…, n, dim), the last one as it stands in a row; a map that is not there is empty."""
    vector = rows.reshape(*rows.shape[:-2], -1)
    vector = vector / np.sqrt((vector**2).mean(-1, keepdims=True) + 1e-6)
    n = rows.shape[-2]
    parts = [slice(0, n), slice(n, 2 * n), slice(2 * n, None)]
    alpha = [*numbers["maps.alpha"], 0, 0][:3]
    return [
        a * (vector @ numbers["maps.phi"][part].T) + numbers["maps.bias"][part]
        for a, part in zip(alpha, parts, strict=True)
    ]


def merged(rows, end):
    """The sum of the streams, or the one that the end's own map weighs."""
    if not end.numbers.keys() & {"maps.phi"}:
        return rows.sum(-2)
    return (sigmoid(three_maps(rows, end.numbers)[0])[..., None] * rows).sum(-2)


def doubly_stochastic(logits, iterations):
    matrix = np.exp(logits)
    for _ in range(iterations):
        matrix = matrix / matrix.sum(-2, keepdims=True)
        matrix = matrix / matrix.sum(-1, keepdims=True)
    return matrix


def stack(x, layers, end, streams, iterations, **_):
    rows = np.stack([x] * streams, -2)
    for sub_layer in chain(*layers):
        reads, writes, keeps = three_maps(rows, sub_layer.numbers)
        f = sub_layer.f((sigmoid(reads)[..., None] * rows).sum(-2))
        keeps = doubly_stochastic(keeps.reshape(*rows.shape[:-1], streams), iterations)
        rows = keeps @ rows + 2 * sigmoid(writes)[..., None] * f[..., None, :]
    return end(merged(rows, end))
