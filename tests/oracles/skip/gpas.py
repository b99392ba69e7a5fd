"""GPAS, 2506.22049: after the sum y − SiLU(g) y, g one of the layer; under a norm x − SiLU(g) x in the sum.

What is taken away is a constant in the backward, but for its g.
"""

import math

from tests.oracles.held import held


def stack(x, layers, end):
    for layer in layers:
        gate = layer[0].numbers["gate"]
        silu = gate / (1 + math.exp(-gate))
        for sub_layer in layer:
            f = sub_layer.f(x)
            gated = x if sub_layer.norm_follows else x + f
            x = sub_layer.last(x + f - silu * held(gated))
    return end(x)
