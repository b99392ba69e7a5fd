"""Menghani et al. 2024, RW: αF(x) + βx, bounded by a softmax."""

import numpy as np


def stack(x, layers, end, total):
    for layer in layers:
        for sub_layer in layer:
            a, b = np.exp(sub_layer.numbers["logits"])
            x = sub_layer.last(total * (a * sub_layer.f(x) + b * x) / (a + b))
    return end(x)
