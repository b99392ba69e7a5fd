"""Zhuo et al. 2025: RMSNorm on queries, keys and values."""

import numpy as np


def normed(v, weight):
    return weight * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6)


def logits(q, k, query_numbers, key_numbers):
    return normed(q, query_numbers["weight"]) @ normed(k, key_numbers["weight"]).T / q.shape[-1] ** 0.5


def values(v, numbers):
    return normed(v, numbers["weight"])
