"""Srivastava et al. 2015: (1 − g) ⊙ x + g ⊙ F(x), g = sigmoid(Wx + b)."""

from itertools import chain

import numpy as np


def stack(x, layers, end):
    for sub_layer in chain(*layers):
        weight, bias = sub_layer.numbers["gate.weight"], sub_layer.numbers["gate.bias"]
        gate = 1 / (1 + np.exp(-(x @ weight.T + bias)))
        x = sub_layer.last((1 - gate) * x + gate * sub_layer.f(x))
    return end(x)
