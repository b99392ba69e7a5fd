"""Attention Xavier uniform, q, k and v with gain 1/√2; feed-forward U(±1/√d_in); embeddings N(0, 1/d)."""

import math


def bound(kind, side, block, depth, d_in, d_out):
    if kind in ("fc1", "fc2"):
        return d_in**-0.5
    gain = 0.5**0.5 if kind in ("q_proj", "k_proj", "v_proj") else 1
    return gain * math.sqrt(6 / (d_in + d_out))


def embedding(words, dim, layers):
    return dim**-0.5
