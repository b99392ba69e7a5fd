"""Zhang et al. 2019: U(±γα/bᵖ)."""

import math


def bound(kind, side, block, depth, d_in, d_out, alpha, power):
    return alpha * math.sqrt(6 / (d_in + d_out)) * block**-power


def embedding(words, dim, layers, alpha, power):
    return dim**-0.5
