"""Henry et al. 2020: g q̂·k̂."""

import numpy as np


def unit(v):
    return v / np.sqrt((v**2).sum(-1, keepdims=True))


def logits(q, k, query_numbers, key_numbers):
    return query_numbers["scale"] * unit(q) @ unit(k).T
