"""Li et al. 2026: algorithm 1 with its normalised input and depth scaling, and the form of the authors' DeiT."""

from itertools import count

import numpy as np


def stack(x, layers, end, source):
    first = layers[0][0]
    y, number = x, count(1)
    if source == "code":
        x = first.norms[2](x)
    for block, layer in enumerate(layers):
        for sub_layer in layer:
            of_y, of_input = sub_layer.norms[:2]
            o = sub_layer.f(of_input(x + of_y(y)))
            # the authors' blocks have two sub-layers: 2 (block + 1)
            c = np.sqrt(len(layer) * (block + 1) if source == "code" else next(number))
            x, y = sub_layer.last(x + o / c), y + o
    total = x + end(y)
    return end.norms[0](total) if source == "code" else total
