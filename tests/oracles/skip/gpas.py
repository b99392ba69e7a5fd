"""GPAS, 2506.22049: after the sum y − SiLU(g) y, g one of the layer; under a norm x − SiLU(g) x in the sum."""

import math


def stack(x, layers, end):
    for layer in layers:
        gate = layer[0].numbers["gate"]
        factor = 1 - gate / (1 + math.exp(-gate))
        for sub_layer in layer:
            f = sub_layer.f(x)
            x = sub_layer.last(factor * x + f) if sub_layer.norm_follows else factor * (x + f)
    return end(x)
